/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who has which segment, who may have more, and who waits for one. Decides
 * only: it has no socket, no driver, no clock and no thread. What happens
 * comes in by calls, what is to be done goes out by struct pd_core_ops. Tests
 * and the fuzzer drive it with pretend clients and pretend time.
 *
 * Clients are known by their slot in the journal. A slot is
 *   here     attached, its connection works
 *   away     it lives (its pidfd is not readable) and has no connection: it
 *            may resume. Its segments are nobody else's.
 *   dead     its process has ended; its segments are quarantined until the
 *            shell says that its fence has passed
 *
 * A segment's way (poold/journal.h has the states)
 *
 *	CLEAN -> LEASED <-> PARKED
 *	  ^         |          |
 *	  |       given back unmapped, recalled, or its dead client's fence
 *	  |         v          v
 *	  +------ DIRTY      REMAKING ------> CLEAN, no user
 *	  scrubbed            destroyed and created anew
 *
 * What a user's client had and is safe to touch is DIRTY and gets scrubbed; a
 * CLEAN segment that goes from one user to another is REMAKING first, because
 * a descriptor once given cannot be taken back. What a dead client had and
 * cannot be shown safe is REMAKING at once: destroyed memory is free only when
 * the driver says so, whoever still uses it.
 *
 * Room for memory that the pool cannot hold is made of segments: OUTSIDE ones
 * are vacated (destroyed), count as leased, and are remade when their client
 * gives them back or its fence has passed. A client may open what another of
 * its user has leased, by a ticket that only the core can issue; an open
 * segment that its owner gives back, or whose owner's fence has passed, is
 * SHARED until the last that opened it has closed it or is fenced itself.
 *
 * What is promised is there: a reservation is granted only where it fits into
 * the region beside all others and into what is free, or will be when the
 * dead are fenced. What only asking others could bring is promised to nobody.
 *
 * Who waits collects: what becomes free and is of use to it goes to nobody
 * who came later, but to one who asks for no more than was promised to him.
 * So small requests never starve a large one; it is served as soon as as much
 * is free as it and those before it lack, and waits for its own deadline at
 * most.
 *
 * What a living client gives back while others have it open stays charged to
 * it until they have closed it, or it goes: it cannot make room for others.
 *
 * Invariants (pd_core_check() looks at every one)
 *   The journal says what the core says, before anybody is told.
 *   A segment has at most one client; LEASED, PARKED and OUTSIDE have one that
 *   is here, away or dead, SHARED has one or none, all others none. A segment
 *   that anybody has open is LEASED, PARKED or SHARED.
 *   No client and no user is above its limit. The guarantees of all others
 *   can still be met after each grant.
 *   A PARKED segment is granted to its own client only.
 *   Nobody waits who could be served.
 */
#ifndef POOLD_CORE_H
#define POOLD_CORE_H

#include "poold/journal.h"
#include "poold/limits.h"

struct pd_core;

/* What a ticket says, once its MAC is known to be ours. */
struct pd_grant_of {
	uint64_t owner;  /* id of the client */
	uint32_t epochs; /* crc32 of the segments' epochs, in order */
	uint32_t run_count;
	struct ip_run run[IP_TICKET_RUNS];
	uint64_t offset;
	uint64_t bytes;
};

/* How long a segment that could not be remade rests before the next try. */
#define PD_REMAKE_REST_MS 200

/* What the core wants done. None may call back into the core. */
struct pd_core_ops {
	/* Answers TAKE. Entries may carry IP_SEGMENT_PARKED. @count is any;
	 * the shell cuts it into messages and adds the descriptors. */
	void (*grant)(void *owner, uint32_t slot, uint32_t seq,
		      const uint32_t *segments, uint32_t count);
	/* Answers TAKE with no; @text names reason, numbers and remedy. */
	void (*deny)(void *owner, uint32_t slot, uint32_t seq,
		     enum ps_status status, const char *text);
	/* Sends RECALL to the client's service thread; pd_core_recalled()
	 * tells what it gave. */
	void (*recall)(void *owner, uint32_t slot, uint32_t seq, uint32_t count,
		       uint32_t deadline_ms);
	/* Fills with zeros; pd_core_scrubbed() when it is done. */
	void (*scrub)(void *owner, uint32_t segment);
	/* Destroys and creates; pd_core_remade() when it is done. */
	void (*remake)(void *owner, uint32_t segment);
	/* pd_core_tick() is wanted at this time of the caller's clock; 0: not
	 * any more. */
	void (*arm)(void *owner, uint64_t at_ms);
	/* Destroys; pd_core_vacated() when the driver has the bytes. */
	void (*vacate)(void *owner, uint32_t segment);
	/* Answers TAKE with IP_TAKE_OUTSIDE: all of them are vacated. */
	void (*grant_outside)(void *owner, uint32_t slot, uint32_t seq,
			      const uint32_t *segments, uint32_t count);
};

struct pd_core_config {
	struct pd_journal *journal; /* the caller's; outlives the core */
	struct pd_limits limits;
	struct pd_core_ops ops;
	void *owner; /* for the ops */
};

/*
 * A core over a journal, new or inherited: clients in it begin as away, what
 * is DIRTY or REMAKING is put to work (the ops are called from in here).
 * OUTSIDE ones are left as they are, vacated or not.
 * PS_HOST_MEMORY. Damaged client records keep their segments quarantined.
 */
enum ps_status pd_core_new(const struct pd_core_config *config, uint64_t now_ms,
			   struct pd_core **core_out);
void pd_core_free(struct pd_core *core); /* NULL: ok; the journal stays */

void pd_core_set_limits(struct pd_core *core, const struct pd_limits *limits,
			uint64_t now_ms);
/* New clients are refused from now on, and so is every TAKE beyond what the
 * client's reservation guarantees. */
void pd_core_drain(struct pd_core *core);
/* The GPU is lost: every request is denied with PS_DEVICE_LOST. */
void pd_core_lose(struct pd_core *core);

/* ---- clients come and go ---- */

/*
 * A new client: @wanted holds id, token, pid, uid, gid, flags, reservation,
 * limit, name and marks; @granted_out gets what is in the journal. PS_REFUSED
 * (draining; too many clients, of this user; the journal is full),
 * PS_OUT_OF_MEMORY (the reservation cannot be guaranteed: what is free, what
 * is promised to whom), PS_INVALID_ARGUMENT (reservation above limit, sums
 * that overflow), PS_DEVICE_LOST. A reservation is rounded up to whole
 * segments, a limit down.
 */
enum ps_status pd_core_admit(struct pd_core *core,
			     const struct pd_client_record *wanted,
			     uint64_t now_ms, uint32_t *slot_out,
			     struct pd_client_record *granted_out);
/*
 * One that was away. The caller has made sure that it is the same process.
 * PS_REFUSED: no such id and token, it is dead, or it is here already. The
 * same text for a wrong id and a wrong token. PS_DEVICE_LOST.
 */
enum ps_status pd_core_resume(struct pd_core *core, uint64_t id,
			      const uint8_t token[IP_TOKEN_BYTES],
			      uint32_t *slot_out,
			      struct pd_client_record *granted_out);
/* A mark of the shell's own in its record. pre: it is here. */
void pd_core_mark(struct pd_core *core, uint32_t slot, uint32_t flag);
/* For HELD: the client's segments in order, with IP_SEGMENT_PARKED,
 * IP_SEGMENT_OUTSIDE or IP_SEGMENT_OPENED (no segment is the client's and open
 * by it at once), without those that are still being vacated for it; at most
 * @room; returns how many there are from @from on (a segment number). */
uint32_t pd_core_held(const struct pd_core *core, uint32_t slot, uint32_t from,
		      uint32_t *segments_out, uint32_t room);

/* Its connection ended; the process may live. What it waited for is dropped.*/
void pd_core_away(struct pd_core *core, uint32_t slot, uint64_t now_ms);
/* Its process has ended: quarantined, no resuming. */
void pd_core_dead(struct pd_core *core, uint32_t slot, uint64_t now_ms);
/* Its fence has passed: dead before, or it left (LEAVE) having unmapped all.
 * @safe: shown by the process's end and the absence of heirs, or by its own
 * word (LEAVE); otherwise its segments are remade. The slot is free. */
void pd_core_reclaim(struct pd_core *core, uint32_t slot, bool safe,
		     uint64_t now_ms);

/* ---- requests; pre: the client is here ---- */

/*
 * Answered by ops.grant or ops.deny, now or within wait_ms: with 0 at once,
 * from what is clean now. While it waits, memory is scrubbed and remade for
 * it and other clients are asked; it is denied when none of that is left to
 * wait for. PS_PROTOCOL: a second TAKE while one waits, a field out of its
 * range; the shell ends the connection.
 */
enum ps_status pd_core_take(struct pd_core *core, uint32_t slot,
			    const struct ip_take *take, uint64_t now_ms);
/* LEASED, PARKED or OUTSIDE ones, the last not to be parked; a PARKED one may
 * be parked again. PS_PROTOCOL: a
 * segment that is not this client's, or comes twice; nothing changed. */
enum ps_status pd_core_give(struct pd_core *core, uint32_t slot,
			    const struct ip_list *list, uint64_t now_ms);
/* RECALLED, of LEASED or PARKED ones. Another number than the last RECALL's
 * is welcome all the same. PS_PROTOCOL as above. */
enum ps_status pd_core_recalled(struct pd_core *core, uint32_t slot,
				const struct ip_list *list, uint64_t now_ms);
/* Whether the client may have descriptors of these: PS_OK, PS_PERMISSION,
 * PS_OUT_OF_RANGE, or PS_REFUSED: a model lies in one, or left there what the
 * client's user may not read. @write_out: writable. */
enum ps_status pd_core_need(const struct pd_core *core, uint32_t slot,
			    const struct ip_need *need, bool *write_out);

/* A segment leased to the client is about to be handed to anybody: tainted.
 * PS_PERMISSION when it is not leased to it; PS_DEVICE_LOST. */
enum ps_status pd_core_export(struct pd_core *core, uint32_t slot,
			      uint32_t segment);

/* ---- tickets ---- */

/* All are leased to the client, in runs that are inside the pool and overlap
 * nowhere; offset and bytes fit them. PS_PERMISSION, PS_INVALID_ARGUMENT,
 * PS_DEVICE_LOST. The text of the ticket is poold/ticket.h's business. */
enum ps_status pd_core_issue(const struct pd_core *core, uint32_t slot,
			     const struct ip_issue *issue,
			     struct pd_grant_of *grant_out);
/*
 * @slot opens what a ticket that is known to be ours names. PS_REFUSED, with
 * one text for all of these: the owner is gone or another user's, a segment
 * is not its any more or was leased anew; with another: PD_OPENERS have one
 * open. PS_NOT_OURS: it is the client's own; PS_DEVICE_LOST. Whenever it
 * fails nothing is opened. @segments_out: room for all of the pool. Opening
 * what is open already is well.
 */
enum ps_status pd_core_open(struct pd_core *core, uint32_t slot,
			    const struct pd_grant_of *grant,
			    uint32_t *segments_out, uint32_t *count_out);
/* PS_PROTOCOL: a segment that it does not have open, or twice; no segment;
 * nothing changed. */
enum ps_status pd_core_close(struct pd_core *core, uint32_t slot,
			     const struct ip_list *list, uint64_t now_ms);
/* Whether the client may have the descriptor of a segment by a ticket. */
bool pd_core_has_open(const struct pd_core *core, uint32_t slot,
		      uint32_t segment);

/* ---- what the ops were asked to do has been done ---- */

/* Not PS_OK: its bytes are still in use by somebody; it is remade, and another
 * is taken for the request if there is one. A segment that was given back
 * meanwhile goes on to be remade. */
void pd_core_vacated(struct pd_core *core, uint32_t segment,
		     enum ps_status status, uint64_t now_ms);

/* Not PS_OK: the segment is remade instead. */
void pd_core_scrubbed(struct pd_core *core, uint32_t segment,
		      enum ps_status status, uint64_t now_ms);
/* Not PS_OK: its memory is still in use by somebody; tried again after
 * PD_REMAKE_REST_MS, doubling up to 64 times that. */
void pd_core_remade(struct pd_core *core, uint32_t segment,
		    enum ps_status status, uint64_t now_ms);
void pd_core_tick(struct pd_core *core, uint64_t now_ms);

/* ---- questions ---- */

enum pd_presence { PD_FREE_SLOT, PD_HERE, PD_AWAY, PD_DEAD };

struct pd_client_view {
	uint32_t slot;
	enum pd_presence presence;
	struct pd_client_record record;
	uint64_t leased; /* bytes; parked ones not */
	uint64_t parked;
	uint64_t outside;
	uint64_t opened; /* of others; once a segment */
	bool waits;      /* a TAKE of it is not answered yet */
};

struct pd_totals {
	uint64_t parameter; /* bytes of the region */
	uint64_t computation;
	uint64_t clean;
	uint64_t dirty;
	uint64_t remaking;
	uint64_t leased;      /* to clients here or away */
	uint64_t parked;      /* the same */
	uint64_t outside;     /* the same */
	uint64_t quarantined; /* of dead clients, shared, or damaged */
	uint64_t guaranteed;  /* reservations, of clients and users */
	uint32_t clients;     /* here, away and dead */
	uint64_t grants;
	uint64_t denials;
	uint64_t recalls;
	uint64_t reclaims; /* dead clients */
	uint64_t scrubs;
	uint64_t remakes;
};

void pd_core_totals(const struct pd_core *core, struct pd_totals *totals_out);
/* false: the slot is free, or its record is damaged. */
bool pd_core_client(const struct pd_core *core, uint32_t slot,
		    struct pd_client_view *view_out);
/* Whether nothing is leased and nobody attached: a drain is over. The dead do
 * not count. */
bool pd_core_is_empty(const struct pd_core *core);
/* Every invariant. PS_OK, or PS_INVALID_ARGUMENT and which. */
enum ps_status pd_core_check(const struct pd_core *core);

#endif /* POOLD_CORE_H */
