/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The bytes: a head, a row for each tensor, then the names, each with its
 * zero, in the same order and with nothing between. Numbers are the machine's
 * own: both ends run on it.
 */
#include "model/manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "model/show.h"

#define MAGIC "psmodel"

struct head {
	char magic[8];
	uint32_t version;
	uint32_t tensors;
	uint64_t bytes; /* of the model */
	uint64_t name_bytes;
	uint8_t hash[MD_HASH_BYTES];
};

struct row {
	uint64_t offset;
	uint64_t bytes;
	uint64_t shape[MD_MAX_RANK];
	uint32_t dtype;
	uint32_t rank;
	uint32_t name_bytes; /* without its zero */
	uint32_t zero;
};

/* ---- write ---- */

static struct row make_row(const struct md_tensor *tensor, size_t name_bytes)
{
	struct row row = {
		.offset = tensor->offset,
		.bytes = tensor->bytes,
		.dtype = (uint32_t)tensor->dtype,
		.rank = tensor->rank,
		.name_bytes = (uint32_t)name_bytes,
	};

	memcpy(row.shape, tensor->shape, sizeof(row.shape));
	return row;
}

enum ps_status md_manifest_encode(const struct md_manifest *manifest,
				  void **bytes_out, size_t *size_out)
{
	struct head head = {
		.magic = MAGIC,
		.version = MD_MANIFEST_VERSION,
		.tensors = (uint32_t)manifest->count,
		.bytes = manifest->bytes,
	};
	char *rows, *names, *bytes;
	size_t size;

	memcpy(head.hash, manifest->hash, sizeof(head.hash));
	for (size_t i = 0; i < manifest->count; i++)
		head.name_bytes += strlen(manifest->tensors[i].name) + 1;
	size = sizeof(head) + manifest->count * sizeof(struct row) +
	       head.name_bytes;
	bytes = malloc(size);
	if (bytes == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no memory for a manifest of %zu tensors",
			       manifest->count);
	memcpy(bytes, &head, sizeof(head));
	rows = bytes + sizeof(head);
	names = rows + manifest->count * sizeof(struct row);
	for (size_t i = 0; i < manifest->count; i++) {
		const struct md_tensor *tensor = &manifest->tensors[i];
		size_t length = strlen(tensor->name);
		struct row row = make_row(tensor, length);

		memcpy(rows + i * sizeof(row), &row, sizeof(row));
		memcpy(names, tensor->name, length + 1);
		names += length + 1;
	}
	*bytes_out = bytes;
	*size_out = size;
	return PS_OK;
}

/* ---- read ---- */

static enum ps_status check_head(const struct head *head, size_t size)
{
	uint64_t rows = (uint64_t)head->tensors * sizeof(struct row);
	uint64_t behind = size - sizeof(*head);

	if (memcmp(head->magic, MAGIC, sizeof(head->magic)) != 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "these %zu bytes are no manifest", size);
	if (head->version != MD_MANIFEST_VERSION)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the manifest has version %u, not %u",
			       head->version, MD_MANIFEST_VERSION);
	if (head->tensors > MD_MAX_TENSORS)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the manifest claims %u tensors, more than %u",
			       head->tensors, MD_MAX_TENSORS);
	if (rows > behind || head->name_bytes != behind - rows)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the manifest has %" PRIu64
			       " bytes behind its head, not those of %u "
			       "tensors and %" PRIu64 " of names",
			       behind, head->tensors, head->name_bytes);
	return PS_OK;
}

/* How many bytes the character takes of which @at is the first; 0: it is
 * none, is written longer than need be, or is half of a pair. The text ends
 * with a zero. */
static size_t character(const unsigned char *at)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t code;
	size_t bytes;

	if (at[0] < 0x80)
		return 1;
	bytes = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
	if (at[0] < 0xc0 || at[0] >= 0xf8)
		return 0;
	code = at[0] & (0x7fu >> bytes);
	for (size_t i = 1; i < bytes; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (at[i] & 0x3fu);
	}
	if (code < least[bytes] || code > 0x10ffff ||
	    (code >= 0xd800 && code <= 0xdfff))
		return 0;
	return bytes;
}

static bool is_utf8(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	while (*at != '\0') {
		size_t bytes = character(at);

		if (bytes == 0)
			return false;
		at += bytes;
	}
	return true;
}

/* @room: bytes from @name to the manifest's end. */
static enum ps_status check_name(size_t number, const char *name,
				 const struct row *row, uint64_t room)
{
	if (row->name_bytes > MD_MAX_NAME || row->name_bytes >= room)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %zu: a name of %u bytes, %" PRIu64
			       " are left and %u allowed",
			       number, row->name_bytes, room, MD_MAX_NAME);
	if (strnlen(name, row->name_bytes + 1) != row->name_bytes)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %zu: its name does not end after %u "
			       "bytes",
			       number, row->name_bytes);
	if (!is_utf8(name))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %zu: its name is no UTF-8", number);
	return PS_OK;
}

static enum ps_status check_numbers(const struct row *row, const char *name)
{
	bool is_clean = row->zero == 0;

	if (row->dtype >= MD_DTYPE_COUNT || row->rank > MD_MAX_RANK)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: dtype %u, %u dimensions: there are "
			       "%u and at most %u",
			       md_show(name).text, row->dtype, row->rank,
			       (unsigned int)MD_DTYPE_COUNT, MD_MAX_RANK);
	for (uint32_t i = row->rank; i < MD_MAX_RANK; i++)
		is_clean = is_clean && row->shape[i] == 0;
	if (!is_clean)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: what it does not use is not 0",
			       md_show(name).text);
	return PS_OK;
}

static enum ps_status check_place(const struct md_tensor *tensor, uint64_t next,
				  uint64_t model_bytes)
{
	enum ps_status status;
	uint64_t wanted = 0;

	status = md_tensor_bytes(tensor, &wanted);
	if (status != PS_OK)
		return status;
	if (tensor->bytes != wanted)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s has %" PRIu64
			       " bytes, its shape and dtype %" PRIu64,
			       md_show(tensor->name).text, tensor->bytes,
			       wanted);
	if (tensor->offset < next || tensor->offset > model_bytes ||
	    tensor->bytes > model_bytes - tensor->offset)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: %" PRIu64 " bytes at %" PRIu64
			       " are not between the last one's end, %" PRIu64
			       ", and the model's, %" PRIu64,
			       md_show(tensor->name).text, tensor->bytes,
			       tensor->offset, next, model_bytes);
	if (tensor->offset % MD_LAYOUT_ALIGN != 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s lies at %" PRIu64
			       ", no multiple of %u",
			       md_show(tensor->name).text, tensor->offset,
			       MD_LAYOUT_ALIGN);
	return PS_OK;
}

/* pre: the head is right. */
static enum ps_status read_rows(const char *bytes, size_t size,
				struct md_manifest *manifest)
{
	const char *rows = bytes + sizeof(struct head);
	const char *name = rows + manifest->count * sizeof(struct row);
	const char *end = bytes + size;
	uint64_t next = 0;

	for (size_t i = 0; i < manifest->count; i++) {
		struct md_tensor *tensor = &manifest->tensors[i];
		enum ps_status status;
		struct row row;

		memcpy(&row, rows + i * sizeof(row), sizeof(row));
		status = check_name(i, name, &row, (uint64_t)(end - name));
		if (status == PS_OK)
			status = check_numbers(&row, name);
		if (status != PS_OK)
			return status;
		*tensor = (struct md_tensor){ name, (enum md_dtype)row.dtype,
					      row.rank, .offset = row.offset,
					      .bytes = row.bytes };
		memcpy(tensor->shape, row.shape, sizeof(row.shape));
		status = check_place(tensor, next, manifest->bytes);
		if (status != PS_OK)
			return status;
		next = tensor->offset + tensor->bytes;
		name += row.name_bytes + 1;
	}
	if (name != end)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%td bytes behind the manifest's names",
			       end - name);
	return PS_OK;
}

enum ps_status md_manifest_decode(const void *bytes, size_t size,
				  struct md_manifest *manifest_out)
{
	struct md_manifest manifest;
	enum ps_status status;
	struct head head;

	if (size < sizeof(head))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a manifest of %zu bytes lacks its head", size);
	memcpy(&head, bytes, sizeof(head));
	status = check_head(&head, size);
	if (status != PS_OK)
		return status;
	manifest = (struct md_manifest){ .count = head.tensors,
					 .bytes = head.bytes };
	memcpy(manifest.hash, head.hash, sizeof(head.hash));
	manifest.tensors =
		calloc(manifest.count + 1, sizeof(manifest.tensors[0]));
	if (manifest.tensors == NULL)
		return bs_fail(PS_HOST_MEMORY, "no memory for %zu tensors",
			       manifest.count);
	status = read_rows(bytes, size, &manifest);
	if (status == PS_OK)
		status = md_tensors_check_names(manifest.tensors,
						manifest.count);
	if (status != PS_OK) {
		md_manifest_done(&manifest);
		return status;
	}
	*manifest_out = manifest;
	return PS_OK;
}

void md_manifest_done(struct md_manifest *manifest)
{
	if (manifest == NULL)
		return;
	free(manifest->tensors);
	*manifest = (struct md_manifest){ 0 };
}
