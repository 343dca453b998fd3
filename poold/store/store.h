/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which models there are, where they lie, which of them make room for which.
 * Decides only, like poold/core.h: no socket, no driver, no clock, no thread.
 *
 * A model's way (poold/journal.h has the states)
 *
 *	FREE -> READING -> HOST -> LOADING -> RESIDENT -> EVICTING -> HOST
 *	          ^  |                                             |
 *	          |  +-> FREE: the files are refused               |
 *	        KNOWN <---------------- its host copy was given up +
 *
 * Room is made by evicting who is not in use: the one whose reload costs least
 * by how long it has not been used; one that is pinned never. What lay in the
 * same segments last time gets them again when they are free, so that whoever
 * has them mapped need not map them anew.
 *
 * A segment that a user could read goes to a model of the same readers as it
 * is; to one of other readers only remade.
 *
 * Several requests wait for room, the highest priority first, then who came
 * first. Requests for one model are one load.
 *
 * Invariants (pd_store_check() looks at every one)
 *   The journal says what the store says, before anybody is told.
 *   A segment has one model at most; a model that is LOADING or RESIDENT has as
 *   many as its bytes take, each position once. One whose load failed is
 *   EVICTING and keeps its segments, and is not reset, until no client has it
 *   in use; any other model has none.
 *   No two models' addresses overlap, and a model's never change.
 *   A model's reset is asked for only when no client has it in use, and before
 *   any load into the segments that it had.
 *   What one user could read goes to a model of other readers only remade.
 *   USE is answered only for a model whose counter is right: not EVICTING.
 *   A model that is in use is neither evicted nor removed; one that is pinned
 *   is LOADING or RESIDENT.
 *   Nobody waits who could be served: but what the first one that waits for
 *   room lacks is given to none behind it.
 */
#ifndef POOLD_STORE_STORE_H
#define POOLD_STORE_STORE_H

#include "poold/journal.h"

struct pd_store;

/* Where an answer goes: a client's slot and its request's number, or, for a
 * visit that has not attached, a number of the shell's own. */
struct pd_asker {
	uint32_t slot; /* PD_NO_CLIENT: not attached */
	uint64_t tag;
};

/* For pd_store_forget_asker(): whatever its tag. */
#define PD_ALL_TAGS UINT64_MAX

/* What the store wants done. None may call back into the store. */
struct pd_store_ops {
	/* A copy in host memory of the model's files: pd_store_read(). One at
	 * a time; it may have what is left of the budget. */
	void (*read)(void *owner, uint32_t model);
	/* Gives the copy up; what was being made of it is stopped. */
	void (*drop_host)(void *owner, uint32_t model);
	/* Closes everything of a model that is forgotten. */
	void (*forget)(void *owner, uint32_t model);
	/* Copies to the segments that the journal says, from where the
	 * counter is on: pd_store_loaded(). Behind all resets before. Of one
	 * that is under way: its priority is higher now. */
	void (*load)(void *owner, uint32_t model, uint32_t priority);
	/* The counter to 0: pd_store_reset_done(). */
	void (*reset)(void *owner, uint32_t model);
	/* Has everybody who has a segment mapped unmap it, and destroys and
	 * creates it: pd_store_remade(). */
	void (*remake)(void *owner, uint32_t segment);

	/* Whether any client has it in use: looks at their words. */
	bool (*is_used)(void *owner, uint32_t model);
	/* Takes all idle words back; false: somebody has begun to use it. */
	bool (*take_back)(void *owner, uint32_t model);
	/* When it was last used, by the clients' words and the store's own
	 * calls; of the caller's clock. */
	uint64_t (*last_used)(void *owner, uint32_t model);
	/* Takes idle words back, and asks the other users of a model to let it
	 * go; who was asked and has not answered is not asked again. A client
	 * that answers IDLE has its word taken back (IDLE to NONE) before
	 * pd_store_yielded(). False: nobody uses it. */
	bool (*yield)(void *owner, uint32_t model, uint32_t deadline_ms);

	/* Answers USE: sets the client's word to BUSY, sends the segments. */
	void (*place)(void *owner, struct pd_asker asker, uint32_t model);
	/* Answers ADD or ORDER with yes. */
	void (*done)(void *owner, struct pd_asker asker, uint32_t model);
	/* Answers any with no. */
	void (*deny)(void *owner, struct pd_asker asker, enum ps_status status,
		     const char *text);
	/* pd_store_tick() is wanted then, once; 0: not any more. */
	void (*arm)(void *owner, uint64_t at_ms);
};

struct pd_store_config {
	struct pd_journal *journal; /* the caller's; outlives the store */
	struct pd_store_ops ops;
	void *owner;          /* for the ops */
	uint64_t host_budget; /* bytes of all copies */
	uint32_t yield_ms;    /* what clients get to answer YIELD */
};

/*
 * A store over a journal, new or inherited: what was READING is read again,
 * LOADING goes on, EVICTING is reset again. @has_host, by model: whether its
 * copy was inherited; @is_lost, by parameter segment: it has to be made anew.
 * PS_HOST_MEMORY.
 */
enum ps_status pd_store_new(const struct pd_store_config *config,
			    const bool *has_host, const bool *is_lost,
			    uint64_t now_ms, struct pd_store **store_out);
void pd_store_free(struct pd_store *store); /* NULL: ok */
void pd_store_lose(struct pd_store *store); /* the GPU is lost */

/*
 * ---- requests; each is answered by an op, now or later ----
 *
 * Each has its wait_ms: whatever it waits for then, it is denied. PS_BUSY:
 * somebody uses what is to go; PS_OUT_OF_MEMORY: models in use or pinned fill
 * the region, and are named; PS_TIMED_OUT: what it waits for is under way (it
 * is read, it travels, a segment is remade) and goes on. ADD waits as long as
 * it takes; a PREFETCH is answered at once, and given up after its wait_ms.
 */

/* @record: name, uid, flags, plan, groups, files, source. @model_out is
 * written before any op is called: the number whose files they are, until
 * forget(); PD_NO_MODEL: refused. Where the name is taken, both are there until
 * the new one was read and found to be the same. */
void pd_store_add(struct pd_store *store, struct pd_asker asker,
		  const struct pd_model_record *record, uint64_t now_ms,
		  uint32_t *model_out);
/* @uid asks; @is_master: the daemon's user or root. */
void pd_store_order(struct pd_store *store, struct pd_asker asker, uint32_t uid,
		    bool is_master, const struct ip_order *order,
		    uint64_t now_ms);
/* Answered at once: PS_OK and the model, PS_NO_MODEL, PS_MODEL_MISMATCH,
 * PS_AGAIN, PS_PERMISSION (the same text as PS_NO_MODEL's). */
enum ps_status pd_store_find(const struct pd_store *store, uint32_t uid,
			     bool is_master, const struct ip_find *find,
			     uint32_t *model_out);
/* pre: the client is attached to the model. */
void pd_store_use(struct pd_store *store, struct pd_asker asker,
		  const struct ip_use_request *use, uint64_t now_ms);
/* What it waited for is dropped, without an answer. */
void pd_store_forget_asker(struct pd_store *store, struct pd_asker asker);

/* Clients attached to it; no model is removed that has any. */
void pd_store_attached(struct pd_store *store, uint32_t model, int change);

/* ---- what the ops were asked to do has been done ---- */

/* The copy is made. @found: bytes, tensors, hash. Not PS_OK: @text says why,
 * and @found may be NULL; PS_HOST_MEMORY: it is tried again with more room,
 * with as much as @found->bytes if that is not 0. */
void pd_store_read(struct pd_store *store, uint32_t model,
		   enum ps_status status, const char *text,
		   const struct pd_model_record *found, uint64_t now_ms);
void pd_store_loaded(struct pd_store *store, uint32_t model,
		     enum ps_status status, const char *text, uint64_t now_ms);
void pd_store_reset_done(struct pd_store *store, uint32_t model,
			 enum ps_status status, uint64_t now_ms);
void pd_store_remade(struct pd_store *store, uint32_t segment,
		     enum ps_status status, uint64_t now_ms);
/* A client has let it go, has ended, or was never heard: look again. */
void pd_store_yielded(struct pd_store *store, uint32_t model, uint64_t now_ms);
void pd_store_tick(struct pd_store *store, uint64_t now_ms);

/* ---- questions ---- */

struct pd_model_view {
	struct pd_model_record record;
	bool has_host;
	uint32_t attached;
	uint32_t waiting; /* requests that wait for it */
	uint64_t loads;   /* since the start of this agent */
	uint64_t evictions;
	uint64_t failures;
};

/* false: no such model. */
bool pd_store_model(const struct pd_store *store, uint32_t model,
		    struct pd_model_view *view_out);
/* In the order of the model's addresses; how many. @room at least
 * pd_store_segment_count(). */
uint32_t pd_store_segments(const struct pd_store *store, uint32_t model,
			   uint32_t *segments_out);
uint32_t pd_store_segment_count(const struct pd_store *store, uint32_t model);
/* Whether a client may have a segment of the region to use as it likes: no
 * model's. It is never a model's again. */
bool pd_store_give_away(struct pd_store *store, uint32_t segment);
/* Every invariant. PS_OK, or PS_INVALID_ARGUMENT and which. */
enum ps_status pd_store_check(const struct pd_store *store);

#endif /* POOLD_STORE_STORE_H */
