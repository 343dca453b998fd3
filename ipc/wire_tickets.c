/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The fields of the messages about tickets and what they may be. What a ticket
 * says is for the daemon that wrote it alone: here it is so many bytes. */
#include "ipc/wire_fields.h"

#include "base/status.h"

#include <inttypes.h>

/* ------------------------------------------------------------------ */
/* Fields                                                              */

static void issue_fields(struct ip_cursor *c, struct ip_issue *issue)
{
	ip_field_u32(c, &issue->seq);
	ip_field_u32(c, &issue->run_count);
	ip_field_u64(c, &issue->offset);
	ip_field_u64(c, &issue->bytes);
	c->status = ip_check_range(c->type, "run_count", issue->run_count, 1,
				   IP_TICKET_RUNS);
	if (c->status != PS_OK)
		return;
	for (uint32_t i = 0; i < issue->run_count; i++) {
		ip_field_u32(c, &issue->run[i].first);
		ip_field_u32(c, &issue->run[i].count);
	}
}

static void opened_fields(struct ip_cursor *c, struct ip_opened *opened)
{
	ip_field_u32(c, &opened->seq);
	ip_field_u32(c, &opened->flags);
	ip_field_u64(c, &opened->offset);
	ip_field_u64(c, &opened->bytes);
	ip_field_numbers(c, &opened->count, opened->segment);
}

void ip_ticket_fields(struct ip_cursor *c, struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_ISSUE:
		issue_fields(c, &msg->body.issue);
		break;
	case IP_OPENED:
		opened_fields(c, &msg->body.opened);
		break;
	default: /* TICKET, OPEN */
		ip_field_u32(c, &msg->body.ticket.seq);
		ip_field_bytes(c, msg->body.ticket.ticket, IP_TICKET_BYTES);
		break;
	}
}

/* ------------------------------------------------------------------ */
/* What the fields may be                                              */

static enum ps_status check_granules(uint16_t type, const char *field,
				     uint64_t value, uint64_t least)
{
	enum ps_status status =
		ip_check_range(type, field, value, least, IP_ADDRESS_END);

	if (status == PS_OK && value % IP_TICKET_GRANULE != 0)
		status = bs_fail(PS_PROTOCOL,
				 "%s: %s is %" PRIu64 ", must be a multiple "
				 "of %u",
				 ip_type_name(type), field, value,
				 IP_TICKET_GRANULE);
	return status;
}

/* Where in its segments the memory lies. */
static enum ps_status check_place(uint16_t type, uint64_t offset,
				  uint64_t bytes)
{
	enum ps_status status = check_granules(type, "offset", offset, 0);

	if (status == PS_OK)
		status =
			check_granules(type, "bytes", bytes, IP_TICKET_GRANULE);
	return status;
}

static bool overlap(const struct ip_run *a, const struct ip_run *b)
{
	return a->first < b->first + b->count && b->first < a->first + a->count;
}

static enum ps_status check_runs(const struct ip_issue *issue)
{
	const struct ip_run *run = issue->run;
	enum ps_status status = PS_OK;

	for (uint32_t i = 0; i < issue->run_count && status == PS_OK; i++) {
		status = ip_check_run(IP_ISSUE, run[i].first, run[i].count,
				      IP_SEGMENTS_MAX);
		for (uint32_t j = 0; j < i && status == PS_OK; j++) {
			if (overlap(&run[i], &run[j]))
				status = bs_fail(PS_PROTOCOL,
						 "ISSUE: runs %" PRIu32
						 " and %" PRIu32 " overlap",
						 j, i);
		}
	}
	return status;
}

static enum ps_status check_issue(const struct ip_message *msg)
{
	const struct ip_issue *issue = &msg->body.issue;
	enum ps_status status = ip_check_seq(msg, issue->seq);

	if (status == PS_OK)
		status = ip_check_range(IP_ISSUE, "run_count", issue->run_count,
					1, IP_TICKET_RUNS);
	if (status == PS_OK)
		status = check_place(IP_ISSUE, issue->offset, issue->bytes);
	if (status == PS_OK)
		status = check_runs(issue);
	return status;
}

static enum ps_status check_opened(const struct ip_message *msg,
				   unsigned int fd_count)
{
	const struct ip_opened *opened = &msg->body.opened;
	enum ps_status status =
		ip_check_flags(msg, opened->flags, IP_LIST_MORE);

	if (status == PS_OK)
		status = check_place(IP_OPENED, opened->offset, opened->bytes);
	if (status == PS_OK)
		status = ip_check_range(IP_OPENED, "count", opened->count, 1,
					IP_LIST_MAX);
	if (status == PS_OK)
		status = ip_check_numbers(IP_OPENED, opened->segment,
					  opened->count, 0, IP_SEGMENTS_MAX);
	if (status == PS_OK)
		status = ip_check_range(IP_OPENED, "fd count", fd_count,
					opened->count, opened->count);
	return status;
}

enum ps_status ip_ticket_check(const struct ip_message *msg,
			       unsigned int fd_count)
{
	switch ((enum ip_type)msg->type) {
	case IP_ISSUE:
		return check_issue(msg);
	case IP_OPENED:
		return check_opened(msg, fd_count);
	case IP_OPEN:
		return ip_check_seq(msg, msg->body.ticket.seq);
	default:
		return PS_OK; /* TICKET: any bytes */
	}
}
