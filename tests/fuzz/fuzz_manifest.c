/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The reader of manifests on any bytes. What is accepted must keep the
 * promises of model/manifest.h, and come out again byte for byte.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool promise)
{
	if (!promise)
		abort();
}

static void check_tensor(const struct md_tensor *tensor, uint64_t next,
			 uint64_t model_bytes)
{
	uint64_t bytes = 0;

	expect(strlen(tensor->name) <= MD_MAX_NAME);
	expect(md_dtype_name(tensor->dtype) != NULL);
	expect(tensor->rank <= MD_MAX_RANK);
	expect(md_tensor_bytes(tensor, &bytes) == PS_OK);
	expect(tensor->bytes == bytes);
	expect(tensor->offset >= next && tensor->offset <= model_bytes);
	expect(tensor->bytes <= model_bytes - tensor->offset);
	expect(tensor->offset % MD_LAYOUT_ALIGN == 0);
}

static void check_again(const struct md_manifest *manifest, const uint8_t *data,
			size_t size)
{
	void *bytes;
	size_t again;

	expect(md_manifest_encode(manifest, &bytes, &again) == PS_OK);
	expect(again == size && memcmp(bytes, data, size) == 0);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct md_manifest manifest;
	uint64_t next = 0;

	if (md_manifest_decode(data, size, &manifest) != PS_OK)
		return 0;
	expect(manifest.count <= MD_MAX_TENSORS);
	for (size_t i = 0; i < manifest.count; i++) {
		check_tensor(&manifest.tensors[i], next, manifest.bytes);
		next = manifest.tensors[i].offset + manifest.tensors[i].bytes;
	}
	expect(md_tensors_check_names(manifest.tensors, manifest.count) ==
	       PS_OK);
	check_again(&manifest, data, size);
	md_manifest_done(&manifest);
	return 0;
}
