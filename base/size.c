/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "base/size.h"

#include "base/arith.h"
#include "base/status.h"

#include <string.h>

#define FRACTION_DIGITS 6u
#define FRACTION_UNIT UINT64_C(1000000) /* 10^FRACTION_DIGITS */

static enum ps_status fail_size(const char *text, const char *why)
{
	return bs_fail(PS_INVALID_ARGUMENT,
		       "\"%.40s\" is no size: %s; \"4096\", \"512M\" and "
		       "\"1.5G\" are",
		       text, why);
}

/* Of a suffix: what one stands for, 0 when it is none. */
static uint64_t unit_of(const char *suffix)
{
	static const char letters[] = "KMGT";
	const char *letter;

	if (*suffix == '\0')
		return 1;
	letter = strchr(letters, *suffix);
	if (!letter || (suffix[1] != '\0' && strcmp(suffix + 1, "iB") != 0))
		return 0;
	return UINT64_C(1) << (10 * (letter - letters + 1));
}

/* "12.34": 12 and 340000 (of FRACTION_UNIT); *end behind it. */
static bool parse_number(const char *text, uint64_t *whole_out,
			 uint64_t *fraction_out, const char **end)
{
	uint64_t whole = 0;
	uint64_t fraction = 0;
	unsigned int digits = 0;

	if (*text < '0' || *text > '9')
		return false;
	for (; *text >= '0' && *text <= '9'; text++)
		if (!bs_mul(whole, 10, &whole) ||
		    !bs_add(whole, (uint64_t)(*text - '0'), &whole))
			return false;
	if (*text == '.' && text[1] >= '0' && text[1] <= '9')
		for (text++; *text >= '0' && *text <= '9'; text++, digits++)
			if (digits < FRACTION_DIGITS)
				fraction =
					fraction * 10 + (uint64_t)(*text - '0');
	for (; digits < FRACTION_DIGITS; digits++)
		fraction *= 10;
	*whole_out = whole;
	*fraction_out = fraction;
	*end = text;
	return true;
}

static enum ps_status percent_of(const char *text, uint64_t whole,
				 uint64_t percent, uint64_t fraction,
				 uint64_t *bytes_out)
{
	const uint64_t hundred = 100 * FRACTION_UNIT;
	uint64_t share;

	if (percent > 100 || (percent == 100 && fraction > 0))
		return fail_size(text, "it is more than 100 %");
	share = percent * FRACTION_UNIT + fraction;
	*bytes_out =
		whole / hundred * share + whole % hundred * share / hundred;
	return PS_OK;
}

enum ps_status bs_size_parse(const char *text, uint64_t whole,
			     uint64_t *bytes_out)
{
	uint64_t count, fraction, unit, bytes;
	const char *suffix;

	if (!parse_number(text, &count, &fraction, &suffix))
		return fail_size(text, "it begins with no number below 2^64");
	if (whole > 0 && strcmp(suffix, "%") == 0)
		return percent_of(text, whole, count, fraction, bytes_out);
	unit = unit_of(suffix);
	if (unit == 0)
		return fail_size(text, whole > 0 ? "the suffix is none of K, "
						   "M, G, T, %"
						 : "the suffix is none of K, "
						   "M, G, T");
	if (unit == 1 && fraction > 0)
		return fail_size(text, "a byte has no parts");
	if (!bs_mul(count, unit, &bytes) ||
	    !bs_add(bytes, unit * fraction / FRACTION_UNIT, &bytes))
		return fail_size(text, "it does not fit into 64 bits");
	*bytes_out = bytes;
	return PS_OK;
}
