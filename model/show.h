/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A text from a file, in an error's sentence: short, fit for a terminal. */
#ifndef MODEL_SHOW_H
#define MODEL_SHOW_H

struct md_shown {
	char text[96];
};

struct md_shown md_show(const char *text);

#endif /* MODEL_SHOW_H */
