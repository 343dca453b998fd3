/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Arithmetic on sizes that cannot overflow unseen. */
#ifndef BASE_ARITH_H
#define BASE_ARITH_H

#include <stdbool.h>
#include <stdint.h>

/* False on overflow; then *sum_out is not written. */
static inline bool bs_add(uint64_t a, uint64_t b, uint64_t *sum_out)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*sum_out = sum;
	return true;
}

static inline bool bs_mul(uint64_t a, uint64_t b, uint64_t *product_out)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*product_out = product;
	return true;
}

static inline bool bs_is_pow2(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* pre: unit is a power of two. */
static inline uint64_t bs_round_down(uint64_t n, uint64_t unit)
{
	return n & ~(unit - 1);
}

/* pre: unit is a power of two. False on overflow. */
static inline bool bs_round_up(uint64_t n, uint64_t unit, uint64_t *out)
{
	uint64_t sum;

	if (!bs_add(n, unit - 1, &sum))
		return false;
	*out = bs_round_down(sum, unit);
	return true;
}

/* The position of the highest bit. pre: n is not 0. */
static inline unsigned int bs_log2(uint64_t n)
{
	return 63u - (unsigned int)__builtin_clzll(n);
}

#endif /* BASE_ARITH_H */
