/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What an attached pool has from poolswitchd, and its talk with it.
 *
 * A segment of the computation region is inserted in its own slot while it is
 * leased. Parked it stays mapped there, but is not inserted. The daemon's
 * journal is one message ahead or behind: what it says after a reconnect is
 * compared with what is so here (lib/session.c).
 *
 *	NONE -> LEASED -> PARKING -> PARKED -> LEASED
 *	  ^       |          |          |
 *	  |       v          v          v
 *	  +---- OWED, or RECALLING then RECALLED: unmapped
 *
 *	NONE -> OUTSIDE -> OWED: it is none, the driver has its room
 *
 * A segment of another client that is open here is mapped behind the pool's
 * own addresses, where segments are gathered too; never at its own.
 *
 * Two talk with the daemon: whoever needs something, over the requests
 * socket, one at a time; and the service thread, which answers the daemon over
 * the events socket and never waits for the first.
 *
 * Invariants
 *   While the daemon is waited for, neither the pool's lock nor its turn is
 *   held.
 *   A segment is mapped writable only while it is LEASED or PARKED, or open
 *   here.
 *   As many segments are OUTSIDE as the bytes outside fill, or more.
 *   An imported descriptor is closed at once.
 *   Nothing of this process's own lies in the window's upper half: it is the
 *   models', at the same addresses in every process.
 */
#ifndef LIB_LEASE_H
#define LIB_LEASE_H

#include "ipc/address.h"
#include "ipc/client.h"
#include "lib/pool.h"

/* For each answer, and for a call that has to connect anew in all. */
#define LB_ANSWER_MS 10000
/* What other clients get to give something back. */
#define LB_WAIT_MS 5000u

enum lb_hold {
	LB_HOLD_NONE = 0,
	LB_HOLD_LEASED,
	LB_HOLD_PARKING, /* the daemon is still to be told */
	LB_HOLD_PARKED,
	LB_HOLD_OWED,      /* unmapped; the daemon is still to be told */
	LB_HOLD_RECALLING, /* the same, and the service thread tells it */
	LB_HOLD_RECALLED,  /* it did; a GRANT as parked may have crossed it */
	LB_HOLD_OUTSIDE,   /* destroyed: its room is the driver's */
};

/* Of a segment that another client leases, or nobody any more. */
enum lb_open {
	LB_OPEN_NONE = 0,
	LB_OPEN_HERE, /* the daemon counts it as open here */
	LB_OPEN_OWED, /* not any more; the daemon is still to be told */
};

/* What one ticket has opened. */
struct lb_opening {
	struct lb_opening *next;
	struct ps_ticket ticket;
	uint64_t address; /* that ps_ticket_open() gave */
	uint32_t slot;    /* the mapping, which several may share */
	uint32_t count;
	uint32_t times; /* opened and not closed */
};

struct lb_lease;
struct lb_models;

/*
 * What models want of a lease (lib/model.h). A table, so that what is linked
 * without models (the preload) needs none of their libraries.
 */
struct lb_model_ops {
	/* The connection is a new one. requests held. */
	enum ps_status (*rejoin)(struct lb_lease *lease);
	/* YIELD has come: what to answer now. */
	enum ip_yielded_state (*yield)(struct lb_lease *lease,
				       const struct ip_yield *yield);
	/* One that was BUSY then and is not any more; false: none. */
	bool (*find_yielded)(struct lb_lease *lease,
			     struct ip_yielded *yielded_out);
	/* Until find_yielded() is to be asked again, without being woken; -1:
	 * never. */
	int (*patience_ms)(struct lb_lease *lease);
	/* What was asked for over a connection that is no more. */
	void (*forget_yields)(struct lb_lease *lease);
	/* Whether [address, address + bytes) is mapped of one model. */
	bool (*is_mapped)(struct lb_lease *lease, uint64_t address,
			  uint64_t bytes);
	/* Gives access anew to all that is mapped. Turn held. */
	enum ps_status (*allow_mapped)(struct lb_lease *lease);
	/* All is done with: unmaps everything. Turn held. */
	enum ps_status (*unmap)(struct lb_lease *lease);
	/* Host memory only. */
	void (*free)(struct lb_models *models);
};

struct ps_attach_config {
	struct ip_paths paths;
	bool has_paths; /* else they are looked for when attaching */
	struct ip_attach attach;
};

struct lb_lease {
	/* Immutable after opening. */
	struct ps_pool *pool;
	struct ip_paths paths;
	struct ip_welcome welcome; /* the first */
	uint32_t first;            /* segment of the computation region */
	uint32_t limit;            /* segments at most */
	int wake;                  /* eventfd of the service thread */
	pthread_t thread;
	bool has_thread;

	/* Guarded by requests. */
	struct bs_lock requests;
	struct ip_attach attach; /* as it is sent, id and token included */
	struct ip_client client;
	int socket;                   /* -1: not connected */
	uint32_t batch;               /* segments asked for next time */
	bool is_forgotten;            /* the daemon does not know us any more */
	bool is_gone;                 /* nobody answered the last time */
	int64_t refused_ms;           /* since when it refuses us; 0: not */
	uint8_t *journal;             /* of each segment: what HELD said */
	char denial[IP_TEXT_MAX + 1]; /* of the last TAKE; "" */
	struct lb_opening *openings;
	uint64_t opens; /* counts what was opened, again or anew */

	/* Changed under requests, published under the pool's lock. */
	uint8_t *open;             /* enum lb_open of each segment */
	uint32_t opened;           /* segments that are HERE */
	uint32_t outside_segments; /* that are OUTSIDE */

	/* Changed by who has the pool's turn, published under its lock. */
	uint8_t *hold;       /* enum lb_hold of each segment */
	uint32_t generation; /* counts the comparisons with the journal */

	/* Guarded by the pool's lock. It grows only with requests held. */
	uint64_t outside; /* bytes taken and not given */

	/* Owned by the service thread. */
	int events; /* -1: none */

	/* Of models; NULL before the first. Immutable from then on. */
	_Atomic(const struct lb_model_ops *) model_ops;
	struct lb_models *models;

	/* Between the threads. */
	_Atomic int events_next;  /* a new socket for the thread; -1 */
	_Atomic uint32_t minor;   /* of the messages on it */
	_Atomic bool is_stopping; /* the thread is to end */
	_Atomic bool is_growing;  /* it grew since the last look at it */
	_Atomic bool is_woken;    /* wake was written to, and not read */
	_Atomic bool is_lost;     /* the GPU is */
	_Atomic uint32_t moves;   /* of memory outside: taken or given */
	_Atomic int64_t passed;   /* bytes, by ps_mem_note_passed() */

	bool is_quiet; /* nothing runs on the memory any more: LEAVE is true */
};

/* ---- coming and going (lib/attach.c) ---- */

/* After the pool was unmapped: leaves, when everything was, and frees it.
 * NULL: ok. */
void lb_lease_free(struct lb_lease *lease, bool is_unmapped);
/* How waiting for all work on the pool ended. NULL: ok. */
void lb_lease_quiet(struct lb_lease *lease, enum ps_status status);
/* In a forked child. NULL: ok. */
void lb_lease_abandon(struct lb_lease *lease);

/* ---- the talk (lib/session.c); all with requests held ---- */

/* The first time. PS_NO_DAEMON and what the daemon refuses with. */
enum ps_status lb_session_open(struct lb_lease *lease);
/* Out of step, or over. */
void lb_session_close(struct lb_lease *lease);

/*
 * Does @once with a connection that works, connecting again and repeating it
 * where that breaks or the daemon says "again", for LB_ANSWER_MS at most.
 * PS_PEER_GONE: there is no daemon any more, or one that does not know us;
 * PS_DEVICE_LOST; else what @once returned.
 */
enum ps_status lb_session_do(struct lb_lease *lease,
			     enum ps_status (*once)(struct lb_lease *lease,
						    void *arg),
			     void *arg);
/* The same; PS_NO_DAEMON rather than PS_PEER_GONE where there is none. */
enum ps_status lb_session_ask(struct lb_lease *lease,
			      enum ps_status (*once)(struct lb_lease *lease,
						     void *arg),
			      void *arg);

/* ---- having (lib/lease.c) ---- */

/* The door of the calls that only an attached pool has. @what: which it alone
 * does, for the text. PS_UNSUPPORTED, and what lb_refuse() says. */
enum ps_status lb_lease_enter(struct ps_pool *pool, const char *what,
			      struct ps_pool **pool_out);

/*
 * Has the daemon grant what is missing for @wanted segments on @stream.
 * @late: waits for other clients to give theirs. PS_OUT_OF_MEMORY, and what
 * lb_session_do() returns. pre: no turn.
 */
enum ps_status lb_lease_take(struct ps_pool *pool, uint32_t wanted,
			     uint64_t stream, bool late);
/* Puts the daemon's last refusal before the text of @status. */
enum ps_status lb_lease_explain(struct ps_pool *pool, enum ps_status status);
/* Parks what the allocator does not use, and tells the daemon, unless
 * somebody else talks with it. false: it is to be tried again. */
bool lb_lease_park(struct ps_pool *pool);
/* Unmaps what the allocator does not use and what is parked, and gives it
 * back; how many bytes. */
uint64_t lb_lease_return(struct ps_pool *pool);

/*
 * Unmaps up to @max segments, parked ones first, then what the allocator does
 * not use; they are @becomes then. @segments_out: NULL, or which. How many.
 * Turn held.
 */
uint32_t lb_lease_unmap(struct ps_pool *pool, uint32_t max,
			enum lb_hold becomes, uint32_t *segments_out);
/* Tells the daemon of all that is PARKING or OWED. requests held. */
enum ps_status lb_lease_tell(struct lb_lease *lease);
/* The same over the connection that is there. */
enum ps_status lb_lease_settle(struct lb_lease *lease);

/* The service thread is to look for what can be given back. */
void lb_lease_stir(struct lb_lease *lease);
/* PS_OUT_OF_MEMORY: so many segments more are above the limit. Turn held. */
enum ps_status lb_lease_check_limit(const struct lb_lease *lease,
				    uint32_t missing);

/* CLOCK_MONOTONIC. */
int64_t lb_now_ms(void);

/* Bytes of the computation region that the pool may have. */
uint64_t lb_lease_limit(const struct ps_pool *pool);

/* Bytes by ps_mem_note_passed(). */
uint64_t lb_lease_passed(const struct lb_lease *lease);

/* PS_DEVICE_LOST when the daemon has said so. */
enum ps_status lb_lease_check(const struct ps_pool *pool);

/* ---- memory outside the pool (lib/outside.c) ---- */

/* Gives back what is OUTSIDE and not filled; whether there was any. requests
 * held, no turn. */
bool lb_outside_return(struct lb_lease *lease);
/* Whether there is any, used or not. */
bool lb_outside_is_loose(struct lb_lease *lease);

/* ---- tickets (lib/ticket.c) ---- */

/* Tells the daemon what is not open any more. requests held. */
enum ps_status lb_ticket_settle(struct lb_lease *lease);
/* Host memory only. */
void lb_ticket_forget(struct lb_lease *lease);

/* ---- parameters (lib/parameters.c) ---- */

/* Imports segments of the parameter region that were not yet. pre: no turn. */
enum ps_status lb_lease_need(struct ps_pool *pool, uint32_t first,
			     uint32_t end);

/* ---- models (lib/model.h) ---- */

static inline const struct lb_model_ops *
lb_model_ops_of(const struct lb_lease *lease)
{
	return lease == NULL ? NULL : atomic_load(&lease->model_ops);
}

/* ---- the service thread (lib/service.c) ---- */

enum ps_status lb_service_start(struct lb_lease *lease);
void lb_service_stop(struct lb_lease *lease);
/* The pool has grown, or there is a new events socket. */
void lb_service_wake(struct lb_lease *lease);

#endif /* LIB_LEASE_H */
