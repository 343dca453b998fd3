/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* poolswitch model: what the daemon keeps of models, and what it is to do with
 * them. */
#include "cli/model.h"

#include "cli/exit.h"
#include "cli/progress.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define TIMEOUT_MAX_S 86400

/* ---- what the words say ---- */

/* A whole number without a sign and nothing behind it. */
static bool read_number(const char *text, unsigned long most,
			unsigned long *number_out)
{
	unsigned long number;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	number = strtoul(text, &end, 10);
	if (*end || errno != 0 || number > most)
		return false;
	*number_out = number;
	return true;
}

/* Says what is wrong; else EX_OK. */
static int read_timeout(const struct cl_options *options, int *ms_out)
{
	unsigned long seconds;

	if (!options->timeout)
		return EX_OK;
	if (!read_number(options->timeout, TIMEOUT_MAX_S, &seconds))
		return cl_fail_text(options, EX_USAGE,
				    "--timeout is %s, must be 0 to %d seconds",
				    options->timeout, TIMEOUT_MAX_S);
	*ms_out = (int)seconds * 1000;
	return EX_OK;
}

static int read_plan(const struct cl_options *options,
		     struct ps_model_source *source)
{
	static const char *const names[] = {
		[PS_PLAN_BEST] = "best",
		[PS_PLAN_TENSOR] = "tensor",
		[PS_PLAN_LAYER] = "layer",
		[PS_PLAN_ONE] = "one",
	};
	unsigned long groups;

	if (!options->plan)
		return EX_OK;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(options->plan, names[i]) == 0) {
			source->plan = (enum ps_model_plan)i;
			return EX_OK;
		}
	}
	if (!read_number(options->plan, UINT32_MAX, &groups) || groups == 0)
		return cl_fail_text(options, EX_USAGE,
				    "--plan is %s, must be best, tensor, "
				    "layer, one or a number of groups",
				    options->plan);
	source->plan = PS_PLAN_GROUPS;
	source->groups = (uint32_t)groups;
	return EX_OK;
}

/* ---- add ---- */

static int print_added(const struct cl_options *options, const char *name,
		       const unsigned char hash[PS_MODEL_HASH_BYTES])
{
	char digits[2 * PS_MODEL_HASH_BYTES + 1];
	json_t *json;

	for (size_t i = 0; i < PS_MODEL_HASH_BYTES; i++)
		snprintf(digits + 2 * i, 3, "%02x", hash[i]);
	if (options->is_json) {
		json = json_pack("{s:s, s:s}", "name", name, "hash", digits);
		cl_json_print(stdout, json);
		json_decref(json);
	} else {
		printf("%s is added, hash %s\n", name, digits);
	}
	return cl_end(EX_OK);
}

static int add(const struct cl_options *options)
{
	struct ps_model_source source = {
		.struct_size = sizeof(source),
		.name = options->words[1],
		.path = options->words[2],
		.fd = -1,
		.flags = options->is_public ? PS_MODEL_PUBLIC : 0,
	};
	unsigned char hash[PS_MODEL_HASH_BYTES];
	int timeout_ms = PS_TIMEOUT_DEFAULT;
	enum ps_status status;
	struct cl_show *show;
	int code = read_plan(options, &source);

	if (code == EX_OK)
		code = read_timeout(options, &timeout_ms);
	if (code != EX_OK)
		return code;
	show = cl_show_begin(options, source.name);
	status = ps_model_add(options->socket, &source, timeout_ms, hash);
	cl_show_end(show);
	return status == PS_OK ? print_added(options, source.name, hash)
			       : cl_fail(options, status);
}

/* ---- the orders ---- */

static const struct verb {
	const char *word;
	enum ps_model_action action;
	const char *done; /* "NAME ..." */
} verbs[] = {
	{ "load", PS_MODEL_LOAD, "is on the GPU" },
	{ "prefetch", PS_MODEL_PREFETCH, "will be loaded behind all others" },
	{ "evict", PS_MODEL_EVICT, "is off the GPU" },
	{ "pin", PS_MODEL_PIN, "is on the GPU, and stays there" },
	{ "unpin", PS_MODEL_UNPIN, "makes room for others again" },
	{ "remove", PS_MODEL_REMOVE, "is forgotten" },
};

static const struct verb *find_verb(const char *word)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].word, word) == 0)
			return &verbs[i];
	}
	return NULL;
}

static int print_done(const struct cl_options *options, const struct verb *verb)
{
	json_t *json;

	if (options->is_json) {
		json = json_pack("{s:s, s:s}", "name", options->words[1],
				 "done", verb->word);
		cl_json_print(stdout, json);
		json_decref(json);
	} else {
		printf("%s %s\n", options->words[1], verb->done);
	}
	return cl_end(EX_OK);
}

static int order(const struct cl_options *options, const struct verb *verb)
{
	int timeout_ms = PS_TIMEOUT_DEFAULT;
	int code = read_timeout(options, &timeout_ms);
	enum ps_status status;
	struct cl_show *show;

	if (code != EX_OK)
		return code;
	show = cl_show_begin(options, options->words[1]);
	status = ps_model_order(options->socket, verb->action,
				options->words[1], timeout_ms);
	cl_show_end(show);
	return status == PS_OK ? print_done(options, verb)
			       : cl_fail(options, status);
}

/* ---- the command ---- */

/* How many words there are; @usage names them. A file's options go with a
 * file. */
static int check_words(const struct cl_options *options, unsigned int count,
		       const char *usage)
{
	bool is_add = count == 3;

	if (options->word_count == count &&
	    (is_add || (!options->plan && !options->is_public)))
		return EX_OK;
	return cl_fail_text(options, EX_USAGE, "it is poolswitch model %s%s",
			    usage,
			    is_add ? "" : "; --plan and --public are for add");
}

static int run(const struct cl_options *options)
{
	const char *word = options->word_count > 0 ? options->words[0] : "";
	const struct verb *verb = find_verb(word);
	char usage[32];
	int code;

	if (verb) {
		snprintf(usage, sizeof(usage), "%s NAME", verb->word);
		code = check_words(options, 2, usage);
		return code == EX_OK ? order(options, verb) : code;
	}
	if (strcmp(word, "add") == 0) {
		code = check_words(options, 3, "add NAME PATH");
		return code == EX_OK ? add(options) : code;
	}
	if (strcmp(word, "list") == 0) {
		code = check_words(options, 1, "list");
		return code == EX_OK ? cl_list_models(options) : code;
	}
	return cl_fail_text(options, EX_USAGE,
			    "model takes list, add, load, prefetch, evict, "
			    "pin, unpin or remove%s%s",
			    *word ? ", not " : "", word);
}

const struct cl_command cl_model = {
	.name = "model",
	.summary = "the models that the daemon keeps for the GPU",
	.text = "Lists the daemon's models; adds one from a safetensors file "
		"or the index of a sharded one; has one loaded onto the GPU, "
		"prefetched, evicted, pinned there, unpinned or removed.",
	.args = "list | add NAME PATH | "
		"load|prefetch|evict|pin|unpin|remove NAME",
	.takes = CL_TAKES_MODEL,
	.run = run,
};
