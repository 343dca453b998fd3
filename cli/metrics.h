/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's status as metrics for Prometheus, in the text format 0.0.4.
 * Each metric is written once, in the tables of metrics.c.
 */
#ifndef CLI_METRICS_H
#define CLI_METRICS_H

#include "cli/json.h"

/*
 * [{name, type, help, samples: [{labels: {}, value}]}] out of @status; NULL
 * when no daemon answers: then poolswitch_up says 0, and it is alone. The
 * caller's by json_decref(); NULL: no memory.
 */
json_t *cl_metrics_of(const json_t *status);

void cl_metrics_print(FILE *out, const json_t *metrics);

/* ---- serving them ---- */

struct sockaddr_storage;

/*
 * "127.0.0.1:9464", "[::1]:9464", "localhost:0". False, and why, for what is
 * no address and port, and for every address but the loopback's: nothing of
 * poolswitch listens on a network.
 */
bool cl_listen_parse(const char *text, struct sockaddr_storage *address_out,
		     char *why, size_t room);

/* Serves until SIGINT or SIGTERM. Returns the exit status. */
int cl_metrics_serve(const struct cl_options *options);

#endif /* CLI_METRICS_H */
