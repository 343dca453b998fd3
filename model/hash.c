/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "model/hash.h"

#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* What is hashed before all else: no chunk's hash is ever a model's. */
#define START "poolswitch model 1"

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Without it libsodium computes as on the oldest processor. It fails only for
 * want of random numbers, which are not used here. */
static void choose_code(void)
{
	int made = sodium_init();

	(void)made;
}

static void add_number(crypto_generichash_state *state, uint64_t number)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(number >> (8 * i));
	crypto_generichash_update(state, bytes, sizeof(bytes));
}

/* Each field has a fixed length or its length before it, so that two
 * different models never give the same bytes. */
static void add_tensor(crypto_generichash_state *state,
		       const struct md_tensor *tensor)
{
	size_t length = strlen(tensor->name);

	add_number(state, length);
	crypto_generichash_update(state, (const uint8_t *)tensor->name, length);
	add_number(state, (uint64_t)tensor->dtype);
	add_number(state, tensor->rank);
	for (uint32_t i = 0; i < tensor->rank; i++)
		add_number(state, tensor->shape[i]);
	add_number(state, tensor->offset);
	add_number(state, tensor->bytes);
}

void md_hash_chunk(const void *bytes, size_t size,
		   uint8_t hash_out[MD_HASH_BYTES])
{
	pthread_once(&once, choose_code);
	crypto_generichash(hash_out, MD_HASH_BYTES, bytes, size, NULL, 0);
}

void md_hash_model(const struct md_tensor *tensors, size_t count,
		   uint64_t bytes, const uint8_t *chunks,
		   uint8_t hash_out[MD_HASH_BYTES])
{
	crypto_generichash_state state;

	pthread_once(&once, choose_code);
	crypto_generichash_init(&state, NULL, 0, MD_HASH_BYTES);
	crypto_generichash_update(&state, (const uint8_t *)START,
				  sizeof(START));
	add_number(&state, count);
	for (size_t i = 0; i < count; i++)
		add_tensor(&state, &tensors[i]);
	add_number(&state, bytes);
	crypto_generichash_update(&state, chunks,
				  md_chunks(bytes) * MD_HASH_BYTES);
	crypto_generichash_final(&state, hash_out, MD_HASH_BYTES);
}
