/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Words, tables and bars for people: 80 columns, plain ASCII. Colours are for
 * a terminal whose user did not refuse them (NO_COLOR), and never carry what
 * the characters do not say.
 */
#ifndef CLI_TEXT_H
#define CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CL_COLUMNS 80
#define CL_SIZE_BYTES 16    /* for cl_size() */
#define CL_SPAN_BYTES 32    /* for cl_span() */
#define CL_DETAIL_BYTES 512 /* for a sentence */

/* "0 B", "1023 MiB", "12.3 GiB": three digits, at most 8 characters. */
const char *cl_size(uint64_t bytes, char text[CL_SIZE_BYTES]);

/* "12 s", "3 min 5 s", "3 h 12 min", "5 d 2 h". */
const char *cl_span(uint64_t seconds, char text[CL_SPAN_BYTES]);

/* @text with all but printable ASCII as '?': what others wrote must not
 * steer a terminal. Cut to @room. */
const char *cl_plain(const char *text, char *plain, size_t room);

/* The user's name, or the number. */
const char *cl_user(uint64_t uid, char *text, size_t room);

/* Words of @text in lines of CL_COLUMNS, each after @indent spaces; the first
 * line begins at @column already. Ends the line. */
void cl_wrap(FILE *out, const char *text, int indent, int column);

/* Whether @out gets colours. */
bool cl_is_colourful(FILE *out);

/* ---- tables ---- */

struct cl_column {
	const char *title;
	int width; /* what is wider is cut, with ".." at its end */
	bool is_right;
};

/* One space between columns, none behind the last. */
void cl_table_head(FILE *out, const struct cl_column *columns, size_t count);
void cl_table_row(FILE *out, const struct cl_column *columns, size_t count,
		  const char *const *cells);

/* ---- bars ---- */

struct cl_part {
	uint64_t amount;
	char character;
	const char *colour; /* SGR parameters such as "32"; NULL: none */
};

/*
 * How many of @width characters each part gets: together @width (0 when all
 * amounts are 0), each in proportion, one at least for what is not nothing.
 * pre: width >= count.
 */
void cl_share(const struct cl_part *parts, size_t count, int width,
	      int *shares_out);

/* "[###==....]": @width characters between the brackets. */
void cl_bar(FILE *out, bool colourful, const struct cl_part *parts,
	    size_t count, int width);

#endif /* CLI_TEXT_H */
