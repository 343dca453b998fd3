/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Guarantees and limits: arithmetic over counts, told of each change. */
#include "poold/core_internal.h"

#include <inttypes.h>

#include "base/arith.h"
#include "base/status.h"

uint64_t pd_segments_up(const struct pd_core *core, uint64_t bytes)
{
	return bytes / core->unit + (bytes % core->unit != 0);
}

uint64_t pd_segments_down(const struct pd_core *core, uint64_t bytes)
{
	return bytes / core->unit;
}

/* ---- the table of users ---- */

static uint32_t *bucket_of(const struct pd_core *core, uint32_t uid)
{
	return &core->bucket[uid * 2654435761u & (core->buckets - 1)];
}

uint32_t pd_user_find(const struct pd_core *core, uint32_t uid)
{
	uint32_t at = *bucket_of(core, uid);

	while (at != PD_NONE && core->users[at].uid != uid)
		at = core->users[at].next;
	return at;
}

static uint32_t user_new(struct pd_core *core, uint32_t uid)
{
	uint32_t at = core->unused_user;
	struct pd_user *user = &core->users[at];
	uint32_t *bucket = bucket_of(core, uid);

	core->unused_user = user->next;
	*user = (struct pd_user){ .uid = uid,
				  .next = *bucket,
				  .limit = UINT64_MAX };
	*bucket = at;
	return at;
}

uint32_t pd_user_ref(struct pd_core *core, uint32_t uid)
{
	uint32_t at = pd_user_find(core, uid);

	if (at == PD_NONE)
		at = user_new(core, uid);
	core->users[at].refs++;
	return at;
}

void pd_user_unref(struct pd_core *core, uint32_t at)
{
	struct pd_user *user = &core->users[at];
	uint32_t *link = bucket_of(core, user->uid);

	if (--user->refs > 0)
		return;
	while (*link != at)
		link = &core->users[*link].next;
	*link = user->next;
	user->next = core->unused_user;
	core->unused_user = at;
}

/* ---- what is owed ---- */

uint64_t pd_quota_common(const struct pd_user *user)
{
	uint64_t has = (uint64_t)user->held + user->bound + user->lacking;

	return pd_less(user->guarantee, has);
}

uint64_t pd_quota_owed(const struct pd_user *user)
{
	return user->lacking + pd_quota_common(user);
}

uint64_t pd_quota_slack(const struct pd_core *core)
{
	return pd_less(pd_free(core), core->owed);
}

static uint64_t promised_to(uint64_t guarantee, uint64_t reserved)
{
	return guarantee > reserved ? guarantee : reserved;
}

static void recount(struct pd_core *core, struct pd_user *user)
{
	uint64_t promised = promised_to(user->guarantee, user->reserved);
	uint64_t owed = pd_quota_owed(user);

	core->owed = core->owed - user->owed + owed;
	core->promised = core->promised - user->promised + promised;
	user->owed = owed;
	user->promised = promised;
}

void pd_quota_held(struct pd_core *core, struct pd_client *client, int taken)
{
	struct pd_user *user = &core->users[client->user];
	uint64_t lack = pd_lack(client);
	uint32_t more = (uint32_t)taken; /* wraps around for -1 */

	if (!pd_lives(client)) {
		user->quarantined += more;
		return;
	}
	/* The client's own counts are changed already. */
	user->lacking += lack;
	user->lacking -= pd_less(client->reserved, pd_held(client) - more);
	user->held += more;
	recount(core, user);
}

void pd_quota_bound(struct pd_core *core, uint32_t at, int more)
{
	struct pd_user *user = &core->users[at];

	user->bound += (uint32_t)more; /* wraps around for -1 */
	core->bound += (uint32_t)more;
	recount(core, user);
}

void pd_quota_join(struct pd_core *core, struct pd_client *client)
{
	struct pd_user *user = &core->users[client->user];

	user->reserved += client->reserved;
	user->lacking += pd_lack(client);
	user->held += pd_held(client);
	recount(core, user);
}

void pd_quota_part(struct pd_core *core, struct pd_client *client)
{
	struct pd_user *user = &core->users[client->user];

	user->reserved -= client->reserved;
	user->lacking -= pd_lack(client);
	user->held -= pd_held(client);
	recount(core, user);
}

/* ---- limits ---- */

uint64_t pd_quota_room(const struct pd_core *core,
		       const struct pd_client *client)
{
	const struct pd_user *user = &core->users[client->user];
	uint64_t left, spare;

	if (user->limit == UINT64_MAX)
		return UINT64_MAX;
	left = pd_less(user->limit,
		       (uint64_t)user->held + user->quarantined + user->shared);
	spare = pd_less(left, user->lacking);
	return pd_min(left, pd_lack(client) + spare);
}

static uint64_t client_limit(const struct pd_core *core, uint64_t own)
{
	uint64_t bytes = core->limits.client_limit;

	if (bytes == 0)
		return own;
	return pd_min(own, pd_segments_down(core, bytes));
}

uint64_t pd_quota_own_room(const struct pd_core *core,
			   const struct pd_client *client)
{
	return pd_less(client_limit(core, client->limit), pd_held(client));
}

static void forget_limits(struct pd_core *core)
{
	uint32_t i, at;

	for (i = 0; i < core->limits.users; i++) {
		at = pd_user_find(core, core->limits.user[i].uid);
		core->users[at].guarantee = 0;
		core->users[at].limit = UINT64_MAX;
		recount(core, &core->users[at]);
		pd_user_unref(core, at);
	}
}

static void learn_limit(struct pd_core *core, const struct pd_user_limit *entry)
{
	uint32_t at = pd_user_ref(core, entry->uid);
	struct pd_user *user = &core->users[at];

	if (entry->limit != 0)
		user->limit = pd_segments_down(core, entry->limit);
	user->guarantee =
		pd_min(pd_segments_up(core, entry->reservation), user->limit);
	user->excess =
		user->held + user->quarantined + user->shared + user->lacking;
	recount(core, user);
}

void pd_quota_limits(struct pd_core *core, const struct pd_limits *limits)
{
	uint32_t i;

	forget_limits(core);
	core->limits = *limits;
	for (i = 0; i < limits->users; i++)
		learn_limit(core, &limits->user[i]);
	core->debt = pd_less(core->owed, pd_coming(core));
}

/* ---- who may come ---- */

static enum ps_status too_many(const char *whose, uint32_t are, uint32_t most)
{
	return bs_fail(PS_REFUSED,
		       "%s %" PRIu32 " clients of %" PRIu32
		       " attached; let one detach, or raise the limit",
		       whose, are, most);
}

static enum ps_status check_numbers(const struct pd_core *core,
				    const struct pd_client_record *wanted)
{
	uint32_t at = pd_user_find(core, wanted->uid);
	uint32_t mine = at == PD_NONE ? 0 : core->users[at].clients;

	if (core->used_slots >= core->slots)
		return too_many("the journal is full:", core->used_slots,
				core->slots);
	if (core->used_slots >= core->limits.clients)
		return too_many("the daemon has", core->used_slots,
				core->limits.clients);
	if (mine >= core->limits.clients_of_user)
		return too_many("this user has", mine,
				core->limits.clients_of_user);
	return PS_OK;
}

static uint64_t granted_limit(const struct pd_core *core, uint64_t wish)
{
	uint64_t limit = core->end - core->first;

	if (wish != 0)
		limit = pd_min(limit, pd_segments_down(core, wish));
	return client_limit(core, limit);
}

static enum ps_status check_sizes(const struct pd_core *core,
				  const struct pd_client_record *wanted,
				  uint64_t reserved, uint64_t limit)
{
	if (wanted->reservation > core->limits.client_reservation_max)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a reservation of %" PRIu64
			       " bytes is more than the %" PRIu64
			       " that one client may ask for",
			       wanted->reservation,
			       core->limits.client_reservation_max);
	if (limit == 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a limit of %" PRIu64
			       " bytes is less than one segment of %" PRIu64,
			       wanted->limit, core->unit);
	if (reserved > limit)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a reservation of %" PRIu64 " bytes, %" PRIu64
			       " segments of %" PRIu64
			       ", is above the limit of %" PRIu64 " segments",
			       wanted->reservation, reserved, core->unit,
			       limit);
	return PS_OK;
}

static enum ps_status no_room(const struct pd_core *core, uint64_t reserved,
			      const char *why, uint64_t have, uint64_t owed)
{
	return bs_fail(PS_OUT_OF_MEMORY,
		       "a reservation of %" PRIu64
		       " bytes cannot be guaranteed: %s %" PRIu64
		       " bytes, of which %" PRIu64
		       " are promised to others; ask for less, or try again "
		       "when others have left",
		       reserved * core->unit, why, have * core->unit,
		       owed * core->unit);
}

/* The user's sums as they would be with the new client. */
static enum ps_status check_promise(const struct pd_core *core,
				    const struct pd_user *user,
				    uint64_t reserved)
{
	uint64_t region = core->end - core->first - core->damaged;
	uint64_t back = pd_coming(core);
	struct pd_user with = *user;
	uint64_t others, promised;

	with.reserved += reserved;
	with.lacking += reserved;
	promised = promised_to(with.guarantee, with.reserved);
	others = core->promised - user->promised;
	if (promised > user->promised && promised > pd_less(region, others))
		return no_room(core, reserved, "the region has", region,
			       core->promised);
	others = core->owed - user->owed;
	if (pd_quota_owed(&with) > user->owed &&
	    pd_quota_owed(&with) > pd_less(back, others))
		return no_room(core, reserved, "free or about to be are", back,
			       core->owed);
	with.held += with.bound;
	if (with.limit != UINT64_MAX && with.held + with.lacking > with.limit)
		return no_room(core, reserved, "the user may have", with.limit,
			       with.held + user->lacking);
	return PS_OK;
}

enum ps_status pd_quota_admit(const struct pd_core *core,
			      const struct pd_client_record *wanted,
			      uint64_t *reserved_out, uint64_t *limit_out)
{
	const struct pd_user nobody = { .limit = UINT64_MAX };
	uint64_t reserved = pd_segments_up(core, wanted->reservation);
	uint64_t limit = granted_limit(core, wanted->limit);
	uint32_t at = pd_user_find(core, wanted->uid);
	enum ps_status status;

	status = check_numbers(core, wanted);
	if (status == PS_OK)
		status = check_sizes(core, wanted, reserved, limit);
	if (status == PS_OK && reserved > 0)
		status = check_promise(
			core, at == PD_NONE ? &nobody : &core->users[at],
			reserved);
	if (status != PS_OK)
		return status;
	*reserved_out = reserved;
	*limit_out = limit;
	return PS_OK;
}
