/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * poolswitch run: becomes the program, with the preload library in front and
 * the options in its environment. What can be known to be wrong is said
 * before the program starts, since nobody reads it afterwards.
 */
#include "cli/run.h"

#include "base/size.h"
#include "base/status.h"
#include "cli/exit.h"
#include "cli/json.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define WHY_BYTES 256

/* ---- options ---- */

/* Where an option goes, and what it may be. */
struct setting {
	const char *option;
	const char *variable;
	size_t at; /* in struct cl_options */
	bool is_size;
	const char *words[4]; /* none: any text; ends with NULL */
};

#define AT(field) offsetof(struct cl_options, field)

/* clang-format off */
static const struct setting settings[] = {
	{ "--quota", "POOLSWITCH_QUOTA", AT(quota), true, { 0 } },
	{ "--reservation", "POOLSWITCH_RESERVATION", AT(reservation), true,
	  { 0 } },
	{ "--name", "POOLSWITCH_NAME", AT(name), false, { 0 } },
	{ "--socket", "POOLSWITCH_SOCKET", AT(socket), false, { 0 } },
	{ "--free", "POOLSWITCH_FREE", AT(free_mode), false,
	  { "fenced", "wait" } },
	{ "--at-quota", "POOLSWITCH_AT_QUOTA", AT(at_quota), false,
	  { "strict", "spill" } },
	{ "--no-daemon", "POOLSWITCH_NO_DAEMON", AT(no_daemon), false,
	  { "fail", "pass" } },
	{ "--log", "POOLSWITCH_LOG", AT(log), false,
	  { "off", "warn", "info" } },
};
/* clang-format on */

#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

static const char *value_of(const struct cl_options *options,
			    const struct setting *setting)
{
	return *(const char *const *)((const char *)options + setting->at);
}

static bool is_word(const struct setting *setting, const char *value)
{
	size_t i;

	for (i = 0; setting->words[i]; i++)
		if (strcmp(setting->words[i], value) == 0)
			return true;
	return i == 0;
}

static bool check_setting(const struct setting *setting, const char *value,
			  char *why, size_t room)
{
	const char *third = setting->words[2];
	uint64_t bytes;

	if (setting->is_size && bs_size_parse(value, 0, &bytes) != PS_OK) {
		snprintf(why, room, "%s: %s", setting->option, bs_fail_text());
		return false;
	}
	if (is_word(setting, value))
		return true;
	snprintf(why, room, "%s is '%s', must be %s%s%s or %s", setting->option,
		 value, setting->words[0], third ? ", " : "",
		 third ? setting->words[1] : "",
		 third ? third : setting->words[1]);
	return false;
}

static bool check_name(const char *name, char *why, size_t room)
{
	struct ps_attach_config *config;
	enum ps_status status = ps_attach_config_new(&config);

	if (status == PS_OK) {
		status = ps_attach_config_set_name(config, name);
		ps_attach_config_free(config);
	}
	if (status != PS_OK)
		snprintf(why, room, "--name: %s", ps_error_detail());
	return status == PS_OK;
}

bool cl_run_check(const struct cl_options *options, char *why, size_t room)
{
	const char *value;
	size_t i;

	if (!options->program) {
		snprintf(why, room, "run: which program?");
		return false;
	}
	for (i = 0; i < SETTINGS; i++) {
		value = value_of(options, &settings[i]);
		if (value && !check_setting(&settings[i], value, why, room))
			return false;
	}
	return !options->name || check_name(options->name, why, room);
}

static bool passes_without_daemon(const struct cl_options *options)
{
	const char *word = options->no_daemon;

	if (!word)
		word = getenv("POOLSWITCH_NO_DAEMON");
	return word && strcmp(word, "pass") == 0;
}

/* ---- the library ---- */

/* From the program's folder: beside it, where it was built, installed. */
static const char *const places[] = { ".", "../preload", CL_LIBDIR_FROM_BIN };

#define PLACES (sizeof(places) / sizeof(places[0]))

/* The folder that this program lies in. */
static bool own_folder(char folder[PATH_MAX])
{
	ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
	char *slash;

	if (length <= 0)
		return false;
	folder[length] = '\0';
	slash = strrchr(folder, '/');
	if (!slash)
		return false;
	*slash = '\0';
	return true;
}

/* realpath() of the first that is there; free() it. NULL: none. */
static char *find_library(const char *folder)
{
	char path[2 * PATH_MAX];
	char *found;
	size_t i;

	for (i = 0; i < PLACES; i++) {
		snprintf(path, sizeof(path), "%s/%s/%s", folder, places[i],
			 CL_PRELOAD_FILE);
		found = realpath(path, NULL);
		if (found && access(found, R_OK) == 0)
			return found;
		free(found);
	}
	return NULL;
}

static bool is_library(const char *entry, size_t length)
{
	const size_t size = strlen(CL_PRELOAD_FILE);

	return length >= size &&
	       memcmp(entry + length - size, CL_PRELOAD_FILE, size) == 0 &&
	       (length == size || entry[length - size - 1] == '/');
}

char *cl_preload_list(const char *library, const char *before)
{
	/* What ld.so takes for ends of entries. */
	static const char ends[] = ": ";
	size_t room = strlen(library) + (before ? strlen(before) : 0) + 2;
	char *list = malloc(room);
	size_t length, used;

	if (!list)
		return NULL;
	used = (size_t)snprintf(list, room, "%s", library);
	while (before && *(before += strspn(before, ends)) != '\0') {
		length = strcspn(before, ends);
		if (!is_library(before, length))
			used += (size_t)snprintf(list + used, room - used,
						 ":%.*s", (int)length, before);
		before += length;
	}
	return list;
}

/* ---- becoming the program ---- */

static bool set_environment(const struct cl_options *options, const char *list)
{
	bool is_set = setenv("LD_PRELOAD", list, 1) == 0;
	const char *value;
	size_t i;

	for (i = 0; i < SETTINGS; i++) {
		value = value_of(options, &settings[i]);
		if (value && setenv(settings[i].variable, value, 1) != 0)
			is_set = false;
	}
	return is_set;
}

static int become(const struct cl_options *options, const char *library)
{
	char *list = cl_preload_list(library, getenv("LD_PRELOAD"));
	bool is_set = list && set_environment(options, list);
	int code;

	free(list);
	if (!is_set)
		return cl_fail_text(options, EX_OSERR,
				    "no memory for the environment");
	execvp(options->program[0], options->program);
	code = errno == ENOENT ? CL_EXIT_NO_PROGRAM : CL_EXIT_NOT_EXECUTED;
	return cl_fail_text(options, code, "cannot run %s: %s",
			    options->program[0], strerror(errno));
}

static int run_with(const struct cl_options *options, const char *library)
{
	json_t *status;
	int code;

	if (strpbrk(library, ": "))
		return cl_fail_text(options, EX_UNAVAILABLE,
				    "%s cannot be preloaded: its path has a "
				    "space or a colon; install it elsewhere",
				    library);
	if (!passes_without_daemon(options)) {
		code = cl_ask(options, PS_ASK_PRESENCE, &status);
		if (code != EX_OK)
			return code;
		json_decref(status);
	}
	return become(options, library);
}

static int run(const struct cl_options *options)
{
	char folder[PATH_MAX] = ".";
	char why[WHY_BYTES];
	char *library;
	int code;

	if (!cl_run_check(options, why, sizeof(why)))
		return cl_fail_text(options, EX_USAGE, "%s", why);
	library = own_folder(folder) ? find_library(folder) : NULL;
	if (!library)
		return cl_fail_text(options, EX_UNAVAILABLE,
				    "%s is neither in %s nor in %s/%s; install "
				    "it with this program",
				    CL_PRELOAD_FILE, folder, folder,
				    CL_LIBDIR_FROM_BIN);
	code = run_with(options, library);
	free(library);
	return code;
}

const struct cl_command cl_run = {
	.name = "run",
	.summary = "start a CUDA program with its memory in the pool",
	.text = "Starts PROGRAM with the preload library in front: its device "
		"memory comes from the daemon's pool. Nothing is started when "
		"no daemon answers.",
	.args = "[--] PROGRAM [ARGUMENT...]",
	.takes = CL_TAKES_RUN,
	.run = run,
};
