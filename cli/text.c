/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/text.h"

#include <assert.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *cl_size(uint64_t bytes, char text[CL_SIZE_BYTES])
{
	static const char units[] = " KMGTPE";
	double value = (double)bytes;
	int unit = 0;

	if (bytes < 1024) {
		snprintf(text, CL_SIZE_BYTES, "%u B", (unsigned int)bytes);
		return text;
	}
	/* Rounded to 1024 it would look like the next unit's 1. */
	while (value >= 1023.5) {
		value /= 1024;
		unit++;
	}
	snprintf(text, CL_SIZE_BYTES, "%.*f %ciB",
		 value >= 99.95 ? 0 : (value >= 9.995 ? 1 : 2), value,
		 units[unit]);
	return text;
}

const char *cl_span(uint64_t seconds, char text[CL_SPAN_BYTES])
{
	unsigned long long n = seconds;

	if (n < 60)
		snprintf(text, CL_SPAN_BYTES, "%llu s", n);
	else if (n < 3600)
		snprintf(text, CL_SPAN_BYTES, "%llu min %llu s", n / 60,
			 n % 60);
	else if (n < 86400)
		snprintf(text, CL_SPAN_BYTES, "%llu h %llu min", n / 3600,
			 n % 3600 / 60);
	else
		snprintf(text, CL_SPAN_BYTES, "%llu d %llu h", n / 86400,
			 n % 86400 / 3600);
	return text;
}

const char *cl_plain(const char *text, char *plain, size_t room)
{
	size_t i;

	for (i = 0; text[i] && i + 1 < room; i++)
		plain[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
	plain[i] = '\0';
	return plain;
}

const char *cl_user(uint64_t uid, char *text, size_t room)
{
	struct passwd *user = getpwuid((uid_t)uid);

	if (user)
		cl_plain(user->pw_name, text, room);
	else
		snprintf(text, room, "%llu", (unsigned long long)uid);
	return text;
}

void cl_wrap(FILE *out, const char *text, int indent, int column)
{
	bool is_first = true;
	int length;

	for (text += strspn(text, " "); *text; text += strspn(text, " ")) {
		length = (int)strcspn(text, " ");
		if (!is_first && column + 1 + length > CL_COLUMNS) {
			fprintf(out, "\n%*s", indent, "");
			column = indent;
		} else if (!is_first) {
			fputc(' ', out);
			column++;
		}
		fprintf(out, "%.*s", length, text);
		column += length;
		text += length;
		is_first = false;
	}
	fputc('\n', out);
}

bool cl_is_colourful(FILE *out)
{
	const char *refused = getenv("NO_COLOR");
	const char *terminal = getenv("TERM");

	return isatty(fileno(out)) && !(refused && *refused) && terminal &&
	       *terminal && strcmp(terminal, "dumb") != 0;
}

/* ---- tables ---- */

static void print_cell(FILE *out, const struct cl_column *column,
		       const char *text, bool is_last)
{
	int length = (int)strlen(text);
	int width = column->width;

	if (length > width)
		fprintf(out, "%.*s..", width - 2, text);
	else if (column->is_right)
		fprintf(out, "%*s", width, text);
	else
		fprintf(out, "%-*s", is_last ? 0 : width, text);
	fputc(is_last ? '\n' : ' ', out);
}

void cl_table_row(FILE *out, const struct cl_column *columns, size_t count,
		  const char *const *cells)
{
	size_t i;

	for (i = 0; i < count; i++)
		print_cell(out, &columns[i], cells[i], i + 1 == count);
}

void cl_table_head(FILE *out, const struct cl_column *columns, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++)
		print_cell(out, &columns[i], columns[i].title, i + 1 == count);
}

/* ---- bars ---- */

static double sum_of(const struct cl_part *parts, size_t count)
{
	double sum = 0;
	size_t i;

	for (i = 0; i < count; i++)
		sum += (double)parts[i].amount;
	return sum;
}

/* The part whose share is furthest above (sign 1) or below (-1) what it
 * should have; above: of those that have one to give. */
static size_t furthest(const struct cl_part *parts, size_t count, double sum,
		       int width, const int *shares, int sign)
{
	size_t best = count;
	double most = 0;
	double off;
	size_t i;

	for (i = 0; i < count; i++) {
		if (parts[i].amount == 0 || (sign > 0 && shares[i] < 2))
			continue;
		off = sign *
		      (shares[i] - (double)parts[i].amount / sum * width);
		if (best == count || off > most) {
			best = i;
			most = off;
		}
	}
	assert(best < count);
	return best;
}

void cl_share(const struct cl_part *parts, size_t count, int width,
	      int *shares_out)
{
	double sum = sum_of(parts, count);
	int used = 0;
	size_t i;

	assert(width >= (int)count);
	for (i = 0; i < count; i++) {
		shares_out[i] = 0;
		if (parts[i].amount == 0)
			continue;
		shares_out[i] = (int)((double)parts[i].amount / sum * width);
		if (shares_out[i] == 0)
			shares_out[i] = 1;
		used += shares_out[i];
	}
	for (; used > width; used--)
		shares_out[furthest(parts, count, sum, width, shares_out, 1)]--;
	for (; sum > 0 && used < width; used++)
		shares_out[furthest(parts, count, sum, width, shares_out,
				    -1)]++;
}

#define PARTS_MAX 8

void cl_bar(FILE *out, bool colourful, const struct cl_part *parts,
	    size_t count, int width)
{
	int shares[PARTS_MAX];
	size_t i;
	int n;

	assert(count <= PARTS_MAX);
	cl_share(parts, count, width, shares);
	fputc('[', out);
	for (i = 0; i < count; i++) {
		if (shares[i] == 0)
			continue;
		if (colourful && parts[i].colour)
			fprintf(out, "\033[%sm", parts[i].colour);
		for (n = 0; n < shares[i]; n++)
			fputc(parts[i].character, out);
		if (colourful && parts[i].colour)
			fputs("\033[0m", out);
	}
	fputs("]\n", out);
}
