/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The limits' file, read strictly: a key that is not known is a mistake, since
 * a misspelled limit that is passed over is no limit.
 *
 * Invariant: *limits_out is written only when the whole file is good.
 */
#include "poold/limits.h"

#include "base/arith.h"
#include "base/size.h"
#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

/* A file for the most users there may be is far smaller. */
#define FILE_MAX ((size_t)1 << 20)

#define CLIENTS_DEFAULT 1024u
#define MESSAGES_DEFAULT 20000u

/* What is read, and where, for the texts of mistakes. */
struct reading {
	const char *path;
	const char *text; /* of the file, with an end */
	const char *from; /* in it: what is read now stands behind this */
	uint64_t computation;
	struct pd_limits limits;
};

void pd_limits_init(struct pd_limits *limits_out)
{
	memset(limits_out, 0, sizeof(*limits_out));
	limits_out->clients = CLIENTS_DEFAULT;
	limits_out->clients_of_user = CLIENTS_DEFAULT;
	limits_out->messages = MESSAGES_DEFAULT;
	limits_out->client_reservation_max = UINT64_MAX;
}

/* ---- values ---- */

/*
 * jansson keeps no lines of values: the key is looked for in the text. Keys
 * stand in the file as they are spelled here, unless it writes them with
 * escapes; then the text names the file alone.
 */
static int line_of(const struct reading *reading, const char *key)
{
	const char *at = reading->text;
	size_t length = strlen(key);
	int line = 1;

	for (; *at != '\0'; at++) {
		if (*at == '\n')
			line++;
		if (at >= reading->from && *at == '"' &&
		    strncmp(at + 1, key, length) == 0 && at[length + 1] == '"')
			return line;
	}
	return 0;
}

/* A mistake in the value of @key, or in what is below it. */
static enum ps_status fail_key(const struct reading *reading, const char *key,
			       const char *what)
{
	int line = line_of(reading, key);

	if (line == 0)
		return bs_fail(PS_INVALID_ARGUMENT, "%s: \"%s\": %s",
			       reading->path, key, what);
	return bs_fail(PS_INVALID_ARGUMENT, "%s, line %d: \"%s\": %s",
		       reading->path, line, key, what);
}

static enum ps_status read_count(const struct reading *reading, const char *key,
				 const json_t *value, uint32_t least,
				 uint32_t *count_out)
{
	char what[80];

	if (!json_is_integer(value) || json_integer_value(value) < least ||
	    json_integer_value(value) > UINT32_MAX - 1) {
		snprintf(what, sizeof(what),
			 "a whole number from %" PRIu32 " to %" PRIu32
			 " is wanted",
			 least, UINT32_MAX - 1);
		return fail_key(reading, key, what);
	}
	*count_out = (uint32_t)json_integer_value(value);
	return PS_OK;
}

static enum ps_status read_size(const struct reading *reading, const char *key,
				const json_t *value, uint64_t *bytes_out)
{
	char what[200];

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*bytes_out = (uint64_t)json_integer_value(value);
		return PS_OK;
	}
	if (!json_is_string(value))
		return fail_key(reading, key,
				"a size is wanted: a number of bytes or a text "
				"such as \"40G\" or \"25%\"");
	if (bs_size_parse(json_string_value(value), reading->computation,
			  bytes_out) == PS_OK)
		return PS_OK;
	snprintf(what, sizeof(what), "%s", bs_fail_text());
	return fail_key(reading, key, what);
}

static enum ps_status read_ids(const struct reading *reading, const char *key,
			       const json_t *list, uint32_t *count_out,
			       uint32_t ids_out[PD_LIMIT_USERS])
{
	enum ps_status status = PS_OK;
	const json_t *value;
	size_t i;

	_Static_assert(sizeof(uid_t) == 4 && sizeof(gid_t) == 4, "ids");
	if (!json_is_array(list) || json_array_size(list) > PD_LIMIT_USERS)
		return fail_key(reading, key,
				"a list of at most 256 numbers is wanted");
	json_array_foreach(list, i, value)
	{
		status = read_count(reading, key, value, 0, &ids_out[i]);
		if (status != PS_OK)
			return status;
	}
	*count_out = (uint32_t)json_array_size(list);
	return PS_OK;
}

/* ---- one user ---- */

static enum ps_status read_user_keys(const struct reading *reading,
				     json_t *object, struct pd_user_limit *user)
{
	enum ps_status status = PS_OK;
	bool has_uid = false;
	const char *key;
	json_t *value;

	json_object_foreach(object, key, value)
	{
		if (strcmp(key, "uid") == 0) {
			status = read_count(reading, key, value, 0, &user->uid);
			has_uid = true;
		} else if (strcmp(key, "reservation") == 0) {
			status = read_size(reading, key, value,
					   &user->reservation);
		} else if (strcmp(key, "limit") == 0) {
			status = read_size(reading, key, value, &user->limit);
		} else {
			status = fail_key(reading, key,
					  "a user has no such key; uid, "
					  "reservation and limit are known");
		}
		if (status != PS_OK)
			return status;
	}
	return has_uid ? PS_OK
		       : fail_key(reading, "users", "a user has no uid");
}

static enum ps_status check_user(const struct reading *reading,
				 const struct pd_user_limit *user)
{
	char what[160];

	if (user->limit != 0 && user->reservation > user->limit) {
		snprintf(what, sizeof(what),
			 "user %u is guaranteed %" PRIu64 " bytes and limited "
			 "to %" PRIu64,
			 user->uid, user->reservation, user->limit);
		return fail_key(reading, "limit", what);
	}
	if (pd_limits_user(&reading->limits, user->uid)) {
		snprintf(what, sizeof(what), "user %u is there twice",
			 user->uid);
		return fail_key(reading, "uid", what);
	}
	return PS_OK;
}

/* Behind the next brace that opens, from @at on. */
static const char *next_object(const char *at)
{
	const char *brace = strchr(at, '{');

	return brace ? brace + 1 : at;
}

static enum ps_status read_user(struct reading *reading, json_t *object)
{
	struct pd_limits *limits = &reading->limits;
	struct pd_user_limit user = { 0 };
	enum ps_status status;

	if (!json_is_object(object))
		return fail_key(reading, "users",
				"a user is written {\"uid\": ...}");
	reading->from = next_object(reading->from);
	status = read_user_keys(reading, object, &user);
	if (status == PS_OK)
		status = check_user(reading, &user);
	if (status == PS_OK)
		limits->user[limits->users++] = user;
	return status;
}

static enum ps_status read_users(struct reading *reading, json_t *list)
{
	const char *users = strstr(reading->text, "\"users\"");
	enum ps_status status = PS_OK;
	json_t *object;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) > PD_LIMIT_USERS)
		return fail_key(reading, "users",
				"a list of at most 256 users is wanted");
	if (users)
		reading->from = users;
	json_array_foreach(list, i, object)
	{
		status = read_user(reading, object);
		if (status != PS_OK)
			break;
	}
	if (status == PS_OK)
		reading->from = reading->text;
	return status;
}

/* ---- the file ---- */

static enum ps_status read_key(struct reading *reading, const char *key,
			       json_t *value)
{
	struct pd_limits *limits = &reading->limits;

	if (strcmp(key, "clients") == 0)
		return read_count(reading, key, value, 1, &limits->clients);
	if (strcmp(key, "clients_of_user") == 0)
		return read_count(reading, key, value, 1,
				  &limits->clients_of_user);
	if (strcmp(key, "messages") == 0)
		return read_count(reading, key, value, 1, &limits->messages);
	if (strcmp(key, "client_limit") == 0)
		return read_size(reading, key, value, &limits->client_limit);
	if (strcmp(key, "client_reservation_max") == 0)
		return read_size(reading, key, value,
				 &limits->client_reservation_max);
	if (strcmp(key, "allowed_uids") == 0)
		return read_ids(reading, key, value, &limits->allowed_uids,
				limits->allowed_uid);
	if (strcmp(key, "allowed_gids") == 0)
		return read_ids(reading, key, value, &limits->allowed_gids,
				limits->allowed_gid);
	if (strcmp(key, "users") == 0)
		return read_users(reading, value);
	return fail_key(reading, key, "there is no such limit");
}

static enum ps_status read_object(struct reading *reading, json_t *object)
{
	enum ps_status status = PS_OK;
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%s, line 1: the limits are written {...}",
			       reading->path);
	json_object_foreach(object, key, value)
	{
		status = read_key(reading, key, value);
		if (status != PS_OK)
			return status;
	}
	if (!json_object_get(object, "clients_of_user"))
		reading->limits.clients_of_user = reading->limits.clients;
	return PS_OK;
}

/* All guarantees together. */
static enum ps_status check_sums(const struct reading *reading)
{
	const struct pd_limits *limits = &reading->limits;
	uint64_t sum = 0;
	char what[160];

	for (uint32_t i = 0; i < limits->users; i++)
		if (!bs_add(sum, limits->user[i].reservation, &sum))
			sum = UINT64_MAX;
	if (sum <= reading->computation)
		return PS_OK;
	snprintf(what, sizeof(what),
		 "all reservations are %" PRIu64 " bytes and the computation "
		 "region has %" PRIu64,
		 sum, reading->computation);
	return fail_key(reading, "users", what);
}

static enum ps_status parse(struct reading *reading)
{
	enum ps_status status;
	json_error_t error;
	json_t *object =
		json_loads(reading->text, JSON_REJECT_DUPLICATES, &error);

	if (!object)
		return bs_fail(PS_INVALID_ARGUMENT, "%s, line %d: %s",
			       reading->path, error.line, error.text);
	status = read_object(reading, object);
	if (status == PS_OK)
		status = check_sums(reading);
	json_decref(object);
	return status;
}

/* @text: room for FILE_MAX + 1 bytes. */
static enum ps_status load_fd(int fd, const char *path, char *text)
{
	size_t used = 0;
	ssize_t got;

	do {
		got = read(fd, text + used, FILE_MAX + 1 - used);
		if (got < 0 && errno != EINTR)
			return bs_fail_errno("reading %s", path);
		used += got > 0 ? (size_t)got : 0;
	} while (got != 0 && used <= FILE_MAX);
	if (used > FILE_MAX)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%s has more than %zu bytes: no file of limits",
			       path, FILE_MAX);
	text[used] = '\0';
	if (strlen(text) != used)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%s holds a zero byte: no file of limits", path);
	return PS_OK;
}

static enum ps_status load_file(const char *path, char *text)
{
	/* Opening a FIFO by mistake must not hang the daemon. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	enum ps_status status;
	struct stat file;

	if (fd < 0)
		return bs_fail_errno("opening the limits %s", path);
	if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode))
		status = bs_fail(PS_INVALID_ARGUMENT, "%s is no plain file",
				 path);
	else
		status = load_fd(fd, path, text);
	close(fd);
	return status;
}

enum ps_status pd_limits_read(const char *path, uint64_t computation,
			      struct pd_limits *limits_out)
{
	struct reading reading = { .path = path, .computation = computation };
	char *text = malloc(FILE_MAX + 2);
	enum ps_status status;

	if (!text)
		return bs_fail(PS_HOST_MEMORY, "no host memory to read %s",
			       path);
	pd_limits_init(&reading.limits);
	status = load_file(path, text);
	reading.text = text;
	reading.from = text;
	if (status == PS_OK)
		status = parse(&reading);
	if (status == PS_OK)
		*limits_out = reading.limits;
	free(text);
	return status;
}

/* ---- questions ---- */

bool pd_limits_allow(const struct pd_limits *limits, uid_t uid, gid_t gid)
{
	if (uid == 0 || uid == geteuid())
		return true;
	if (limits->allowed_uids == 0 && limits->allowed_gids == 0)
		return true;
	for (uint32_t i = 0; i < limits->allowed_uids; i++)
		if (limits->allowed_uid[i] == uid)
			return true;
	for (uint32_t i = 0; i < limits->allowed_gids; i++)
		if (limits->allowed_gid[i] == gid)
			return true;
	return false;
}

const struct pd_user_limit *pd_limits_user(const struct pd_limits *limits,
					   uid_t uid)
{
	for (uint32_t i = 0; i < limits->users; i++)
		if (limits->user[i].uid == uid)
			return &limits->user[i];
	return NULL;
}
