/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Where a model's tensors lie in GPU memory: one after the other in the order
 * of the file, each aligned for any kernel. The same file gives the same
 * layout in every process; the hash shows when two layouts differ.
 *
 * The hash is 64-bit FNV-1a over each tensor's name, dtype, shape, offset and
 * size. It guards against mistakes (another file, another version, another
 * order), not against malice: who may write the weights need not forge a
 * layout. That is why it is twenty lines and not a dependency.
 */
#ifndef MODEL_LAYOUT_H
#define MODEL_LAYOUT_H

#include "model/safetensors.h"

#define MD_LAYOUT_ALIGN 256u

struct md_layout {
	struct md_tensor *tensors; /* offset: from the model's first byte */
	size_t count;              /* of tensors */
	uint64_t bytes;            /* of the whole, a multiple of the align */
	uint64_t hash;             /* md_layout_hash() of the above */
};

/* The names stay @file's: free the layout first, with md_layout_done(). */
enum ps_status md_layout_init(const struct md_file *file,
			      struct md_layout *layout_out);
void md_layout_done(struct md_layout *layout); /* NULL: ok */

/* Of any list of tensors, such as one that came in a message. */
uint64_t md_layout_hash(const struct md_tensor *tensors, size_t count);

#endif /* MODEL_LAYOUT_H */
