/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pretend world around the daemon's core: clients, a clock, a GPU that
 * scrubs and remakes when it is told to, and a record of what the core said
 * to whom. For the unit tests and the fuzzer.
 *
 * It knows by itself what is in each segment and who ever had its descriptor,
 * and notes in @wrong the first thing that the core must never do: give away
 * what is not clean, what another user can still reach, what somebody has, or
 * what the journal does not say yet; open what a ticket is not good for; count
 * room outside that the driver does not have.
 */
#ifndef TESTS_SUPPORT_CORE_WORLD_H
#define TESTS_SUPPORT_CORE_WORLD_H

#include <setjmp.h>

#include "poold/core.h"

#define TC_SEGMENTS 256u
#define TC_CLIENTS 64u
#define TC_UNIT (UINT64_C(2) << 20)
#define TC_NOBODY UINT32_MAX
#define TC_ANYBODY (UINT32_MAX - 1) /* known_to: only remaking helps */

struct tc_segment {
	uint32_t holder; /* its slot; who was told so by GRANT */
	bool is_parked;
	bool is_written;   /* not zeros */
	uint32_t known_to; /* a user that had its descriptor; TC_NOBODY */
	bool is_scrubbing; /* the core asked for it */
	bool is_remaking;
	bool is_vacating;
	bool is_destroyed;
	bool is_outside;    /* its holder was told that it is destroyed */
	uint32_t lease;     /* grows with each grant */
	uint64_t opened_by; /* bits of slots */
};

enum tc_answer { TC_NONE, TC_GRANT, TC_DENY, TC_ROOM };

/* What the world knows of a ticket by itself. */
struct tc_ticket {
	struct pd_grant_of grant;
	uint32_t slot; /* of who issued it */
	uint32_t first;
	uint32_t count;
	uint32_t lease[TC_SEGMENTS]; /* of the segments then */
};

struct tc_client {
	uint64_t id;
	uint8_t token[IP_TOKEN_BYTES];
	uint32_t uid;
	uint32_t seq; /* of its last TAKE */
	/* The last answer. */
	enum tc_answer answer;
	enum ps_status status;
	char text[IP_TEXT_MAX + 1];
	uint32_t count;
	uint32_t segment[TC_SEGMENTS]; /* with IP_SEGMENT_PARKED */
	uint32_t answers;
	/* The last RECALL. */
	uint32_t recalls;
	uint32_t recall_seq;
	uint32_t recall_count;
	uint32_t recall_ms;
};

struct tc_world {
	uint32_t segments;
	uint32_t first; /* of the computation region */
	uint32_t clients;
	uint64_t now_ms;
	uint64_t armed_ms;
	uint64_t last_id;
	uint64_t rooms; /* answers that brought room outside */
	struct pd_limits limits;
	struct pd_journal *journal;
	struct pd_core *core;
	struct tc_segment segment[TC_SEGMENTS];
	struct tc_client client[TC_CLIENTS];
	char wrong[256];  /* "": nothing */
	uint64_t ops;     /* steps so far */
	uint64_t kill_at; /* the agent dies in this one; 0: it does not */
	jmp_buf killed;
};

/* @computation segments after @parameter ones. False: no memory. */
bool tc_open(struct tc_world *world, uint32_t parameter, uint32_t computation,
	     uint32_t clients);
void tc_close(struct tc_world *world);
/* The agent dies and another takes its place: clients are away, what waited
 * is forgotten; what was being destroyed for them is theirs by the journal.
 * False: no memory. */
bool tc_restart(struct tc_world *world);

/* In segments; @limit 0: none. Returns what pd_core_admit() says. */
enum ps_status tc_admit(struct tc_world *world, uint32_t uid,
			uint64_t reservation, uint64_t limit,
			uint32_t *slot_out);
enum ps_status tc_resume(struct tc_world *world, uint32_t slot);

/* Returns the answer if there is one at once. */
enum tc_answer tc_take(struct tc_world *world, uint32_t slot, uint32_t count,
		       uint32_t wait_ms, uint32_t flags);
/* @parked: as that, else unmapped. */
enum ps_status tc_give(struct tc_world *world, uint32_t slot,
		       const uint32_t *segments, uint32_t count, bool parked);
/* @count of those that it has; parked ones (@from_parked) or others. */
enum ps_status tc_give_some(struct tc_world *world, uint32_t slot,
			    uint32_t count, bool from_parked, bool parked);
/* @count at most of those that are destroyed. */
enum ps_status tc_give_room(struct tc_world *world, uint32_t slot,
			    uint32_t count);
/* Answers its last RECALL with @count segments, parked ones first. */
enum ps_status tc_recalled(struct tc_world *world, uint32_t slot,
			   uint32_t count);

/* A ticket for all of these; of one run. */
enum ps_status tc_issue(struct tc_world *world, uint32_t slot, uint32_t first,
			uint32_t count, struct tc_ticket *ticket_out);
enum ps_status tc_use(struct tc_world *world, uint32_t slot,
		      const struct tc_ticket *ticket);
/* By what the world knows, but for the number of those who have it open. */
bool tc_is_good(const struct tc_world *world, uint32_t slot,
		const struct tc_ticket *ticket);
/* Compares HELD with what the client was told; true: they agree. */
bool tc_agrees(const struct tc_world *world, uint32_t slot);
/* Closes @count segments from @first on. */
enum ps_status tc_unuse(struct tc_world *world, uint32_t slot, uint32_t first,
			uint32_t count);
enum ps_status tc_export(struct tc_world *world, uint32_t slot, uint32_t n);

void tc_dead(struct tc_world *world, uint32_t slot);
void tc_reclaim(struct tc_world *world, uint32_t slot, bool safe);
void tc_wait(struct tc_world *world, uint64_t ms);

/* The GPU does all that it was asked to, until nothing is left. */
void tc_work(struct tc_world *world);
void tc_scrubbed(struct tc_world *world, uint32_t n, enum ps_status status);
void tc_remade(struct tc_world *world, uint32_t n, enum ps_status status);
void tc_vacated(struct tc_world *world, uint32_t n, enum ps_status status);
/* The first that it was asked for; TC_NOBODY: none. */
uint32_t tc_first_scrub(const struct tc_world *world);
uint32_t tc_first_remake(const struct tc_world *world);
uint32_t tc_first_vacate(const struct tc_world *world);

/* Notes it in @wrong if it is the first. */
void tc_complain(struct tc_world *world, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Each call out of the core is a step, and what a test makes one: a place
 * where the agent can die. */
void tc_step(struct tc_world *world);

/* How many it holds, by what it was told. */
uint32_t tc_holds(const struct tc_world *world, uint32_t slot);
/* Of these, how many are destroyed; how many of others it has open. */
uint32_t tc_outside(const struct tc_world *world, uint32_t slot);
uint32_t tc_opened(const struct tc_world *world, uint32_t slot);

#endif /* TESTS_SUPPORT_CORE_WORLD_H */
