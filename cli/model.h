/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The table of models, printed to any stream, so that tests can read it.
 * @answer is the daemon's to PS_ASK_MODELS. */
#ifndef CLI_MODEL_H
#define CLI_MODEL_H

#include "cli/json.h"

void cl_print_models(FILE *out, const json_t *answer);
int cl_list_models(const struct cl_options *options);

#endif /* CLI_MODEL_H */
