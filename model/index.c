/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "model/index.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "model/json.h"
#include "model/show.h"

#define WHAT "the index"
#define MAP_KEY "weight_map"

/* A name for each tensor, and something to say besides. */
#define MAX_COMMAS (MD_MAX_TENSORS + MD_MAX_METADATA)
#define MAX_FILE_NAME 255u

#define PROBE_BYTES 8u

/* ---- which kind of file ---- */

/*
 * A safetensors file begins with the length of its header in eight bytes, of
 * which the last four are 0 as far as the format allows; a text has no zeros.
 */
enum ps_status md_index_probe(int fd, bool *is_index_out)
{
	char start[PROBE_BYTES];
	bool is_text = true;
	size_t got = 0, at = 0;

	while (got < sizeof(start)) {
		ssize_t more =
			pread(fd, start + got, sizeof(start) - got, (off_t)got);

		if (more < 0 && errno == EINTR)
			continue;
		if (more < 0)
			return bs_fail_errno("read of the first bytes failed");
		if (more == 0)
			break;
		got += (size_t)more;
	}
	for (size_t i = 0; i < got; i++)
		is_text = is_text && start[i] != '\0';
	while (at < got && isspace((unsigned char)start[at]))
		at++;
	*is_index_out = is_text && at < got && start[at] == '{';
	return PS_OK;
}

/* ---- the text ---- */

static enum ps_status check_file_name(const char *tensor, const json_t *value)
{
	const char *name = json_string_value(value);

	if (name == NULL)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: what the index says of it is no "
			       "string",
			       md_show(tensor).text);
	if (name[0] == '\0' || strchr(name, '/') != NULL ||
	    strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
	    strlen(name) > MAX_FILE_NAME)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: \"%s\" is no name of a file in the "
			       "index's own folder",
			       md_show(tensor).text, md_show(name).text);
	return PS_OK;
}

static int compare_names(const void *left, const void *right)
{
	const char *const *a = left;
	const char *const *b = right;

	return strcmp(*a, *b);
}

/* Sorts, and keeps each once. */
static size_t keep_different(const char **names, size_t count)
{
	size_t kept = 0;

	qsort(names, count, sizeof(names[0]), compare_names);
	for (size_t i = 0; i < count; i++)
		if (kept == 0 || strcmp(names[kept - 1], names[i]) != 0)
			names[kept++] = names[i];
	return kept;
}

static enum ps_status list_files(json_t *map, struct md_index *index)
{
	size_t count = 0;
	const char *tensor;
	json_t *value;

	json_object_foreach(map, tensor, value)
	{
		enum ps_status status = check_file_name(tensor, value);

		if (status != PS_OK)
			return status;
		index->file[count++] = json_string_value(value);
	}
	index->files = keep_different(index->file, count);
	if (index->files > MD_MAX_FILES)
		return bs_fail(PS_UNSUPPORTED,
			       "the index names %zu files; at most %u are "
			       "supported",
			       index->files, MD_MAX_FILES);
	return PS_OK;
}

static enum ps_status read_map(struct md_index *index)
{
	json_t *map = json_object_get(index->root, MAP_KEY);
	size_t count = json_object_size(map);

	if (!json_is_object(map) || count == 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the index has no " MAP_KEY
			       " that names a file for each tensor");
	if (count > MD_MAX_TENSORS)
		return bs_fail(PS_UNSUPPORTED,
			       "the index has %zu tensors; at most %u are "
			       "supported",
			       count, MD_MAX_TENSORS);
	index->file = calloc(count, sizeof(index->file[0]));
	if (index->file == NULL)
		return bs_fail(PS_HOST_MEMORY, "no memory for %zu names",
			       count);
	return list_files(map, index);
}

enum ps_status md_index_parse(const char *text, size_t bytes,
			      struct md_index *index_out)
{
	struct md_index index = { 0 };
	enum ps_status status;

	for (; bytes > 0 && isspace((unsigned char)*text); bytes--)
		text++;
	status = md_json_load(WHAT, text, bytes, MAX_COMMAS, &index.root);
	if (status == PS_OK)
		status = read_map(&index);
	if (status != PS_OK) {
		md_index_done(&index);
		return status;
	}
	*index_out = index;
	return PS_OK;
}

enum ps_status md_index_read(int fd, struct md_index *index_out)
{
	enum ps_status status;
	struct stat info;
	size_t bytes;
	char *text;

	if (fstat(fd, &info) != 0)
		return bs_fail_errno("fstat of fd %d failed", fd);
	if (!S_ISREG(info.st_mode))
		return bs_fail(PS_INVALID_ARGUMENT, "fd %d is no regular file",
			       fd);
	if (info.st_size > (off_t)MD_MAX_INDEX)
		return bs_fail(PS_UNSUPPORTED,
			       "the index has %lld bytes; at most %u are "
			       "supported",
			       (long long)info.st_size, MD_MAX_INDEX);
	bytes = (size_t)info.st_size;
	text = malloc(bytes + 1);
	if (text == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no memory for an index of %zu bytes", bytes);
	status = md_read_at(fd, WHAT, text, bytes, 0);
	if (status == PS_OK)
		status = md_index_parse(text, bytes, index_out);
	free(text);
	return status;
}

void md_index_done(struct md_index *index)
{
	if (index == NULL)
		return;
	free(index->file);
	json_decref(index->root);
	*index = (struct md_index){ 0 };
}

/* ---- against the files ---- */

static enum ps_status check_tensor(const json_t *map, const char *tensor,
				   const char *file)
{
	const char *said = json_string_value(json_object_get(map, tensor));

	if (said == NULL)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%s has a tensor %s, the index does not",
			       md_show(file).text, md_show(tensor).text);
	if (strcmp(said, file) != 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s is in %s; the index says %s",
			       md_show(tensor).text, md_show(file).text,
			       md_show(said).text);
	return PS_OK;
}

enum ps_status md_index_check(const struct md_index *index,
			      const struct md_file *file)
{
	const json_t *map = json_object_get(index->root, MAP_KEY);
	size_t count = 0;

	for (size_t i = 0; i < index->files; i++) {
		for (size_t j = 0; j < file[i].count; j++, count++) {
			enum ps_status status = check_tensor(
				map, file[i].tensors[j].name, index->file[i]);

			if (status != PS_OK)
				return status;
		}
	}
	/* No file has a name twice, and none has another one's. */
	if (count != json_object_size(map))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the index names %zu tensors, the files have "
			       "%zu of them",
			       json_object_size(map), count);
	return PS_OK;
}
