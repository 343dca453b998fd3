/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/report.h"

#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ------------------------------------------------------------------ */
/* Parts                                                               */

/* JSON's integers are signed here. */
static json_t *number(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

/* What is not ASCII may not be UTF-8 either, and JSON is. */
static json_t *text(const char *from, size_t room)
{
	size_t size = strnlen(from, room);
	char *copy = malloc(size + 1);
	json_t *value;

	if (!copy)
		return NULL;
	for (size_t i = 0; i < size; i++)
		copy[i] = (unsigned char)from[i] < 128 ? from[i] : '?';
	copy[size] = '\0';
	value = json_string(copy);
	free(copy);
	return value;
}

static json_t *whole_text(const char *from)
{
	return from ? text(from, SIZE_MAX) : json_null();
}

static json_t *id_text(const uint8_t *id, size_t size)
{
	char digits[2 * IP_POOL_ID_BYTES + 1];

	for (size_t i = 0; i < size; i++)
		snprintf(digits + 2 * i, 3, "%02x", id[i]);
	return json_string(digits);
}

static json_t *gpu_part(const struct pd_report *report)
{
	return json_pack("{s:o, s:o}", "uuid", whole_text(report->gpu), "free",
			 number(report->gpu_free));
}

static json_t *pool_part(const struct pd_pool_record *pool)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "id",
			 id_text(pool->id, sizeof(pool->id)), "bytes",
			 number(pool->segments * pool->segment_bytes),
			 "segment_bytes", number(pool->segment_bytes),
			 "segments", number(pool->segments), "window_base",
			 number(pool->window_base), "window_bytes",
			 number(pool->window_bytes));
}

static json_t *regions_part(const struct pd_totals *totals)
{
	uint64_t known = totals->leased + totals->parked + totals->outside +
			 totals->clean + totals->dirty + totals->remaking +
			 totals->quarantined;
	uint64_t other =
		totals->computation > known ? totals->computation - known : 0;

	return json_pack(
		"{s:{s:o}, s:{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
		"s:o}}",
		"parameter", "bytes", number(totals->parameter), "computation",
		"bytes", number(totals->computation), "leased",
		number(totals->leased), "parked", number(totals->parked),
		"outside", number(totals->outside), "clean",
		number(totals->clean), "dirty", number(totals->dirty),
		"remaking", number(totals->remaking), "quarantined",
		number(totals->quarantined), "other", number(other),
		"guaranteed", number(totals->guaranteed));
}

static json_t *limits_part(const struct pd_report *report)
{
	const struct pd_limits *limits = report->limits;

	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "file",
			 whole_text(report->limits_file), "clients",
			 number(limits->clients), "clients_of_user",
			 number(limits->clients_of_user), "messages",
			 number(limits->messages), "client_limit",
			 number(limits->client_limit), "client_reservation_max",
			 number(limits->client_reservation_max));
}

static json_t *counters_part(const struct pd_counters *counters,
			     const struct pd_totals *totals)
{
	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
		"s:o}",
		"grants", number(totals->grants), "denials",
		number(totals->denials), "recalls", number(totals->recalls),
		"reclaims", number(totals->reclaims), "scrubs",
		number(totals->scrubs), "remakes", number(totals->remakes),
		"attached", number(counters->attached), "resumed",
		number(counters->resumed), "refused", number(counters->refused),
		"throttled", number(counters->throttled), "stuck",
		number(counters->stuck), "keeper_starts",
		number(counters->keeper_starts), "messages",
		number(counters->messages));
}

static json_t *models_part(const struct pd_model_totals *models)
{
	return json_pack(
		"{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "count",
		number(models->count), "resident", number(models->resident),
		"resident_bytes", number(models->resident_bytes), "host_bytes",
		number(models->host_bytes), "host_budget",
		number(models->host_budget), "loads", number(models->loads),
		"evictions", number(models->evictions), "failures",
		number(models->failures), "deaf", number(models->deaf));
}

/* ------------------------------------------------------------------ */
/* Clients                                                             */

static const char *presence_name(enum pd_presence presence)
{
	switch (presence) {
	case PD_HERE:
		return "here";
	case PD_AWAY:
		return "away";
	default:
		return "dead";
	}
}

static json_t *client_id(uint64_t id)
{
	char digits[17];

	snprintf(digits, sizeof(digits), "%016" PRIx64, id);
	return json_string(digits);
}

static json_t *client_part(const struct pd_client_view *view,
			   const struct pd_client_extra *extra)
{
	const struct pd_client_record *record = &view->record;
	bool is_dead = view->presence == PD_DEAD;
	uint64_t had = view->leased + view->parked + view->outside;

	return json_pack(
		"{s:i, s:o, s:o, s:i, s:o, s:o, s:s, s:o, s:b, s:b, s:o, s:o, "
		"s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o}",
		"slot", (int)view->slot, "id", client_id(record->id), "name",
		text(record->name, sizeof(record->name)), "pid",
		(int)record->pid, "uid", number(record->uid), "gid",
		number(record->gid), "presence", presence_name(view->presence),
		"reason", text(extra->reason, sizeof(extra->reason)), "mps",
		(int)((record->flags & IP_ATTACH_MPS) != 0), "waits",
		(int)view->waits, "leased", number(is_dead ? 0 : view->leased),
		"parked", number(is_dead ? 0 : view->parked), "outside",
		number(is_dead ? 0 : view->outside), "opened",
		number(view->opened), "quarantined", number(is_dead ? had : 0),
		"reservation", number(record->reservation), "limit",
		number(record->limit), "answered", (int)extra->has_answered,
		"live", number(extra->polled.live), "cached",
		number(extra->polled.cached), "passed",
		number(extra->polled.passed), "blocks",
		number(extra->polled.blocks));
}

static json_t *clients_part(const struct pd_report *report)
{
	json_t *clients = json_array();
	struct pd_client_extra extra;
	struct pd_client_view view;

	for (uint32_t i = 0; clients && i < report->pool->clients; i++) {
		if (!pd_core_client(report->core, i, &view))
			continue;
		report->look(report->owner, i, &extra);
		if (json_array_append_new(clients,
					  client_part(&view, &extra)) != 0) {
			json_decref(clients);
			return NULL;
		}
	}
	return clients;
}

/* ------------------------------------------------------------------ */
/* Whole answers                                                       */

/* NULL when one of the parts is. */
static char *dump(json_t *whole)
{
	char *dumped;

	if (!whole)
		return NULL;
	dumped = json_dumps(whole, JSON_COMPACT);
	json_decref(whole);
	return dumped;
}

char *pd_report_status(const struct pd_report *report)
{
	struct pd_totals totals;
	char protocol[32];
	char version[48];

	pd_core_totals(report->core, &totals);
	snprintf(version, sizeof(version), "%d.%d.%d", PS_VERSION_MAJOR,
		 PS_VERSION_MINOR, PS_VERSION_PATCH);
	snprintf(protocol, sizeof(protocol), "%u.%u", IP_MAJOR, IP_MINOR_HIGH);
	return dump(json_pack(
		"{s:s, s:s, s:s, s:b, s:o, s:i, s:i, s:f, s:o, s:o, s:o, s:o, "
		"s:o, s:o, s:o}",
		"version", version, "protocol", protocol, "state",
		report->state, "draining",
		(int)(strcmp(report->state, "draining") == 0), "socket",
		whole_text(report->socket), "agent_pid", (int)getpid(),
		"keeper_pid", (int)report->keeper, "uptime", report->uptime,
		"gpu", gpu_part(report), "pool", pool_part(report->pool),
		"regions", regions_part(&totals), "limits", limits_part(report),
		"counters", counters_part(report->counters, &totals), "models",
		models_part(&report->models), "clients", clients_part(report)));
}

char *pd_report_done(const struct pd_report *report)
{
	struct pd_totals totals;

	pd_core_totals(report->core, &totals);
	return dump(json_pack(
		"{s:b, s:s, s:s, s:o, s:o}", "done", 1, "state", report->state,
		"gpu", report->gpu, "clients", number(totals.clients), "leased",
		number(totals.leased + totals.parked + totals.outside)));
}

/* ------------------------------------------------------------------ */
/* On its way                                                          */

static enum ps_status write_all(int fd, const char *at, size_t size)
{
	while (size > 0) {
		ssize_t done = write(fd, at, size);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return bs_fail_errno("writing an answer of %zu bytes",
					     size);
		at += done;
		size -= (size_t)done;
	}
	return PS_OK;
}

static enum ps_status fill(int fd, const char *text, size_t size)
{
	int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	enum ps_status status = write_all(fd, text, size);

	if (status == PS_OK && fcntl(fd, F_ADD_SEALS, seals) != 0)
		status = bs_fail_errno("sealing an answer");
	return status;
}

enum ps_status pd_report_file(const char *text, int *fd_out,
			      uint32_t *bytes_out)
{
	size_t size = strlen(text);
	enum ps_status status;
	int fd;

	if (size > IP_ANSWER_MAX)
		return bs_fail(PS_OUT_OF_RANGE,
			       "the answer has %zu bytes, at most %u can be "
			       "sent",
			       size, IP_ANSWER_MAX);
	fd = memfd_create("poolswitch-answer", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 && (errno == EMFILE || errno == ENFILE))
		return bs_fail(PS_FD_LIMIT,
			       "the daemon has no descriptor left for an "
			       "answer; raise its limit of open files");
	if (fd < 0)
		return bs_fail_errno("making room for an answer");
	status = fill(fd, text, size);
	if (status != PS_OK) {
		close(fd);
		return status;
	}
	*fd_out = fd;
	*bytes_out = (uint32_t)size;
	return PS_OK;
}
