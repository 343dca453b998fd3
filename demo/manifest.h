/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The manifest: how a worker learns where a model's tensors lie, and how it
 * makes sure that they are the ones it was built for. It knows that layout
 * from the header of the model's file; nothing rests on two processes
 * allocating in the same order.
 */
#ifndef DEMO_MANIFEST_H
#define DEMO_MANIFEST_H

#include "demo/message.h"
#include "model/layout.h"

/* PS_UNSUPPORTED when the model has too many tensors or too long names. */
enum ps_status dm_manifest_make(uint32_t model, uint64_t pool_offset,
				const struct md_layout *layout,
				struct dm_manifest *manifest_out);

/*
 * Whether a manifest that came in a message may be used: within its limits,
 * inside the region (@offset, @size) of the pool, its hash that of its
 * entries and of @expected. PS_REFUSED says what is wrong.
 */
enum ps_status dm_manifest_check(const struct dm_manifest *manifest,
				 const struct md_layout *expected,
				 uint64_t offset, uint64_t size);

/* pre: checked. NULL when there is no such tensor. */
const struct dm_entry *dm_manifest_find(const struct dm_manifest *manifest,
					const char *name);

#endif /* DEMO_MANIFEST_H */
