/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The pretend world's tickets, and its questions. */
#include "tests/support/core_world.h"

enum ps_status tc_issue(struct tc_world *world, uint32_t slot, uint32_t first,
			uint32_t count, struct tc_ticket *ticket_out)
{
	const struct ip_issue issue = {
		.run_count = 1,
		.run = { { first, count } },
		.bytes = count * TC_UNIT,
	};
	enum ps_status status =
		pd_core_issue(world->core, slot, &issue, &ticket_out->grant);
	uint32_t i;

	if (status != PS_OK)
		return status;
	ticket_out->slot = slot;
	ticket_out->first = first;
	ticket_out->count = count;
	for (i = 0; i < count; i++) {
		if (world->segment[first + i].holder != slot)
			tc_complain(world, "a ticket for another's segment %u",
				    first + i);
		ticket_out->lease[i] = world->segment[first + i].lease;
	}
	return PS_OK;
}

static bool is_lease(const struct tc_world *world,
		     const struct tc_ticket *ticket, uint32_t i)
{
	const struct tc_segment *segment = &world->segment[ticket->first + i];

	return segment->holder == ticket->slot && !segment->is_parked &&
	       !segment->is_outside && segment->lease == ticket->lease[i];
}

bool tc_is_good(const struct tc_world *world, uint32_t slot,
		const struct tc_ticket *ticket)
{
	const struct tc_client *owner = &world->client[ticket->slot];
	struct pd_client_view view;
	uint32_t i;

	if (!pd_core_client(world->core, ticket->slot, &view) ||
	    view.presence == PD_DEAD || owner->id != ticket->grant.owner ||
	    owner->uid != world->client[slot].uid || ticket->slot == slot)
		return false;
	for (i = 0; i < ticket->count; i++)
		if (!is_lease(world, ticket, i))
			return false;
	return true;
}

static void get_open(struct tc_world *world, uint32_t slot, uint32_t n)
{
	struct tc_segment *segment = &world->segment[n];
	struct pd_segment_record record = pd_journal_segment(world->journal, n);
	bool written = false;
	uint32_t k;

	for (k = 0; k < PD_OPENERS; k++)
		written |= record.openers[k] == slot;
	if (!written)
		tc_complain(world,
			    "segment %u is open before the journal says so", n);
	segment->opened_by |= UINT64_C(1) << slot;
}

enum ps_status tc_use(struct tc_world *world, uint32_t slot,
		      const struct tc_ticket *ticket)
{
	bool good = tc_is_good(world, slot, ticket);
	uint32_t list[TC_SEGMENTS], count, i;
	enum ps_status status;

	status = pd_core_open(world->core, slot, &ticket->grant, list, &count);
	if (status != PS_OK)
		return status;
	tc_step(world);
	if (!good)
		tc_complain(world, "a ticket of %u that is not good opens",
			    ticket->slot);
	for (i = 0; i < count; i++) {
		if (count != ticket->count || list[i] != ticket->first + i)
			tc_complain(world, "a ticket opens segment %u",
				    list[i]);
		get_open(world, slot, list[i]);
	}
	return PS_OK;
}

enum ps_status tc_unuse(struct tc_world *world, uint32_t slot, uint32_t first,
			uint32_t count)
{
	struct ip_list list = { .count = count };
	uint32_t i;

	for (i = 0; i < count; i++) {
		list.segment[i] = first + i;
		world->segment[first + i].opened_by &= ~(UINT64_C(1) << slot);
	}
	return pd_core_close(world->core, slot, &list, world->now_ms);
}

enum ps_status tc_export(struct tc_world *world, uint32_t slot, uint32_t n)
{
	enum ps_status status = pd_core_export(world->core, slot, n);

	if (status == PS_OK)
		world->segment[n].known_to = TC_ANYBODY;
	return status;
}

/* ---- questions ---- */

uint32_t tc_holds(const struct tc_world *world, uint32_t slot)
{
	uint32_t n, count = 0;

	for (n = world->first; n < world->segments; n++)
		count += world->segment[n].holder == slot;
	return count;
}

uint32_t tc_outside(const struct tc_world *world, uint32_t slot)
{
	uint32_t n, count = 0;

	for (n = world->first; n < world->segments; n++)
		count += world->segment[n].holder == slot &&
			 world->segment[n].is_outside;
	return count;
}

uint32_t tc_opened(const struct tc_world *world, uint32_t slot)
{
	uint32_t n, count = 0;

	for (n = world->first; n < world->segments; n++)
		count += world->segment[n].opened_by >> slot & 1;
	return count;
}

static bool is_told(const struct tc_world *world, uint32_t slot, uint32_t entry)
{
	const struct tc_segment *segment =
		&world->segment[entry & IP_SEGMENT_NUMBER];

	if (entry & IP_SEGMENT_OPENED)
		return (segment->opened_by >> slot & 1) != 0;
	return segment->holder == slot &&
	       segment->is_parked == ((entry & IP_SEGMENT_PARKED) != 0) &&
	       segment->is_outside == ((entry & IP_SEGMENT_OUTSIDE) != 0);
}

bool tc_agrees(const struct tc_world *world, uint32_t slot)
{
	uint32_t held[TC_SEGMENTS], i;
	uint32_t count = pd_core_held(world->core, slot, 0, held, TC_SEGMENTS);

	if (count != tc_holds(world, slot) + tc_opened(world, slot))
		return false;
	for (i = 0; i < count; i++)
		if (!is_told(world, slot, held[i]))
			return false;
	return true;
}
