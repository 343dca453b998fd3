/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The models that an attached pool's process is attached to.
 *
 * By a model's word in the use page (ipc/wire_models.h) the daemon knows
 * whether it is in use here, and takes back what is not. So a model that was
 * used before is used again without a message, as long as the word is IDLE and
 * what the daemon said last is what is mapped (is_right).
 *
 *	use       is_held, the word BUSY: by IDLE -> BUSY here, or by the
 *	          daemon's answer to USE
 *	release   a fence behind the run; when all have passed and no use is
 *	          left, BUSY -> IDLE. Who calls next looks at the fences; the
 *	          service thread does when the daemon asks (YIELD)
 *	evicted   IDLE -> NONE by the daemon; the mapping stays until the
 *	          daemon wants it unmapped, or the next USE brings another
 *
 * The segments' handles are not the pool's (struct lb_segment): a mapping that
 * is not right any more may be of memory that has been destroyed under the same
 * number. A handle lives from its descriptor's import until it is mapped.
 *
 * Invariants
 *   Nothing that is held is unmapped, and nothing is held that is not mapped
 *   and right.
 *   A model is held as long as a use, or a fence of one, is left.
 *   What begins while the daemon has asked for the model goes by the daemon.
 *   The driver is not called, nor the daemon waited for, with the lock of
 *   models.
 */
#ifndef LIB_MODEL_H
#define LIB_MODEL_H

#include "lib/lease.h"
#include "model/manifest.h"

#define LB_MODEL_MAGIC 0x6d6f446cu /* "lDom" */

/* A run that was released and may not be done. */
struct lb_run {
	struct lb_run *next;
	struct dv_fence *fence;
};

struct ps_model {
	/* Immutable after attaching. */
	uint32_t magic;
	uint32_t number;
	uint32_t serial;
	struct lb_models *models;
	uint64_t address;
	uint64_t bytes;
	char name[IP_MODEL_NAME_BYTES];
	struct md_manifest manifest;
	void *manifest_bytes; /* what its names point into */
	uint32_t *by_name;    /* the tensors' numbers in the names' order */

	/* Guarded by requests. */
	uint32_t times; /* attached and not detached */

	/* Guarded by the lock of models. */
	struct ps_model *next;
	uint32_t uses;       /* not released */
	struct lb_run *runs; /* released */
	uint32_t looking;    /* threads that have taken runs out */
	uint32_t failed;     /* of the landed page, when USE was answered */
	bool is_held;        /* the word is BUSY, and that is ours to end */
	bool is_asking;      /* USE is under way */
	bool is_right;
	bool is_removed; /* the daemon does not know it any more */
	bool owes;       /* YIELDED_IDLE, when it is not held */
	struct ip_yield yield;

	/* Changed with the turn, published under the lock of models. */
	uint32_t place; /* 0: not mapped */
};

struct lb_models {
	/* Immutable. */
	struct lb_lease *lease;
	int page_fd;
	struct ip_use_page *page;
	uint64_t board; /* its address */

	/* Of a fixed address; what lies there is changed under requests. */
	const struct ip_landed_page *landed; /* NULL: not joined yet */

	/* Guarded by requests. */
	bool has_board;

	struct bs_lock lock;
	struct ps_model *first; /* changed under requests too */
};

/* ---- joining (lib/model_join.c); requests held ---- */

/* The models of a lease that has joined. PS_UNSUPPORTED: the daemon has
 * none. */
enum ps_status lb_models_start(struct lb_lease *lease);

/* Asks for a model; the daemon's refusal is what this returns. @find: seq is
 * filled in. */
struct lb_finding {
	struct ip_find find;
	struct ip_model model;
	int manifest; /* a descriptor, the caller's */
	enum ps_status denial;
};
enum ps_status lb_model_find(struct lb_lease *lease, void *finding);

/* What @client says to a request: the denial goes to *denial_out, and PS_OK
 * back, for lb_session_ask() would take some for a broken connection. */
enum ps_status lb_model_heard(const struct lb_lease *lease,
			      enum ps_status status,
			      enum ps_status *denial_out);

/* ---- mapping (lib/model_map.c) ---- */

/* Sends USE, and maps. Afterwards it is held, with one use. requests held.
 * pre: not held. PS_OUT_OF_MEMORY, PS_TIMED_OUT, PS_BUSY: after @wait_ms. */
enum ps_status lb_model_ask(struct ps_model *model, uint32_t priority,
			    uint32_t wait_ms);
/* Turn held; nothing runs on it. */
enum ps_status lb_model_unmap(struct ps_model *model);

/* ---- words and fences (lib/model_use.c) ---- */

static inline uint32_t *lb_model_word(const struct ps_model *model)
{
	return &model->models->page->model[model->number].word;
}

static inline const struct ip_landed *
lb_model_landed(const struct ps_model *model)
{
	return &model->models->landed->model[model->number];
}

static inline bool lb_model_turn_word(const struct ps_model *model,
				      uint32_t from, uint32_t into)
{
	return __atomic_compare_exchange_n(lb_model_word(model), &from, into,
					   false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/* PS_OK, or why the caller has to go. */
enum ps_status lb_model_enter(const struct ps_model *model);
/* When nothing is left that holds it, the word says so. With the lock. */
void lb_model_settle(struct ps_model *model);
/* Lets go of the runs that are done; @wait: waits for all of them. */
void lb_model_reap(struct ps_model *model, bool wait);
/* What was given up without an answer is not BUSY. With the lock. */
void lb_model_clear_word(struct ps_model *model);

/* ---- YIELD (lib/model_yield.c) ---- */

enum ip_yielded_state lb_model_yield(struct lb_lease *lease,
				     const struct ip_yield *yield);
bool lb_model_find_yielded(struct lb_lease *lease,
			   struct ip_yielded *yielded_out);
int lb_model_patience_ms(struct lb_lease *lease);
void lb_model_forget_yields(struct lb_lease *lease);

/* ---- attaching (lib/model.c) ---- */

/* Host memory only. NULL: ok. */
void lb_model_free(struct ps_model *model);

#endif /* LIB_MODEL_H */
