/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/core_world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void tc_complain(struct tc_world *world, const char *format, ...)
{
	va_list args;

	if (world->wrong[0] != '\0')
		return;
	va_start(args, format);
	vsnprintf(world->wrong, sizeof(world->wrong), format, args);
	va_end(args);
}

/* ---- what the core asks for ---- */

void tc_step(struct tc_world *world)
{
	world->ops++;
	if (world->ops == world->kill_at)
		longjmp(world->killed, 1);
}

static void expect_written(struct tc_world *world, uint32_t slot, uint32_t n,
			   enum pd_segment_state state)
{
	struct pd_segment_record record = pd_journal_segment(world->journal, n);

	if (record.state != state || record.client != slot ||
	    record.user != world->client[slot].uid)
		tc_complain(world,
			    "segment %u is granted before the journal "
			    "says so",
			    n);
}

static void get_parked(struct tc_world *world, uint32_t slot, uint32_t n)
{
	struct tc_segment *segment = &world->segment[n];

	if (segment->holder != slot || !segment->is_parked)
		tc_complain(world, "segment %u is no parked one of %u", n,
			    slot);
	segment->is_parked = false;
}

static void get_clean(struct tc_world *world, uint32_t slot, uint32_t n)
{
	struct tc_segment *segment = &world->segment[n];
	uint32_t uid = world->client[slot].uid;

	if (segment->holder != TC_NOBODY)
		tc_complain(world, "segment %u of %u is granted to %u", n,
			    segment->holder, slot);
	if (segment->is_written)
		tc_complain(world, "segment %u is granted unscrubbed", n);
	if (segment->is_destroyed || segment->is_vacating)
		tc_complain(world, "segment %u is granted destroyed", n);
	if (segment->opened_by != 0)
		tc_complain(world, "segment %u is granted while it is open", n);
	if (segment->known_to != TC_NOBODY && segment->known_to != uid)
		tc_complain(world,
			    "segment %u of user %u is granted to user %u", n,
			    segment->known_to, uid);
	segment->holder = slot;
	segment->is_written = true;
	segment->known_to = uid;
}

static void on_grant(void *owner, uint32_t slot, uint32_t seq,
		     const uint32_t *segments, uint32_t count)
{
	struct tc_world *world = owner;
	struct tc_client *client = &world->client[slot];
	uint32_t i, n;

	for (i = 0; i < count; i++)
		expect_written(world, slot, segments[i] & ~IP_SEGMENT_PARKED,
			       PD_LEASED);
	tc_step(world);
	for (i = 0; i < count; i++) {
		n = segments[i] & ~IP_SEGMENT_PARKED;
		if (segments[i] & IP_SEGMENT_PARKED)
			get_parked(world, slot, n);
		else
			get_clean(world, slot, n);
		world->segment[n].lease++;
		client->segment[i] = segments[i];
	}
	if (seq != client->seq || client->answer != TC_NONE)
		tc_complain(world, "client %u is answered twice", slot);
	client->answer = TC_GRANT;
	client->count = count;
	client->answers++;
}

static void get_room(struct tc_world *world, uint32_t slot, uint32_t n)
{
	struct tc_segment *segment = &world->segment[n];

	if (segment->holder != TC_NOBODY)
		tc_complain(world, "segment %u of %u is room for %u", n,
			    segment->holder, slot);
	if (!segment->is_destroyed || segment->is_vacating)
		tc_complain(world, "segment %u is room and still there", n);
	segment->holder = slot;
	segment->is_outside = true;
}

static void on_grant_outside(void *owner, uint32_t slot, uint32_t seq,
			     const uint32_t *segments, uint32_t count)
{
	struct tc_world *world = owner;
	struct tc_client *client = &world->client[slot];
	uint32_t i;

	for (i = 0; i < count; i++)
		expect_written(world, slot, segments[i], PD_OUTSIDE);
	tc_step(world);
	for (i = 0; i < count; i++) {
		get_room(world, slot, segments[i]);
		client->segment[i] = segments[i];
	}
	if (seq != client->seq || client->answer != TC_NONE)
		tc_complain(world, "client %u is answered twice", slot);
	world->rooms++;
	client->answer = TC_ROOM;
	client->count = count;
	client->answers++;
}

static void on_deny(void *owner, uint32_t slot, uint32_t seq,
		    enum ps_status status, const char *text)
{
	struct tc_world *world = owner;
	struct tc_client *client = &world->client[slot];

	tc_step(world);
	if (seq != client->seq || client->answer != TC_NONE)
		tc_complain(world, "client %u is answered twice", slot);
	client->answer = TC_DENY;
	client->status = status;
	client->answers++;
	snprintf(client->text, sizeof(client->text), "%s", text);
}

static void on_recall(void *owner, uint32_t slot, uint32_t seq, uint32_t count,
		      uint32_t deadline_ms)
{
	struct tc_world *world = owner;
	struct tc_client *client = &world->client[slot];

	tc_step(world);
	client->recalls++;
	client->recall_seq = seq;
	client->recall_count = count;
	client->recall_ms = deadline_ms;
}

static void expect_free(struct tc_world *world, uint32_t n,
			enum pd_segment_state state)
{
	struct pd_segment_record record = pd_journal_segment(world->journal, n);
	const struct tc_segment *segment = &world->segment[n];

	if (record.state != state)
		tc_complain(world,
			    "segment %u is worked on before the journal "
			    "says so",
			    n);
	if (segment->holder != TC_NOBODY)
		tc_complain(world, "segment %u is worked on while %u has it", n,
			    segment->holder);
	if (segment->is_scrubbing || segment->is_remaking ||
	    segment->is_vacating)
		tc_complain(world, "segment %u is worked on twice", n);
	if (segment->opened_by != 0)
		tc_complain(world, "segment %u is worked on while it is open",
			    n);
}

static void on_scrub(void *owner, uint32_t n)
{
	struct tc_world *world = owner;

	tc_step(world);
	expect_free(world, n, PD_DIRTY);
	if (world->segment[n].is_destroyed)
		tc_complain(world, "segment %u is scrubbed destroyed", n);
	world->segment[n].is_scrubbing = true;
}

static void on_remake(void *owner, uint32_t n)
{
	struct tc_world *world = owner;

	tc_step(world);
	expect_free(world, n, PD_REMAKING);
	world->segment[n].is_remaking = true;
}

static void on_vacate(void *owner, uint32_t n)
{
	struct tc_world *world = owner;

	tc_step(world);
	expect_free(world, n, PD_OUTSIDE);
	world->segment[n].is_vacating = true;
}

static void on_arm(void *owner, uint64_t at_ms)
{
	struct tc_world *world = owner;

	tc_step(world);
	world->armed_ms = at_ms;
}

/* ---- life ---- */

static enum ps_status new_core(struct tc_world *world)
{
	const struct pd_core_config config = {
		.journal = world->journal,
		.limits = world->limits,
		.ops = { .grant = on_grant,
			 .deny = on_deny,
			 .recall = on_recall,
			 .scrub = on_scrub,
			 .remake = on_remake,
			 .vacate = on_vacate,
			 .grant_outside = on_grant_outside,
			 .arm = on_arm },
		.owner = world,
	};

	world->armed_ms = 0;
	return pd_core_new(&config, world->now_ms, &world->core);
}

bool tc_open(struct tc_world *world, uint32_t parameter, uint32_t computation,
	     uint32_t clients)
{
	const struct pd_pool_record pool = {
		.id = { 1 },
		.gpu = "GPU-00000000-0000-0000-0000-000000000001",
		.window_base = UINT64_C(1) << 44,
		.window_bytes = UINT64_C(1) << 40,
		.segment_bytes = TC_UNIT,
		.parameter_bytes = parameter * TC_UNIT,
		.segments = parameter + computation,
		.clients = clients,
	};
	uint32_t n;

	memset(world, 0, sizeof(*world));
	world->segments = pool.segments;
	world->first = parameter;
	world->clients = clients;
	world->now_ms = 1000;
	pd_limits_init(&world->limits);
	for (n = 0; n < pool.segments; n++) {
		world->segment[n].holder = TC_NOBODY;
		world->segment[n].known_to = TC_NOBODY;
	}
	if (pd_journal_create(&pool, &world->journal) != PS_OK)
		return false;
	return new_core(world) == PS_OK;
}

void tc_close(struct tc_world *world)
{
	pd_core_free(world->core);
	pd_journal_close(world->journal);
}

/* Its client is told by HELD when it comes back. */
static void learn_room(struct tc_world *world, uint32_t n)
{
	struct pd_segment_record record = pd_journal_segment(world->journal, n);
	struct tc_segment *segment = &world->segment[n];

	segment->is_scrubbing = false;
	segment->is_remaking = false;
	segment->is_vacating = false;
	if (record.state != PD_OUTSIDE || segment->holder != TC_NOBODY)
		return;
	segment->holder = record.client;
	segment->is_outside = true;
}

bool tc_restart(struct tc_world *world)
{
	uint32_t i;

	pd_core_free(world->core);
	world->core = NULL;
	for (i = 0; i < world->segments; i++)
		learn_room(world, i);
	for (i = 0; i < world->clients; i++)
		world->client[i].seq = 0;
	return new_core(world) == PS_OK;
}

/* ---- what clients do ---- */

enum ps_status tc_admit(struct tc_world *world, uint32_t uid,
			uint64_t reservation, uint64_t limit,
			uint32_t *slot_out)
{
	struct pd_client_record record = { .used = true }, granted;
	enum ps_status status;
	uint32_t slot;

	record.id = ++world->last_id;
	record.uid = uid;
	record.pid = 1000;
	record.reservation = reservation * TC_UNIT;
	record.limit = limit * TC_UNIT;
	memset(record.token, (int)(record.id & 0xff), sizeof(record.token));
	status = pd_core_admit(world->core, &record, world->now_ms, &slot,
			       &granted);
	if (status != PS_OK)
		return status;
	world->client[slot] =
		(struct tc_client){ .id = granted.id, .uid = uid };
	memcpy(world->client[slot].token, granted.token, IP_TOKEN_BYTES);
	*slot_out = slot;
	return PS_OK;
}

enum ps_status tc_resume(struct tc_world *world, uint32_t slot)
{
	struct pd_client_record granted;
	uint32_t same;

	return pd_core_resume(world->core, world->client[slot].id,
			      world->client[slot].token, &same, &granted);
}

enum tc_answer tc_take(struct tc_world *world, uint32_t slot, uint32_t count,
		       uint32_t wait_ms, uint32_t flags)
{
	struct tc_client *client = &world->client[slot];
	const struct ip_take take = {
		.seq = client->seq + 1,
		.count = count,
		.wait_ms = wait_ms,
		.flags = flags,
	};

	client->seq++;
	client->answer = TC_NONE;
	client->count = 0;
	if (pd_core_take(world->core, slot, &take, world->now_ms) != PS_OK)
		tc_complain(world, "TAKE is refused as a mistake");
	return client->answer;
}

static void let_go(struct tc_world *world, const struct ip_list *list,
		   bool parked)
{
	struct tc_segment *segment;
	uint32_t i;

	for (i = 0; i < list->count; i++) {
		segment = &world->segment[list->segment[i]];
		segment->is_parked = parked;
		if (parked)
			continue;
		segment->holder = TC_NOBODY;
		segment->is_outside = false;
	}
}

static void fill(struct ip_list *list, const uint32_t *segments, uint32_t count)
{
	*list = (struct ip_list){ .count = count };
	memcpy(list->segment, segments, count * sizeof(*segments));
}

enum ps_status tc_give(struct tc_world *world, uint32_t slot,
		       const uint32_t *segments, uint32_t count, bool parked)
{
	struct ip_list list;

	fill(&list, segments, count);
	if (parked)
		list.flags = IP_LIST_PARKED;
	let_go(world, &list, parked);
	return pd_core_give(world->core, slot, &list, world->now_ms);
}

static uint32_t pick(const struct tc_world *world, uint32_t slot, bool parked,
		     uint32_t most, uint32_t *to)
{
	uint32_t n, count = 0;

	if (most > IP_LIST_MAX)
		most = IP_LIST_MAX;
	for (n = world->first; n < world->segments && count < most; n++)
		if (world->segment[n].holder == slot &&
		    !world->segment[n].is_outside &&
		    world->segment[n].is_parked == parked)
			to[count++] = n;
	return count;
}

enum ps_status tc_give_some(struct tc_world *world, uint32_t slot,
			    uint32_t count, bool from_parked, bool parked)
{
	uint32_t list[IP_LIST_MAX];
	uint32_t found = pick(world, slot, from_parked, count, list);

	return tc_give(world, slot, list, found, parked);
}

enum ps_status tc_give_room(struct tc_world *world, uint32_t slot,
			    uint32_t count)
{
	uint32_t list[IP_LIST_MAX], found = 0, n;

	for (n = world->first; n < world->segments && found < count; n++)
		if (world->segment[n].holder == slot &&
		    world->segment[n].is_outside)
			list[found++] = n;
	return tc_give(world, slot, list, found, false);
}

enum ps_status tc_recalled(struct tc_world *world, uint32_t slot,
			   uint32_t count)
{
	struct ip_list list = { .seq = world->client[slot].recall_seq };

	list.count = pick(world, slot, true, count, list.segment);
	list.count += pick(world, slot, false, count - list.count,
			   list.segment + list.count);
	let_go(world, &list, false);
	return pd_core_recalled(world->core, slot, &list, world->now_ms);
}

/* ---- the end of clients ---- */

void tc_dead(struct tc_world *world, uint32_t slot)
{
	world->client[slot].answer = TC_NONE;
	pd_core_dead(world->core, slot, world->now_ms);
}

static void let_all_go(struct tc_world *world, uint32_t slot, uint32_t n,
		       bool safe)
{
	struct tc_segment *segment = &world->segment[n];
	uint64_t bit = UINT64_C(1) << slot;

	if (segment->holder != slot && (segment->opened_by & bit) == 0)
		return;
	/* Somebody may still write: scrubbing would not help. */
	if (!safe && !segment->is_outside)
		segment->known_to = TC_ANYBODY;
	segment->opened_by &= ~bit;
	if (segment->holder != slot)
		return;
	segment->holder = TC_NOBODY;
	segment->is_parked = false;
	segment->is_outside = false;
}

void tc_reclaim(struct tc_world *world, uint32_t slot, bool safe)
{
	uint32_t n;

	/* Slots that there are not have nothing to let go. */
	for (n = 0; slot < TC_CLIENTS && n < world->segments; n++)
		let_all_go(world, slot, n, safe);
	pd_core_reclaim(world->core, slot, safe, world->now_ms);
}

void tc_wait(struct tc_world *world, uint64_t ms)
{
	world->now_ms += ms;
	pd_core_tick(world->core, world->now_ms);
}

/* ---- the GPU ---- */

void tc_scrubbed(struct tc_world *world, uint32_t n, enum ps_status status)
{
	world->segment[n].is_scrubbing = false;
	if (status == PS_OK)
		world->segment[n].is_written = false;
	pd_core_scrubbed(world->core, n, status, world->now_ms);
}

void tc_remade(struct tc_world *world, uint32_t n, enum ps_status status)
{
	world->segment[n].is_remaking = false;
	if (status == PS_OK) {
		world->segment[n].is_written = false;
		world->segment[n].is_destroyed = false;
		world->segment[n].known_to = TC_NOBODY;
	}
	pd_core_remade(world->core, n, status, world->now_ms);
}

void tc_vacated(struct tc_world *world, uint32_t n, enum ps_status status)
{
	world->segment[n].is_vacating = false;
	world->segment[n].is_destroyed |= status == PS_OK;
	pd_core_vacated(world->core, n, status, world->now_ms);
}

uint32_t tc_first_scrub(const struct tc_world *world)
{
	uint32_t n;

	for (n = 0; n < world->segments; n++)
		if (world->segment[n].is_scrubbing)
			return n;
	return TC_NOBODY;
}

uint32_t tc_first_vacate(const struct tc_world *world)
{
	uint32_t n;

	for (n = 0; n < world->segments; n++)
		if (world->segment[n].is_vacating)
			return n;
	return TC_NOBODY;
}

uint32_t tc_first_remake(const struct tc_world *world)
{
	uint32_t n;

	for (n = 0; n < world->segments; n++)
		if (world->segment[n].is_remaking)
			return n;
	return TC_NOBODY;
}

void tc_work(struct tc_world *world)
{
	uint32_t n;

	do {
		for (n = world->first; n < world->segments; n++) {
			if (world->segment[n].is_scrubbing)
				tc_scrubbed(world, n, PS_OK);
			if (world->segment[n].is_remaking)
				tc_remade(world, n, PS_OK);
			if (world->segment[n].is_vacating)
				tc_vacated(world, n, PS_OK);
		}
	} while (tc_first_scrub(world) != TC_NOBODY ||
		 tc_first_remake(world) != TC_NOBODY ||
		 tc_first_vacate(world) != TC_NOBODY);
}
