/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/manifest.h"

#include <inttypes.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"

enum ps_status dm_manifest_make(uint32_t model, uint64_t pool_offset,
				const struct md_layout *layout,
				struct dm_manifest *manifest_out)
{
	struct dm_manifest *out = manifest_out;

	if (layout->count > DM_MAX_TENSORS)
		return bs_fail(PS_UNSUPPORTED,
			       "%zu tensors; the demo's manifest holds %u",
			       layout->count, DM_MAX_TENSORS);
	memset(out, 0, sizeof(*out));
	out->model = model;
	out->count = (uint32_t)layout->count;
	out->pool_offset = pool_offset;
	out->bytes = layout->bytes;
	out->hash = layout->hash;
	for (size_t i = 0; i < layout->count; i++) {
		const struct md_tensor *tensor = &layout->tensors[i];
		struct dm_entry *entry = &out->entries[i];

		if (strlen(tensor->name) >= sizeof(entry->name))
			return bs_fail(PS_UNSUPPORTED,
				       "tensor %s: its name is too long for "
				       "the demo's manifest",
				       tensor->name);
		strcpy(entry->name, tensor->name);
		entry->dtype = tensor->dtype;
		entry->rank = tensor->rank;
		memcpy(entry->shape, tensor->shape, sizeof(entry->shape));
		entry->offset = tensor->offset;
		entry->bytes = tensor->bytes;
	}
	return PS_OK;
}

static bool entry_is_sane(const struct dm_entry *entry, uint64_t bytes)
{
	uint64_t end;

	return memchr(entry->name, '\0', sizeof(entry->name)) != NULL &&
	       entry->dtype < MD_DTYPE_COUNT && entry->rank <= MD_MAX_RANK &&
	       bs_add(entry->offset, entry->bytes, &end) && end <= bytes;
}

static enum ps_status check_limits(const struct dm_manifest *manifest,
				   uint64_t offset, uint64_t size)
{
	uint64_t end;

	if (manifest->count > DM_MAX_TENSORS)
		return bs_fail(PS_REFUSED, "the manifest counts %u tensors",
			       manifest->count);
	for (uint32_t i = 0; i < manifest->count; i++)
		if (!entry_is_sane(&manifest->entries[i], manifest->bytes))
			return bs_fail(PS_REFUSED,
				       "the manifest's entry %u is not inside "
				       "its model",
				       i);
	if (manifest->pool_offset < offset ||
	    !bs_add(manifest->pool_offset, manifest->bytes, &end) ||
	    end - offset > size)
		return bs_fail(PS_REFUSED,
			       "the manifest places %" PRIu64
			       " bytes at %" PRIu64
			       ", not in the parameter region",
			       manifest->bytes, manifest->pool_offset);
	return PS_OK;
}

static uint64_t hash_entries(const struct dm_manifest *manifest)
{
	struct md_tensor tensors[DM_MAX_TENSORS] = { { 0 } };

	for (uint32_t i = 0; i < manifest->count; i++) {
		const struct dm_entry *entry = &manifest->entries[i];

		tensors[i].name = entry->name;
		tensors[i].dtype = (enum md_dtype)entry->dtype;
		tensors[i].rank = entry->rank;
		memcpy(tensors[i].shape, entry->shape, sizeof(entry->shape));
		tensors[i].offset = entry->offset;
		tensors[i].bytes = entry->bytes;
	}
	return md_layout_hash(tensors, manifest->count);
}

enum ps_status dm_manifest_check(const struct dm_manifest *manifest,
				 const struct md_layout *expected,
				 uint64_t offset, uint64_t size)
{
	enum ps_status status = check_limits(manifest, offset, size);
	uint64_t hash;

	if (status != PS_OK)
		return status;
	hash = hash_entries(manifest);
	if (manifest->hash != hash)
		return bs_fail(PS_REFUSED,
			       "the manifest says hash %016" PRIx64
			       ", its entries have %016" PRIx64,
			       manifest->hash, hash);
	if (hash != expected->hash)
		return bs_fail(PS_REFUSED,
			       "the layout in the pool has hash %016" PRIx64
			       ", the model here %016" PRIx64
			       ": use the same model file in all processes",
			       hash, expected->hash);
	return PS_OK;
}

const struct dm_entry *dm_manifest_find(const struct dm_manifest *manifest,
					const char *name)
{
	for (uint32_t i = 0; i < manifest->count; i++)
		if (strcmp(manifest->entries[i].name, name) == 0)
			return &manifest->entries[i];
	return NULL;
}
