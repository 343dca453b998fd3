/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The safetensors reader on any header. Input: 8 bytes, lowest first, the
 * size of the data behind the header; then the header's text. What is
 * accepted must keep the promises of model/safetensors.h and layout.h.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/layout.h"
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool promise)
{
	if (!promise)
		abort();
}

static void check_tensor(const struct md_tensor *tensor)
{
	expect(strlen(tensor->name) <= MD_MAX_NAME);
	expect(md_dtype_name(tensor->dtype) != NULL);
	expect(tensor->rank <= MD_MAX_RANK);
}

static void check_file(const struct md_file *file, uint64_t data_start,
		       uint64_t file_bytes)
{
	uint64_t next = data_start;

	expect(file->count <= MD_MAX_TENSORS);
	for (size_t i = 0; i < file->count; i++) {
		check_tensor(&file->tensors[i]);
		expect(file->tensors[i].offset == next);
		next += file->tensors[i].bytes;
	}
	expect(next == file_bytes);
}

static void check_layout(const struct md_file *file)
{
	struct md_layout layout;
	uint64_t next = 0;

	if (md_layout_init(file, &layout) != PS_OK)
		return;
	for (size_t i = 0; i < layout.count; i++) {
		expect(layout.tensors[i].offset >= next);
		expect(layout.tensors[i].offset % MD_LAYOUT_ALIGN == 0);
		next = layout.tensors[i].offset + layout.tensors[i].bytes;
	}
	expect(next <= layout.bytes);
	expect(layout.hash == md_layout_hash(layout.tensors, layout.count));
	md_layout_done(&layout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t data_bytes = 0;
	struct md_file file;
	size_t length;

	if (size < 8)
		return 0;
	for (size_t i = 8; i > 0; i--)
		data_bytes = data_bytes << 8 | data[i - 1];
	length = size - 8;
	if (md_file_parse((const char *)data + 8, length,
			  8 + length + data_bytes, &file) != PS_OK)
		return 0;
	check_file(&file, 8 + length, 8 + length + data_bytes);
	check_layout(&file);
	md_file_done(&file);
	return 0;
}
