/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/json.h"

#include "cli/exit.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

const json_t *cl_json_at(const json_t *object, const char *path)
{
	char part[64];
	const char *dot;

	while (object && (dot = strchr(path, '.')) != NULL) {
		snprintf(part, sizeof(part), "%.*s", (int)(dot - path), path);
		object = json_object_get(object, part);
		path = dot + 1;
	}
	return object ? json_object_get(object, path) : NULL;
}

uint64_t cl_json_number(const json_t *object, const char *path)
{
	double value = json_number_value(cl_json_at(object, path));
	json_int_t whole = json_integer_value(cl_json_at(object, path));

	if (whole > 0)
		return (uint64_t)whole;
	return value > 0 && value < 1e18 ? (uint64_t)value : 0;
}

const char *cl_json_text(const json_t *object, const char *path)
{
	const char *text = json_string_value(cl_json_at(object, path));

	return text ? text : "";
}

bool cl_json_is_true(const json_t *object, const char *path)
{
	return json_is_true(cl_json_at(object, path));
}

void cl_json_print(FILE *out, const json_t *json)
{
	json_dumpf(json ? json : json_null(), out,
		   JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
	fputc('\n', out);
}

json_t *cl_json_parse(const char *text, char *why, size_t room)
{
	json_error_t error;
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	if (json_is_object(json))
		return json;
	snprintf(why, room, "%s", json ? "it is no object" : error.text);
	json_decref(json);
	return NULL;
}

/* PS_PROTOCOL: the answer cannot be read, *why says it. */
static enum ps_status ask(const char *socket, enum ps_question question,
			  json_t **answer_out, char *why, size_t room)
{
	enum ps_status status;
	json_t *answer;
	char *text;

	why[0] = '\0';
	status = ps_daemon_ask(socket, question, PS_TIMEOUT_DEFAULT, &text);
	if (status != PS_OK)
		return status;
	answer = cl_json_parse(text, why, room);
	free(text);
	if (!answer)
		return PS_PROTOCOL;
	*answer_out = answer;
	return PS_OK;
}

int cl_ask(const struct cl_options *options, enum ps_question question,
	   json_t **answer_out)
{
	char why[JSON_ERROR_TEXT_LENGTH];
	enum ps_status status =
		ask(options->socket, question, answer_out, why, sizeof(why));

	if (status == PS_OK)
		return EX_OK;
	if (why[0] == '\0')
		return cl_fail(options, status);
	return cl_fail_text(options, cl_exit_code(status),
			    "the daemon's answer cannot be read: %s; is it of "
			    "another version?",
			    why);
}

static json_t *ask_quietly(const struct cl_options *options,
			   enum ps_question question)
{
	char why[JSON_ERROR_TEXT_LENGTH];
	json_t *answer = NULL;

	if (ask(options->socket, question, &answer, why, sizeof(why)) != PS_OK)
		return NULL;
	return answer;
}

json_t *cl_ask_quietly(const struct cl_options *options)
{
	return ask_quietly(options, PS_ASK_STATUS);
}

json_t *cl_ask_models_quietly(const struct cl_options *options)
{
	return ask_quietly(options, PS_ASK_MODELS);
}
