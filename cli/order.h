/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Commands that tell the daemon to do something: one question, one answer,
 * one sentence. */
#ifndef CLI_ORDER_H
#define CLI_ORDER_H

#include "cli/json.h"

/* @sentence prints what the answer means, with a line end. */
int cl_order(const struct cl_options *options, enum ps_question question,
	     void (*sentence)(FILE *out, const json_t *answer));

/* "2 clients with 48.0 GiB". Lives until the next call. */
const char *cl_holders(const json_t *answer);

#endif /* CLI_ORDER_H */
