/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The hash of a model, over layout and contents: BLAKE2b-256 of the layout
 * (each tensor's name, dtype, shape, offset and bytes) and of the hashes of
 * its contents' chunks, in order. Chunks can be hashed by several threads, in
 * any order, while they are filled.
 */
#ifndef MODEL_HASH_H
#define MODEL_HASH_H

#include "model/manifest.h"

#define MD_CHUNK_BYTES (UINT64_C(4) << 20)

/* How many a model has; the last is as long as what is left. */
static inline uint64_t md_chunks(uint64_t bytes)
{
	return bytes / MD_CHUNK_BYTES + (bytes % MD_CHUNK_BYTES != 0);
}

void md_hash_chunk(const void *bytes, size_t size,
		   uint8_t hash_out[MD_HASH_BYTES]);
/* @chunks: the hashes of the md_chunks(@bytes) chunks, one behind the other.
 * Between the tensors there are zeros. */
void md_hash_model(const struct md_tensor *tensors, size_t count,
		   uint64_t bytes, const uint8_t *chunks,
		   uint8_t hash_out[MD_HASH_BYTES]);

#endif /* MODEL_HASH_H */
