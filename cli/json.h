/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Fields of the daemon's answers. A newer or older daemon may say more or
 * less: what is missing or of another type counts as 0, "" or false.
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include "cli/command.h"
#include "include/poolswitch.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* @path: "regions.parameter.bytes". Texts live as long as @object. */
const json_t *cl_json_at(const json_t *object, const char *path);
uint64_t cl_json_number(const json_t *object, const char *path);
const char *cl_json_text(const json_t *object, const char *path);
bool cl_json_is_true(const json_t *object, const char *path);

/* Indented and in ASCII, with a line end; NULL prints null. */
void cl_json_print(FILE *out, const json_t *json);

/*
 * Asks the daemon. Returns 0 with the answer, the caller's by json_decref();
 * else the exit status, and the failure has been told.
 */
int cl_ask(const struct cl_options *options, enum ps_question question,
	   json_t **answer_out);

/* The status, the models; NULL, without a word, when no daemon gives it. */
json_t *cl_ask_quietly(const struct cl_options *options);
json_t *cl_ask_models_quietly(const struct cl_options *options);

/* An object out of a daemon's text; NULL, and why, when it is none. */
json_t *cl_json_parse(const char *text, char *why, size_t room);

#endif /* CLI_JSON_H */
