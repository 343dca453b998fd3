/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "model/layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"

#define FNV_START 0xcbf29ce484222325ull
#define FNV_PRIME 0x100000001b3ull

static uint64_t hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
	const unsigned char *at = data;

	for (size_t i = 0; i < bytes; i++)
		hash = (hash ^ at[i]) * FNV_PRIME;
	return hash;
}

/* Byte by byte from the lowest: the same on every machine. */
static uint64_t hash_number(uint64_t hash, uint64_t number)
{
	for (unsigned int shift = 0; shift < 64; shift += 8)
		hash = (hash ^ (number >> shift & 0xff)) * FNV_PRIME;
	return hash;
}

/* Each field has a fixed length or its length before it, so that two
 * different lists never give the same bytes. */
static uint64_t hash_tensor(uint64_t hash, const struct md_tensor *tensor)
{
	size_t length = strlen(tensor->name);

	hash = hash_number(hash, length);
	hash = hash_bytes(hash, tensor->name, length);
	hash = hash_number(hash, (uint64_t)tensor->dtype);
	hash = hash_number(hash, tensor->rank);
	for (uint32_t i = 0; i < tensor->rank; i++)
		hash = hash_number(hash, tensor->shape[i]);
	hash = hash_number(hash, tensor->offset);
	return hash_number(hash, tensor->bytes);
}

uint64_t md_layout_hash(const struct md_tensor *tensors, size_t count)
{
	uint64_t hash = hash_number(FNV_START, count);

	for (size_t i = 0; i < count; i++)
		hash = hash_tensor(hash, &tensors[i]);
	return hash;
}

static enum ps_status place(struct md_layout *layout)
{
	uint64_t next = 0;

	for (size_t i = 0; i < layout->count; i++) {
		struct md_tensor *tensor = &layout->tensors[i];

		tensor->offset = next;
		if (!bs_add(next, tensor->bytes, &next) ||
		    !bs_round_up(next, MD_LAYOUT_ALIGN, &next))
			return bs_fail(PS_INVALID_ARGUMENT,
				       "the layout overflows at a tensor of "
				       "%" PRIu64 " bytes",
				       tensor->bytes);
	}
	layout->bytes = next;
	return PS_OK;
}

enum ps_status md_layout_init(const struct md_file *file,
			      struct md_layout *layout_out)
{
	struct md_layout layout = { .count = file->count };
	enum ps_status status;

	layout.tensors = calloc(file->count + 1, sizeof(layout.tensors[0]));
	if (layout.tensors == NULL)
		return bs_fail(PS_HOST_MEMORY, "no memory for %zu tensors",
			       file->count);
	if (file->count > 0)
		memcpy(layout.tensors, file->tensors,
		       file->count * sizeof(layout.tensors[0]));
	status = place(&layout);
	if (status != PS_OK) {
		free(layout.tensors);
		return status;
	}
	layout.hash = md_layout_hash(layout.tensors, layout.count);
	*layout_out = layout;
	return PS_OK;
}

void md_layout_done(struct md_layout *layout)
{
	if (layout == NULL)
		return;
	free(layout->tensors);
	*layout = (struct md_layout){ 0 };
}
