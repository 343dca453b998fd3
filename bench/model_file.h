/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Models for bench/model: files of layers that are all alike, with known
 * words. */
#ifndef BENCH_MODEL_FILE_H
#define BENCH_MODEL_FILE_H

#include <stdbool.h>
#include <stdint.h>

#define BN_MODEL_TENSORS 4u /* of a layer */

struct bn_model_size {
	const char *text;
	uint32_t layers;
	uint64_t tensor_bytes; /* a multiple of 256 */
};

static inline uint64_t bn_model_bytes(const struct bn_model_size *size)
{
	return size->layers * BN_MODEL_TENSORS * size->tensor_bytes;
}

/* Each tensor's last word is its number and @salt. */
static inline uint32_t bn_model_word(uint32_t number, uint32_t salt)
{
	return number * 2654435761u + salt;
}

/* A safetensors file. False: the reason is in bs_fail_text(). */
bool bn_model_write(const char *path, const struct bn_model_size *size,
		    uint32_t salt);

#endif /* BENCH_MODEL_FILE_H */
