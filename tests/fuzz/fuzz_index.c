/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The reader of a sharded model's index on any text. What is accepted must keep
 * the promises of model/index.h. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool promise)
{
	if (!promise)
		abort();
}

static void check_name(const char *name)
{
	expect(name[0] != '\0' && strlen(name) <= 255);
	expect(strchr(name, '/') == NULL);
	expect(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
}

/* No files at all: they do not have what the index says. */
static void check_files(const struct md_index *index)
{
	static const struct md_file none[MD_MAX_FILES];

	expect(md_index_check(index, none) == PS_INVALID_ARGUMENT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct md_index index;

	if (md_index_parse((const char *)data, size, &index) != PS_OK)
		return 0;
	expect(index.files >= 1 && index.files <= MD_MAX_FILES);
	for (size_t i = 0; i < index.files; i++) {
		check_name(index.file[i]);
		expect(i == 0 || strcmp(index.file[i - 1], index.file[i]) < 0);
	}
	check_files(&index);
	md_index_done(&index);
	return 0;
}
