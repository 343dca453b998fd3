/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the daemon tells its clients of a model, as bytes in a sealed memfd:
 * each tensor's name, dtype, shape, offset and size, in the order in which
 * they lie and travel. Needs no JSON: every client reads it.
 *
 * The decoder believes nothing: every offset and length is checked, names are
 * unique UTF-8, tensors ascend without overlapping inside the model's bytes.
 */
#ifndef MODEL_MANIFEST_H
#define MODEL_MANIFEST_H

#include "model/layout.h"

#define MD_MANIFEST_VERSION 1u
#define MD_HASH_BYTES 32u

struct md_manifest {
	struct md_tensor *tensors; /* names point into the bytes */
	size_t count;
	uint64_t bytes; /* of the model */
	uint8_t hash[MD_HASH_BYTES];
};

/* @bytes_out: free() it. PS_HOST_MEMORY. */
enum ps_status md_manifest_encode(const struct md_manifest *manifest,
				  void **bytes_out, size_t *size_out);
/* @bytes stays the caller's, and must outlive the manifest.
 * PS_INVALID_ARGUMENT naming what is wrong; PS_HOST_MEMORY. */
enum ps_status md_manifest_decode(const void *bytes, size_t size,
				  struct md_manifest *manifest_out);
void md_manifest_done(struct md_manifest *manifest); /* NULL: ok */

#endif /* MODEL_MANIFEST_H */
