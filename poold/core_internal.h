/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the files of the core share.
 *
 *   core.c           life, clients, messages, questions
 *   core_adopt.c     a core from a journal
 *   core_quota.c     users, guarantees, limits: arithmetic only
 *   core_segments.c  states of segments, and all that follows from them
 *   core_choose.c    which segments to give
 *   core_outside.c   room for memory that the pool cannot hold
 *   core_share.c     tickets, and who has what open by them
 *   core_requests.c  who waits, in which order, for what
 *   core_recall.c    whom to ask for memory
 *   core_check.c     the validator
 *
 * All amounts in here are segments. Segments, clients and users are known by
 * their index; lists are chains of such, ended by PD_NONE. Nothing is
 * allocated after pd_core_new(), so nothing can fail for want of memory.
 *
 * What may be given to whom. Of the computation region
 *   free   is CLEAN, DIRTY or REMAKING
 *   held   is LEASED, PARKED or OUTSIDE by a client that is here or away, or
 *          SHARED and was given back by one: it stays charged with it, or
 *          its promise would be counted on memory that is not there
 *   bound  is open by somebody and its owner is dead or gone: it comes back
 *          when it is closed, which nobody can be promised
 *   owed   is what all who were promised something do not hold yet: of a
 *          user the larger of what he lacks himself and what his clients lack;
 *          what is bound counts as had by him
 *   slack  is free less owed
 * A client may take what it lacks, what its user lacks beyond what his
 * clients lack, and slack. So "owed is at most free" lasts: a taken segment
 * lowers both, or is slack; a given one raises free by one and owed by one at
 * most. A death moves segments out of both sides until its fence has passed;
 * what is bound then stays out of both until it is closed.
 */
#ifndef POOLD_CORE_INTERNAL_H
#define POOLD_CORE_INTERNAL_H

#include "poold/core.h"

#include <stdlib.h>

#define PD_CORE_MAGIC 0x65726f43u
#define PD_NONE UINT32_MAX
#define PD_MIXED (UINT32_MAX - 1) /* block_user: of more than one */
#define PD_BLOCK 64u              /* segments in a word of the bitmaps */

/* Room outside is made within this, or by the request's own deadline if that
 * is later: destroying takes its time whatever the client would wait. */
#define PD_VACATE_MS 1000u
/* A RECALL is answered within this, or the next client is asked. */
#define PD_RECALL_MS 1000u
/* So many clients are asked at once for what they may or may not have. */
#define PD_RECALLS_AT_ONCE 8u

struct pd_segment {
	enum pd_segment_state state;
	uint32_t client; /* as in the journal */
	uint32_t user;   /* who had it last; PD_NONE: nobody */
	uint32_t prev;   /* in its client's list, or among those that rest */
	uint32_t next;
	uint32_t stamp;   /* of the last list that it was seen in */
	uint32_t tries;   /* REMAKING: how often it failed */
	uint64_t due_ms;  /* REMAKING: the next try; 0: under way */
	bool is_pending;  /* OUTSIDE: its client was not told yet */
	bool is_vacating; /* asked for, not done; OUTSIDE or REMAKING */
	bool is_tainted;
	uint8_t opens; /* of the openers, at the start of the array */
	uint32_t epoch;
	uint16_t openers[PD_OPENERS];
};

struct pd_user {
	uint32_t uid;
	uint32_t next; /* in its bucket, or among the unused */
	uint32_t refs; /* clients, segments, a line in the limits */
	uint32_t clients;
	uint32_t clean; /* free segments that it had last */
	uint32_t dirty;
	uint32_t held;        /* by its clients here and away */
	uint32_t quarantined; /* by its dead ones */
	uint32_t shared;      /* by nobody */
	uint32_t bound;
	uint64_t guarantee; /* by the limits */
	uint64_t limit;     /* by the limits; UINT64_MAX: none */
	uint64_t excess;    /* what it had when the limits came */
	uint64_t reserved;  /* by its clients here and away */
	uint64_t lacking;   /* of that, not held by them */
	uint64_t owed;      /* its part of the core's */
	uint64_t promised;  /* its part of the core's */
	/* What those who wait longer collect; of one walk along the queue. */
	uint64_t walk;
	uint64_t claimed_clean;
	uint64_t claimed_dirty;
	uint64_t claimed_common; /* of what the user lacks himself */
	uint64_t claimed_room;   /* below the user's limit */
	uint64_t marking;        /* of one choice of segments to remake */
	uint32_t marked;
};

/* A TAKE that is not answered. */
struct pd_request {
	bool waits;
	bool is_first;     /* of one walk: within its guarantees */
	uint32_t pending;  /* segments that are room for it */
	uint32_t vacating; /* among them: still being destroyed; not 0: nothing
			    * else is done for it */
	uint32_t seq;
	uint32_t count;
	uint32_t flags;
	uint32_t prev; /* in the queue */
	uint32_t next;
	uint64_t ticket;   /* grows */
	uint64_t until_ms; /* denied then */
	uint32_t recalls;  /* not answered, for this request */
	uint64_t expected; /* parked segments that they will bring */
};

/* A RECALL that is not answered; at most one a client. */
struct pd_recall {
	bool active;
	uint32_t seq; /* of the last one */
	uint32_t prev;
	uint32_t next;
	uint32_t slot;   /* of the client for whom */
	uint64_t ticket; /* of its request */
	uint64_t expected;
	uint64_t due_ms;
};

struct pd_client {
	enum pd_presence presence;
	bool is_damaged; /* its record is; its segments are nobody's */
	uint32_t user;
	uint32_t next; /* among the free slots */
	uint32_t leased;
	uint32_t parked;
	uint32_t outside;
	uint32_t shared; /* given back while others have it open */
	uint32_t opened; /* of others, or nobody's any more */
	uint32_t first_leased;
	uint32_t first_parked;
	uint32_t first_outside;
	uint32_t first_shared;
	uint64_t reserved;
	uint64_t limit;
	struct pd_client_record record;
	struct pd_request request;
	struct pd_recall recall;
};

struct pd_core {
	uint32_t magic;
	bool is_draining;
	bool was_dropped; /* room that was made: who waits is looked at again */
	bool is_lost;
	/* Immutable. */
	struct pd_journal *journal;
	struct pd_core_ops ops;
	void *owner;
	uint64_t unit;  /* bytes of a segment */
	uint32_t first; /* segment of the computation region */
	uint32_t end;
	uint32_t slots;
	uint32_t words;       /* of the bitmaps */
	uint32_t asked_words; /* for a request, of either kind */
	uint32_t buckets;

	struct pd_limits limits;
	uint64_t now_ms;
	uint64_t armed_ms;
	uint64_t ticket;
	uint64_t walk;
	uint64_t marking;
	uint32_t stamp;

	struct pd_segment *segments;
	struct pd_client *clients;
	struct pd_user *users;
	uint32_t *bucket;
	uint32_t unused_user;
	uint32_t free_slot;
	uint64_t *clean;      /* CLEAN ones */
	uint64_t *fresh;      /* those among them that nobody had */
	uint32_t *block_user; /* of the others in a word: whose */
	uint64_t *picks;      /* scratch: what may be chosen */
	uint32_t *chosen;     /* scratch: what was */
	uint64_t *asked;      /* who was asked for whose request */

	/* Segments. */
	uint32_t clean_count;
	uint32_t fresh_count;
	uint32_t dirty;
	uint32_t remaking;
	uint32_t resting; /* among them: failed before */
	uint32_t first_resting;
	uint64_t rest_due_ms; /* not later than the first of them; 0: none */
	uint32_t leased;      /* by clients here and away */
	uint32_t parked;
	uint32_t outside;
	uint32_t charged;     /* SHARED, of clients here and away */
	uint32_t quarantined; /* by dead clients */
	uint32_t shared;      /* SHARED, of no client */
	uint32_t bound;       /* those, and of dead clients what is open */
	uint32_t damaged; /* nobody's: their record, or their client's, is */
	/* Promises. */
	uint64_t owed;
	uint64_t promised;
	uint64_t debt; /* what the limits or damage took beyond "owed is at
			* most free" */
	uint32_t used_slots;
	uint32_t damaged_slots; /* among them */
	uint32_t living;        /* among them: here or away */
	/* Who waits, oldest first; who owes an answer. */
	uint32_t queue_first;
	uint32_t queue_last;
	uint32_t recall_first;

	uint64_t grants;
	uint64_t denials;
	uint64_t recalls;
	uint64_t reclaims;
	uint64_t scrubs;
	uint64_t remakes;
};

static inline uint32_t pd_free(const struct pd_core *core)
{
	return core->clean_count + core->dirty + core->remaking;
}

static inline uint64_t pd_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* 0 where b is the larger one. */
static inline uint64_t pd_less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static inline uint32_t pd_held(const struct pd_client *client)
{
	return client->leased + client->parked + client->outside +
	       client->shared;
}

/* Here or away: it can use what it has. */
static inline bool pd_lives(const struct pd_client *client)
{
	return client->presence == PD_HERE || client->presence == PD_AWAY;
}

static inline uint64_t pd_lack(const struct pd_client *client)
{
	return pd_less(client->reserved, pd_held(client));
}

/* Free, or will be when the dead are fenced. */
static inline uint64_t pd_coming(const struct pd_core *core)
{
	return (uint64_t)pd_free(core) + core->quarantined + core->shared -
	       core->bound;
}

/* Of nobody who could use it: what totals and texts call so. */
static inline uint64_t pd_kept(const struct pd_core *core)
{
	return (uint64_t)core->quarantined + core->charged + core->shared +
	       core->damaged;
}

static inline bool pd_is_computation(const struct pd_core *core,
				     uint32_t number)
{
	return number >= core->first && number < core->end;
}

static inline uint32_t pd_slot(const struct pd_core *core,
			       const struct pd_client *client)
{
	return (uint32_t)(client - core->clients);
}

static inline void pd_set_bit(uint64_t *bits, uint32_t n)
{
	bits[n / PD_BLOCK] |= UINT64_C(1) << n % PD_BLOCK;
}

static inline void pd_clear_bit(uint64_t *bits, uint32_t n)
{
	bits[n / PD_BLOCK] &= ~(UINT64_C(1) << n % PD_BLOCK);
}

/* ---- core_quota.c ---- */

uint64_t pd_segments_up(const struct pd_core *core, uint64_t bytes);
uint64_t pd_segments_down(const struct pd_core *core, uint64_t bytes);

/* The entry of @uid, made when there is none; one reference more. */
uint32_t pd_user_ref(struct pd_core *core, uint32_t uid);
void pd_user_unref(struct pd_core *core, uint32_t user);
/* PD_NONE: no entry. */
uint32_t pd_user_find(const struct pd_core *core, uint32_t uid);

void pd_quota_limits(struct pd_core *core, const struct pd_limits *limits);
/* @taken more are held by the client, of its user; -1: one less. */
void pd_quota_held(struct pd_core *core, struct pd_client *client, int taken);
/* One more of the user's is bound; -1: one less. */
void pd_quota_bound(struct pd_core *core, uint32_t user, int more);
/* A living client's reservation begins or ends to count. */
void pd_quota_join(struct pd_core *core, struct pd_client *client);
void pd_quota_part(struct pd_core *core, struct pd_client *client);
uint64_t pd_quota_owed(const struct pd_user *user);
/* What the user lacks beyond what its clients lack. */
uint64_t pd_quota_common(const struct pd_user *user);
uint64_t pd_quota_slack(const struct pd_core *core);
/* What the client may still get below its user's limit, and leaves to the
 * user's other clients what they were promised. */
uint64_t pd_quota_room(const struct pd_core *core,
		       const struct pd_client *client);
/* What it may still get below its own. */
uint64_t pd_quota_own_room(const struct pd_core *core,
			   const struct pd_client *client);
enum ps_status pd_quota_admit(const struct pd_core *core,
			      const struct pd_client_record *wanted,
			      uint64_t *reserved_out, uint64_t *limit_out);

/* ---- core_segments.c ---- */

/* The only way in which a segment changes its state, and what the journal says
 * of it. @client: as in the journal, or PD_NONE. @user: whose references the
 * core counts. */
void pd_segment_set(struct pd_core *core, uint32_t number,
		    enum pd_segment_state state, uint32_t client,
		    uint32_t user);
/* As above, not told to the journal: it says so already. */
void pd_segment_load(struct pd_core *core, uint32_t number,
		     enum pd_segment_state state, uint32_t client,
		     uint32_t user);
/* As it is, told to the journal again: for what pd_segment_set() leaves
 * alone. */
void pd_segment_note(struct pd_core *core, uint32_t number);
/* On its way to be CLEAN again: scrubbed, or remade where that would not do;
 * SHARED first while somebody has it open. */
void pd_segment_dirty(struct pd_core *core, uint32_t number);
/* pre: nobody has it open. */
void pd_segment_remake(struct pd_core *core, uint32_t number);
/* Open, and its owner is dead or gone. */
bool pd_segment_is_bound(const struct pd_core *core, uint32_t number);
/* Those that rested long enough are tried again. */
void pd_segments_wake(struct pd_core *core);

/* ---- core_choose.c ---- */

/* Leases @parked of the client's parked ones, then @own CLEAN ones that its
 * user had and @fresh that nobody had, and answers its request. @mix: as many
 * in all, of whichever of the two kinds. pre: there are as many. */
void pd_segments_grant(struct pd_core *core, struct pd_client *client,
		       uint32_t parked, uint32_t own, uint32_t fresh, bool mix);
/* Chooses @count CLEAN ones for room outside: of other users first, which are
 * of no use to the client; then at most @own that its user had; then of those
 * that nobody had. pre: as many are not collected. */
const uint32_t *pd_segments_pick(struct pd_core *core,
				 const struct pd_client *client, uint32_t count,
				 uint64_t own);
/* Remakes at most @most CLEAN ones of other users that nobody collects;
 * returns how many. */
uint32_t pd_segments_convert(struct pd_core *core, uint32_t user,
			     uint64_t most);

/* ---- core_requests.c ---- */

void pd_queue_add(struct pd_core *core, struct pd_client *client,
		  const struct ip_take *take);
/* Without an answer. */
void pd_queue_drop(struct pd_core *core, struct pd_client *client);
/* Denies with the numbers of memory and of the client: @why before them,
 * @remedy after. */
void pd_queue_deny(struct pd_core *core, struct pd_client *client,
		   enum ps_status status, const char *why, const char *remedy);
/* Answers all who can be answered, and sets the timer. To be called at the
 * end of whatever changed something. */
void pd_queue_serve(struct pd_core *core);
void pd_queue_deny_all(struct pd_core *core, enum ps_status status,
		       const char *text);
/* A client that waits though it could be served; PD_NONE: none. */
uint32_t pd_queue_servable(const struct pd_core *core);
void pd_queue_arm(struct pd_core *core);
/* The user with its claims; none when this walk has not seen it before. */
struct pd_user *pd_queue_claims(const struct pd_core *core, uint32_t user);

/* ---- core_outside.c ---- */

/* Makes @segments the client's, for its request, and has them destroyed. */
void pd_outside_begin(struct pd_core *core, struct pd_client *client,
		      const uint32_t *segments, uint32_t count);
/* The request is over without an answer: they go back. */
void pd_outside_drop(struct pd_core *core, struct pd_client *client);
/* Denies those whose time is over. */
void pd_outside_expire(struct pd_core *core);

/* ---- core_share.c ---- */

/* A client goes: what it has open is closed, or its heirs may have it still
 * (not @safe). */
void pd_share_close_all(struct pd_core *core, uint32_t slot, bool safe);

/* ---- core_recall.c ---- */

/* No client was asked for it yet. */
void pd_recall_begin(struct pd_core *core, struct pd_client *client);
/* Asks for @missing segments for the client's request. @user: ask only this
 * one's clients; PD_NONE: all. false: nobody is left who could give some. */
bool pd_recall_more(struct pd_core *core, struct pd_client *client,
		    uint64_t missing, uint32_t user);
/* It is over, answered or not. */
void pd_recall_end(struct pd_core *core, struct pd_client *client);
void pd_recalls_expire(struct pd_core *core);

/* ---- core.c ---- */

extern const char pd_lost_text[];

struct pd_client *pd_find_client(const struct pd_core *core, uint64_t id);
/* PS_PROTOCOL: it is not attached. */
enum ps_status pd_check_here(const struct pd_core *core, uint32_t slot);

/* The clock never goes back, whatever the caller's says. */
void pd_core_set_time(struct pd_core *core, uint64_t now_ms);

/* ---- core_adopt.c ---- */

/* Reads what the journal says into an empty core. */
void pd_core_adopt(struct pd_core *core);

#endif /* POOLD_CORE_INTERNAL_H */
