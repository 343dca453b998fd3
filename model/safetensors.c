/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "model/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arith.h"
#include "base/status.h"
#include "model/json.h"
#include "model/show.h"

#define LENGTH_BYTES 8u
#define METADATA_KEY "__metadata__"

/* A tensor has two commas of its own, one in data_offsets, one behind it and
 * fewer than MD_MAX_RANK in its shape; a wrong shape may have a few more. */
#define MAX_COMMAS ((8ull + MD_MAX_RANK) * MD_MAX_TENSORS + MD_MAX_METADATA)

/* ---- one tensor ---- */

static enum ps_status parse_dtype(const char *name, const json_t *value,
				  enum md_dtype *dtype_out)
{
	const char *text = json_string_value(value);

	if (text == NULL)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: its dtype is no string",
			       md_show(name).text);
	for (unsigned int i = 0; i < MD_DTYPE_COUNT; i++) {
		if (strcmp(text, md_dtype_name((enum md_dtype)i)) != 0)
			continue;
		*dtype_out = (enum md_dtype)i;
		return PS_OK;
	}
	return bs_fail(PS_INVALID_ARGUMENT,
		       "tensor %s: the format has no dtype %s",
		       md_show(name).text, md_show(text).text);
}

static bool read_number(const json_t *value, uint64_t *number_out)
{
	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*number_out = (uint64_t)json_integer_value(value);
	return true;
}

static enum ps_status parse_shape(const json_t *value, struct md_tensor *tensor)
{
	size_t rank = json_array_size(value);

	if (!json_is_array(value))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: its shape is no array",
			       md_show(tensor->name).text);
	if (rank > MD_MAX_RANK)
		return bs_fail(PS_UNSUPPORTED,
			       "tensor %s has %zu dimensions; at most %u are "
			       "supported",
			       md_show(tensor->name).text, rank, MD_MAX_RANK);
	for (size_t i = 0; i < rank; i++) {
		if (!read_number(json_array_get(value, i), &tensor->shape[i]))
			return bs_fail(PS_INVALID_ARGUMENT,
				       "tensor %s: dimension %zu is not a "
				       "whole number of 0 or more",
				       md_show(tensor->name).text, i);
	}
	tensor->rank = (uint32_t)rank;
	return PS_OK;
}

/* Also turns the offset in the data into one in the file. */
static enum ps_status parse_offsets(const json_t *value, uint64_t data_start,
				    uint64_t file_bytes,
				    struct md_tensor *tensor)
{
	uint64_t data_bytes = file_bytes - data_start;
	uint64_t begin;
	uint64_t end;

	if (json_array_size(value) != 2 ||
	    !read_number(json_array_get(value, 0), &begin) ||
	    !read_number(json_array_get(value, 1), &end))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: its data_offsets are not two whole "
			       "numbers of 0 or more",
			       md_show(tensor->name).text);
	if (begin > end || end > data_bytes)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: its data_offsets %" PRIu64
			       " to %" PRIu64 " are not a range in the %" PRIu64
			       " bytes of data that the file has",
			       md_show(tensor->name).text, begin, end,
			       data_bytes);
	if (end - begin != tensor->bytes)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: its data_offsets give it %" PRIu64
			       " bytes, its shape and dtype %" PRIu64,
			       md_show(tensor->name).text, end - begin,
			       tensor->bytes);
	tensor->offset = data_start + begin;
	return PS_OK;
}

static enum ps_status parse_tensor(const char *name, const json_t *info,
				   uint64_t data_start, uint64_t file_bytes,
				   struct md_tensor *tensor)
{
	enum ps_status status;

	*tensor = (struct md_tensor){ .name = name };
	if (strlen(name) > MD_MAX_NAME)
		return bs_fail(PS_UNSUPPORTED,
			       "tensor %s...: its name has %zu bytes; at most "
			       "%u are supported",
			       md_show(name).text, strlen(name), MD_MAX_NAME);
	if (json_object_size(info) != 3)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: it is not an object of exactly "
			       "dtype, shape and data_offsets",
			       md_show(name).text);
	status = parse_dtype(name, json_object_get(info, "dtype"),
			     &tensor->dtype);
	if (status == PS_OK)
		status = parse_shape(json_object_get(info, "shape"), tensor);
	if (status == PS_OK)
		status = md_tensor_bytes(tensor, &tensor->bytes);
	if (status == PS_OK)
		status = parse_offsets(json_object_get(info, "data_offsets"),
				       data_start, file_bytes, tensor);
	return status;
}

/* ---- all of them ---- */

static enum ps_status check_metadata(json_t *metadata)
{
	const char *key;
	json_t *value;

	if (!json_is_object(metadata))
		return bs_fail(PS_INVALID_ARGUMENT,
			       METADATA_KEY " is not an object");
	if (json_object_size(metadata) > MD_MAX_METADATA)
		return bs_fail(PS_UNSUPPORTED,
			       METADATA_KEY " has %zu entries; at most %u are "
					    "supported",
			       json_object_size(metadata), MD_MAX_METADATA);
	json_object_foreach(metadata, key, value)
	{
		if (!json_is_string(value))
			return bs_fail(PS_INVALID_ARGUMENT,
				       METADATA_KEY " entry %s is no string",
				       md_show(key).text);
	}
	return PS_OK;
}

static int compare_u64(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* By place; an empty tensor before the one that begins where it lies. */
static int compare_place(const void *left, const void *right)
{
	const struct md_tensor *a = left;
	const struct md_tensor *b = right;
	int order = compare_u64(a->offset, b->offset);

	if (order == 0)
		order = compare_u64(a->bytes, b->bytes);
	return order != 0 ? order : strcmp(a->name, b->name);
}

/* pre: sorted by place, each inside the file. */
static enum ps_status check_cover(const struct md_file *file,
				  uint64_t data_start, uint64_t file_bytes)
{
	uint64_t next = data_start;

	for (size_t i = 0; i < file->count; i++) {
		const struct md_tensor *tensor = &file->tensors[i];

		if (tensor->offset < next)
			return bs_fail(
				PS_INVALID_ARGUMENT,
				"tensor %s overlaps tensor %s by %" PRIu64
				" bytes",
				md_show(tensor->name).text,
				md_show(tensor[-1].name).text,
				next - tensor->offset);
		if (tensor->offset > next)
			return bs_fail(PS_INVALID_ARGUMENT,
				       "%" PRIu64 " bytes before tensor %s "
				       "belong to no tensor",
				       tensor->offset - next,
				       md_show(tensor->name).text);
		next += tensor->bytes;
	}
	if (next != file_bytes)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the last %" PRIu64 " bytes of the file belong "
			       "to no tensor",
			       file_bytes - next);
	return PS_OK;
}

static enum ps_status parse_tensors(json_t *root, uint64_t data_start,
				    uint64_t file_bytes, struct md_file *file)
{
	enum ps_status status = PS_OK;
	const char *name;
	json_t *value;

	json_object_foreach(root, name, value)
	{
		if (strcmp(name, METADATA_KEY) == 0)
			status = check_metadata(value);
		else
			status = parse_tensor(name, value, data_start,
					      file_bytes,
					      &file->tensors[file->count++]);
		if (status != PS_OK)
			return status;
	}
	qsort(file->tensors, file->count, sizeof(file->tensors[0]),
	      compare_place);
	return check_cover(file, data_start, file_bytes);
}

/* ---- all of it ---- */

enum ps_status md_file_parse(const char *header, size_t header_bytes,
			     uint64_t file_bytes, struct md_file *file_out)
{
	uint64_t data_start = (uint64_t)header_bytes + LENGTH_BYTES;
	struct md_file file = { 0 };
	enum ps_status status;

	if (header_bytes > MD_MAX_HEADER || data_start > file_bytes)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the header has %zu bytes; the file has %" PRIu64
			       " and the format allows %u",
			       header_bytes, file_bytes, MD_MAX_HEADER);
	status = md_json_load("the header", header, header_bytes, MAX_COMMAS,
			      &file.root);
	if (status != PS_OK)
		return status;
	if (json_object_size(file.root) > MD_MAX_TENSORS) {
		status = bs_fail(PS_UNSUPPORTED,
				 "the file has %zu tensors; at most %u are "
				 "supported",
				 json_object_size(file.root), MD_MAX_TENSORS);
		goto done_file;
	}
	file.tensors = calloc(json_object_size(file.root) + 1,
			      sizeof(file.tensors[0]));
	if (file.tensors == NULL) {
		status = bs_fail(PS_HOST_MEMORY, "no memory for %zu tensors",
				 json_object_size(file.root));
		goto done_file;
	}
	status = parse_tensors(file.root, data_start, file_bytes, &file);
	if (status != PS_OK)
		goto done_file;
	*file_out = file;
	return PS_OK;
done_file:
	md_file_done(&file);
	return status;
}

/* ---- the file ---- */

static enum ps_status read_length(int fd, uint64_t file_bytes,
				  size_t *length_out)
{
	unsigned char raw[LENGTH_BYTES];
	enum ps_status status =
		md_read_at(fd, "the header", raw, sizeof(raw), 0);
	uint64_t length = 0;

	if (status != PS_OK)
		return status;
	for (size_t i = LENGTH_BYTES; i > 0; i--)
		length = length << 8 | raw[i - 1];
	if (length > MD_MAX_HEADER)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the header claims %" PRIu64
			       " bytes; the format "
			       "allows %u",
			       length, MD_MAX_HEADER);
	if (length > file_bytes - LENGTH_BYTES)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the header claims %" PRIu64 " bytes; the file "
			       "has %" PRIu64 ": is it cut off?",
			       length, file_bytes);
	*length_out = (size_t)length;
	return PS_OK;
}

static enum ps_status file_size(int fd, uint64_t *bytes_out)
{
	struct stat info;

	if (fstat(fd, &info) != 0)
		return bs_fail_errno("fstat of fd %d failed", fd);
	if (!S_ISREG(info.st_mode))
		return bs_fail(PS_INVALID_ARGUMENT, "fd %d is no regular file",
			       fd);
	if (info.st_size < (off_t)LENGTH_BYTES)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the file has %lld bytes; a safetensors file "
			       "begins with %u of length",
			       (long long)info.st_size, LENGTH_BYTES);
	*bytes_out = (uint64_t)info.st_size;
	return PS_OK;
}

enum ps_status md_file_read(int fd, struct md_file *file_out)
{
	enum ps_status status;
	uint64_t bytes = 0;
	size_t length = 0;
	char *header;

	status = file_size(fd, &bytes);
	if (status == PS_OK)
		status = read_length(fd, bytes, &length);
	if (status != PS_OK)
		return status;
	header = malloc(length + 1);
	if (header == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no memory for a header of %zu bytes", length);
	status = md_read_at(fd, "the header", header, length, LENGTH_BYTES);
	if (status == PS_OK)
		status = md_file_parse(header, length, bytes, file_out);
	free(header);
	return status;
}

void md_file_done(struct md_file *file)
{
	if (file == NULL)
		return;
	free(file->tensors);
	json_decref(file->root);
	*file = (struct md_file){ 0 };
}

const struct md_tensor *md_file_find(const struct md_file *file,
				     const char *name)
{
	for (size_t i = 0; i < file->count; i++)
		if (strcmp(file->tensors[i].name, name) == 0)
			return &file->tensors[i];
	return NULL;
}

const char *md_file_metadata(const struct md_file *file, const char *key)
{
	const json_t *map = json_object_get(file->root, METADATA_KEY);

	return json_string_value(json_object_get(map, key));
}
