/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Room for memory that the pool cannot hold: segments that are a client's and
 * destroyed, so that it can take as many bytes from the driver.
 *
 * A request for it stays in the queue while its segments are destroyed, and is
 * answered when the driver has the bytes of all of them. Until then they are
 * pending: in the journal they are the client's, but it knows of none, so they
 * go back by themselves when it goes or its time is over. One whose bytes
 * somebody still uses goes back at once, and the request wants another.
 *
 * Invariants
 *   While a segment is being vacated nothing else is asked for it.
 *   A client's pending ones come first in its list of OUTSIDE ones.
 */
#include "poold/core_internal.h"

#include "base/status.h"

void pd_outside_begin(struct pd_core *core, struct pd_client *client,
		      const uint32_t *segments, uint32_t count)
{
	struct pd_request *request = &client->request;
	uint64_t until = core->now_ms + PD_VACATE_MS;
	uint32_t i, n;

	request->pending += count;
	request->vacating += count;
	request->is_first = false;
	if (request->until_ms < until)
		request->until_ms = until;
	for (i = 0; i < count; i++) {
		n = segments[i];
		pd_segment_set(core, n, PD_OUTSIDE, pd_slot(core, client),
			       client->user);
		core->segments[n].is_pending = true;
		core->segments[n].is_vacating = true;
		core->ops.vacate(core->owner, n);
	}
}

void pd_outside_drop(struct pd_core *core, struct pd_client *client)
{
	client->request.pending = 0;
	client->request.vacating = 0;
	core->was_dropped = true;
	while (client->first_outside != PD_NONE &&
	       core->segments[client->first_outside].is_pending)
		pd_segment_remake(core, client->first_outside);
}

void pd_outside_expire(struct pd_core *core)
{
	uint32_t slot = core->queue_first;
	struct pd_client *client;

	while (slot != PD_NONE) {
		client = &core->clients[slot];
		slot = client->request.next;
		if (client->request.pending > 0 &&
		    client->request.until_ms <= core->now_ms)
			pd_queue_deny(core, client, PS_OUT_OF_MEMORY,
				      "are not free yet by the driver",
				      "somebody still has them mapped; ask "
				      "again later");
	}
}

static void answer(struct pd_core *core, struct pd_client *client)
{
	uint32_t n = client->first_outside, at = client->request.count;

	/* The last one came first into the list. */
	while (at > 0) {
		core->chosen[--at] = n;
		core->segments[n].is_pending = false;
		n = core->segments[n].next;
	}
	client->request.pending = 0;
	pd_queue_drop(core, client);
	core->grants++;
	core->ops.grant_outside(core->owner, pd_slot(core, client),
				client->request.seq, core->chosen,
				client->request.count);
}

/* pre: it is pending. */
static void progress(struct pd_core *core, uint32_t n, enum ps_status status)
{
	struct pd_client *client = &core->clients[core->segments[n].client];
	struct pd_request *request = &client->request;

	request->vacating--;
	if (status != PS_OK) {
		request->pending--;
		pd_segment_remake(core, n);
	}
	if (request->vacating == 0 && request->pending == request->count)
		answer(core, client);
}

void pd_core_vacated(struct pd_core *core, uint32_t n, enum ps_status status,
		     uint64_t now_ms)
{
	pd_core_set_time(core, now_ms);
	if (!pd_is_computation(core, n) || !core->segments[n].is_vacating)
		return;
	core->segments[n].is_vacating = false;
	if (status == PS_DEVICE_LOST)
		pd_core_lose(core);
	if (core->is_lost)
		return;
	/* Given back meanwhile. */
	if (core->segments[n].state == PD_REMAKING)
		core->ops.remake(core->owner, n);
	else
		progress(core, n, status);
	pd_queue_serve(core);
}
