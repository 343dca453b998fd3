/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What status and clients show, printed to any stream, so that tests can read
 * it. @status is the daemon's answer to PS_ASK_STATUS. */
#ifndef CLI_VIEW_H
#define CLI_VIEW_H

#include "cli/json.h"

void cl_print_status(FILE *out, bool colourful, const json_t *status);
void cl_print_clients(FILE *out, const json_t *status);

/* Under a table of clients: what each dead one still waits for. */
void cl_print_reasons(FILE *out, const json_t *status);

/* "here", "away", "dead"; "waits" for one that is here and whose request is
 * not answered yet, "quiet" for one whose service thread said nothing now, so
 * that its own figures may be old. */
const char *cl_presence(const json_t *client);

/* What the client has of the driver: with room made for it in the pool, and
 * without. */
uint64_t cl_passed(const json_t *client);

#endif /* CLI_VIEW_H */
