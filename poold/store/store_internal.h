/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the files of the store share.
 *
 *   store.c        life, events, questions
 *   store_ask.c    requests as they come: who may, what is refused at once
 *   store_wants.c  who waits, in which order, for what
 *   store_host.c   copies in host memory, their budget; names and addresses
 *   store_room.c   segments: which to give, which to remake first
 *   store_evict.c  whom to evict, and how
 *   store_adopt.c  a store from a journal
 *   store_check.c  the validator
 *
 * Everything that changes ends in one walk along who waits, in order
 * (pd_store_serve()), which does all that can be done. The walk notes which
 * models stand in somebody's way: their users are asked to let them go, and
 * who wants to begin to use one behind him has to wait.
 *
 * Clients change their words at any time, so what is_used() says is old at
 * once: only take_back() settles it.
 */
#ifndef POOLD_STORE_STORE_INTERNAL_H
#define POOLD_STORE_STORE_INTERNAL_H

#include "poold/store/store.h"

#define PD_STORE_MAGIC 0x726f7473u
#define PD_NEVER UINT64_MAX
/* What could not be remade or reset is tried again after this. */
#define PD_STORE_REST_MS 200u
#define PD_STORE_RESTS 6u /* doublings at most */
/* So often is somebody quicker than the store, who is not playing tricks. */
#define PD_TRIES_MAX 32u
/* Requests of one client that wait. */
#define PD_WANTS_MAX 64u
/* How much dearer it is to read a model again than to copy it. */
#define PD_READ_COST 16.0

enum pd_remaking {
	PD_KEPT,    /* as it is */
	PD_MAKING,  /* the op was called */
	PD_RESTING, /* it went wrong; tried again */
};

/* A segment of the parameter region. */
struct pd_cell {
	uint32_t model;    /* as in the journal */
	uint32_t position; /* as in the journal */
	uint32_t user;     /* as in the journal */
	bool is_tainted;   /* as in the journal */
	bool is_damaged;   /* its record is; tainted too */
	/* The model that is to be loaded into it, and where; PD_NO_MODEL. */
	uint32_t claim;
	uint32_t claim_position;
	enum pd_remaking remaking;
	uint32_t tries;
	uint64_t due_ms; /* RESTING: the next try */
};

struct pd_model {
	struct pd_model_record record; /* as in the journal */
	bool is_damaged; /* its record is: the number is nobody's */
	bool has_host;
	bool is_reading; /* the op was called */
	bool is_reset;   /* EVICTING: the op was called, or rests */
	bool has_claim;  /* segments are chosen, not all are ready */
	bool is_asked;   /* its users, since it stands in the way */
	bool is_heard;   /* and one of them was heard: to be asked again */
	uint32_t attached;
	uint32_t need;      /* segments; 0: not known, or no bytes */
	uint32_t *last;     /* where it lay last, by position; NULL: nowhere */
	bool has_last;      /* record.place means that: none was remade since */
	uint32_t priority;  /* LOADING */
	uint64_t host_wish; /* bytes that its copy was said to need */
	uint64_t touched_ms; /* placed or loaded */
	uint64_t reset_ms;   /* EVICTING: the next try; 0: under way */
	bool is_wanted;      /* of one walk: it stands in somebody's way */
	bool is_in_the_way;  /* of one walk: its users are to be asked */
	bool was_used;       /* of one walk: and so it was left alone */
	uint64_t loads;
	uint64_t evictions;
	uint64_t failures;
};

enum pd_want_kind {
	PD_WANT_ADD,
	PD_WANT_USE,
	PD_WANT_LOAD,
	PD_WANT_PREFETCH, /* answered already */
	PD_WANT_PIN,
	PD_WANT_EVICT,
	PD_WANT_REMOVE,
};

struct pd_want {
	struct pd_want *next;
	enum pd_want_kind kind;
	struct pd_asker asker;
	uint32_t model;
	uint32_t serial;
	uint32_t priority;
	uint64_t began_ms;
	uint64_t until_ms; /* denied then; PD_NEVER */
};

/* One to choose from, when room is made. */
struct pd_victim {
	uint32_t model;
	bool is_idle;
	bool is_chosen;
	double score; /* what its reload costs by how long it was not used */
};

struct pd_store {
	uint32_t magic;
	bool is_lost;
	bool is_blocked; /* of one walk: somebody lacks room */
	bool has_moved;  /* of one walk: another one may do more */
	/* Immutable. */
	struct pd_journal *journal;
	struct pd_store_ops ops;
	void *owner;
	uint64_t host_budget;
	uint32_t yield_ms;
	uint64_t unit;       /* bytes of a segment */
	uint32_t cells;      /* segments of the parameter region */
	uint32_t first_slot; /* of the models' addresses */
	uint32_t end_slot;

	uint64_t now_ms;
	uint64_t armed_ms;
	uint32_t serial; /* of the last model */
	uint32_t end;    /* models from this number on are FREE */
	struct pd_want *first;
	struct pd_cell *cell;
	struct pd_model model[IP_MODELS_MAX];
	struct pd_victim victim[IP_MODELS_MAX]; /* scratch */
};

/* How far a request has come. */
enum pd_outcome {
	PD_SERVED,    /* and answered, with yes or no */
	PD_WAIT_WORK, /* something is under way that ends by itself */
	PD_WAIT_ROOM, /* others have what it needs */
	PD_WAIT_USER, /* the model is in use */
};

static inline struct pd_model_record *pd_record(struct pd_store *store,
						uint32_t model)
{
	return &store->model[model].record;
}

static inline bool pd_is_loaded(const struct pd_model *model)
{
	return model->record.state == PD_MODEL_LOADING ||
	       model->record.state == PD_MODEL_RESIDENT;
}

/* The readers of a model, as a segment's user. */
static inline uint32_t pd_readers(const struct pd_model *model)
{
	return model->record.flags & PS_MODEL_PUBLIC ? PD_ANY_USER
						     : model->record.uid;
}

static inline uint32_t pd_needs(const struct pd_store *store, uint64_t bytes)
{
	return (uint32_t)(bytes / store->unit + (bytes % store->unit != 0));
}

/* What is there for who may be told of it: the same text for what is not. */
bool pd_store_may_see(const struct pd_store *store, uint32_t model,
		      uint32_t uid, bool is_master);

/* ---- store.c ---- */

/* Commits the model's record. */
void pd_store_put(struct pd_store *store, uint32_t model);
void pd_store_set_state(struct pd_store *store, uint32_t model,
			enum pd_model_state state);
/* Commits FREE, and what comes with it. pre: it has no segments. */
void pd_store_forget(struct pd_store *store, uint32_t model);

/* ---- store_wants.c ---- */

/* Keeps it in order; PS_HOST_MEMORY, PS_REFUSED: too many. */
enum ps_status pd_want_add(struct pd_store *store, const struct pd_want *want);
/* All of a model that want what is not to be had, or is there now. */
void pd_want_deny(struct pd_store *store, uint32_t model,
		  bool (*is_one)(enum pd_want_kind kind), enum ps_status status,
		  const char *text);
void pd_want_done(struct pd_store *store, uint32_t model,
		  bool (*is_one)(enum pd_want_kind kind), uint32_t answer);
bool pd_want_is_add(enum pd_want_kind kind);
bool pd_want_is_load(enum pd_want_kind kind);  /* waits until it landed */
bool pd_want_is_there(enum pd_want_kind kind); /* wants it on the GPU */
bool pd_want_is_any(enum pd_want_kind kind);
/* The first in order of such. */
const struct pd_want *pd_want_find(const struct pd_store *store, uint32_t model,
				   bool (*is_one)(enum pd_want_kind kind));
/* Does all that can be done, asks, arms. */
void pd_store_serve(struct pd_store *store);

/* ---- store_host.c ---- */

/* Begins the next read, if there is one and room for it. */
void pd_host_serve(struct pd_store *store);
uint64_t pd_host_used(const struct pd_store *store);

/* ---- store_room.c ---- */

/* Chooses segments; those that are free, and as many as it needs.
 * PS_HOST_MEMORY. */
enum ps_status pd_room_claim(struct pd_store *store, uint32_t model);
void pd_room_unclaim(struct pd_store *store, uint32_t model);
bool pd_room_is_ready(const struct pd_store *store, uint32_t model);
/* Commits the claim: LOADING. */
void pd_room_load(struct pd_store *store, uint32_t model, uint32_t priority);
/* Commits that no segment is the model's. */
void pd_room_release(struct pd_store *store, uint32_t model);
uint32_t pd_room_free(const struct pd_store *store);
/* That models can ever have, but those that others have pinned. */
uint32_t pd_room_usable(const struct pd_store *store, uint32_t model);
bool pd_room_is_free(const struct pd_store *store, uint32_t n);
/* That a model can have at all. */
uint32_t pd_room_most(const struct pd_store *store);
/* Tries again what could not be remade. */
void pd_room_serve(struct pd_store *store);
void pd_room_remade(struct pd_store *store, uint32_t n, enum ps_status status);
uint64_t pd_room_due(const struct pd_store *store);
void pd_room_put(struct pd_store *store, uint32_t n);
/* A segment that was lost is made anew. */
void pd_room_remake(struct pd_store *store, uint32_t n);

/* ---- store_evict.c ---- */

/* False: somebody has begun to use it; nothing has changed. */
bool pd_evict(struct pd_store *store, uint32_t model);
/* Makes room for @lack segments more, or notes who is in the way. True:
 * something has changed, look again. */
bool pd_evict_for(struct pd_store *store, uint32_t model, uint32_t lack,
		  bool may_ask);
/* EVICTING ones whose users have gone; resets that rest. */
void pd_evict_serve(struct pd_store *store);
uint64_t pd_evict_due(const struct pd_store *store);

#endif /* POOLD_STORE_STORE_INTERNAL_H */
