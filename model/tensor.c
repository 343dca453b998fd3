/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "model/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "model/show.h"

struct dtype_row {
	const char *name;
	unsigned int bits;
};

static const struct dtype_row dtypes[MD_DTYPE_COUNT] = {
#define DTYPE(name, bits) [MD_##name] = { #name, bits },
#include "model/dtypes.h"
#undef DTYPE
};

const char *md_dtype_name(enum md_dtype dtype)
{
	return (size_t)dtype < MD_DTYPE_COUNT ? dtypes[dtype].name : NULL;
}

unsigned int md_dtype_bits(enum md_dtype dtype)
{
	return dtypes[dtype].bits;
}

struct md_shown md_show(const char *text)
{
	struct md_shown shown;
	size_t i;

	for (i = 0; text[i] != '\0' && i + 1 < sizeof(shown.text); i++) {
		unsigned char c = (unsigned char)text[i];

		shown.text[i] = c < 0x20 || c == 0x7f ? '?' : text[i];
	}
	shown.text[i] = '\0';
	return shown;
}

enum ps_status md_tensor_bytes(const struct md_tensor *tensor,
			       uint64_t *bytes_out)
{
	uint64_t bits = md_dtype_bits(tensor->dtype);

	for (uint32_t i = 0; i < tensor->rank; i++) {
		if (!bs_mul(bits, tensor->shape[i], &bits))
			return bs_fail(PS_INVALID_ARGUMENT,
				       "tensor %s: the product of its shape "
				       "overflows at dimension %u, %" PRIu64,
				       md_show(tensor->name).text, i,
				       tensor->shape[i]);
	}
	if (bits % 8 != 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "tensor %s: %" PRIu64 " bits are not a whole "
			       "number of bytes",
			       md_show(tensor->name).text, bits);
	*bytes_out = bits / 8;
	return PS_OK;
}

static int compare_names(const void *left, const void *right)
{
	const char *const *a = left;
	const char *const *b = right;

	return strcmp(*a, *b);
}

enum ps_status md_tensors_check_names(const struct md_tensor *tensors,
				      size_t count)
{
	const char **names = calloc(count + 1, sizeof(names[0]));
	enum ps_status status = PS_OK;

	if (names == NULL)
		return bs_fail(PS_HOST_MEMORY, "no memory for %zu names",
			       count);
	for (size_t i = 0; i < count; i++)
		names[i] = tensors[i].name;
	qsort(names, count, sizeof(names[0]), compare_names);
	for (size_t i = 1; i < count && status == PS_OK; i++)
		if (strcmp(names[i - 1], names[i]) == 0)
			status = bs_fail(PS_INVALID_ARGUMENT,
					 "two tensors are called %s",
					 md_show(names[i]).text);
	free(names);
	return status;
}
