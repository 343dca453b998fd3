/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/policy.h"

#include "base/size.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* As long as a socket's address; a name is shorter. */
#define TEXT_BYTES 108

/* The program may change its environment afterwards: copies. */
static char socket_text[TEXT_BYTES];
static char name_text[TEXT_BYTES];
static struct pl_policy policy = { .log = PL_LOG_WARN };
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* NULL: not set, or empty. */
static const char *find(const char *variable)
{
	const char *text = getenv(variable);

	return text == NULL || text[0] == '\0' ? NULL : text;
}

static void refuse(const char *variable)
{
	if (policy.bad == NULL)
		policy.bad = variable;
}

static const char *read_text(const char *variable, char copy[TEXT_BYTES])
{
	const char *text = find(variable);

	if (text == NULL)
		return NULL;
	if (strlen(text) >= TEXT_BYTES) {
		refuse(variable);
		return NULL;
	}
	memcpy(copy, text, strlen(text) + 1);
	return copy;
}

static uint64_t read_size(const char *variable)
{
	const char *text = find(variable);
	uint64_t bytes = 0;

	if (text != NULL && bs_size_parse(text, 0, &bytes) != PS_OK)
		refuse(variable);
	return bytes;
}

/* The number of the choice that is set. */
static int read_choice(const char *variable, const char *const choices[],
		       int otherwise)
{
	const char *text = find(variable);

	if (text == NULL)
		return otherwise;
	for (int i = 0; choices[i] != NULL; i++)
		if (strcmp(text, choices[i]) == 0)
			return i;
	refuse(variable);
	return otherwise;
}

static void read_all(void)
{
	static const char *const frees[] = { "fenced", "wait", NULL };
	static const char *const ends[] = { "strict", "spill", NULL };
	static const char *const alone[] = { "fail", "pass", NULL };
	static const char *const levels[] = { "off", "warn", "info", NULL };

	policy.socket = read_text("POOLSWITCH_SOCKET", socket_text);
	policy.name = read_text("POOLSWITCH_NAME", name_text);
	policy.quota = read_size("POOLSWITCH_QUOTA");
	policy.reservation = read_size("POOLSWITCH_RESERVATION");
	policy.free_waits = read_choice("POOLSWITCH_FREE", frees, 0) == 1;
	policy.spills = read_choice("POOLSWITCH_AT_QUOTA", ends, 0) == 1;
	policy.passes = read_choice("POOLSWITCH_NO_DAEMON", alone, 0) == 1;
	policy.log = (enum pl_log_level)read_choice("POOLSWITCH_LOG", levels,
						    PL_LOG_WARN);
}

const struct pl_policy *pl_policy(void)
{
	pthread_once(&once, read_all);
	return &policy;
}
