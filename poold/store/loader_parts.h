/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the files of the loader share: loader.c (the caller's side),
 * loader_board.c (counters, the wire), loader_work.c (the threads). */
#ifndef POOLD_STORE_LOADER_PARTS_H
#define POOLD_STORE_LOADER_PARTS_H

#include "base/lock.h"
#include "device/device.h"
#include "poold/store/loader.h"

#include <stdatomic.h>

/* Stands for more than all tensors: a load that failed. */
#define PD_COUNTER_FAILED UINT32_C(0x7fffffff)

/* Fences under way at most. */
#define PD_FLIGHTS 64u

/* A job, from the call that asks for it until it is taken as done. */
struct pd_load_task {
	struct pd_load_task *next;
	struct pd_load_done done;

	/* Immutable. */
	struct pd_load_model load; /* COPY */
	void *memory;              /* REGISTER, UNREGISTER */
	uint64_t bytes;

	/* Guarded by the lock. */
	uint32_t priority;

	/* COPY: the mover's. */
	bool is_begun;
	struct md_plan plan;
	uint32_t group;         /* that travels next, or is under way... */
	uint64_t at;            /* ...from this byte of the model on */
	uint32_t written;       /* to the counter, on the stream */
	struct dv_fence *start; /* timed; NULL: none */
};

struct pd_load_list {
	struct pd_load_task *first;
	struct pd_load_task **last;
};

/* A point in the stream; when it has passed, so much can be said. */
struct pd_flight {
	struct dv_fence *fence;
	struct pd_load_task *task;
	uint32_t landed; /* what its counter says then */
	bool is_end;     /* of the task */
	uint64_t bytes;  /* under way until then */
};

struct pd_loader {
	uint32_t magic;

	/* Immutable. */
	struct pd_gpu *gpu;
	struct dv_device *device;
	void *stream;
	int event; /* eventfd */
	int board_fd;
	uint64_t board; /* address; 0: not mapped */
	struct ip_landed_page *page;
	struct md_wire wire;
	uint64_t most_under_way; /* bytes; tests have it smaller */

	/* The mover's. */
	uint32_t counter[IP_MODELS_MAX]; /* as on the board */
	struct pd_flight flight[PD_FLIGHTS];
	unsigned int first_flight;
	unsigned int flights;
	uint64_t under_way;        /* bytes, fenced or not... */
	uint64_t unfenced;         /* ...of them, since the last fence */
	struct pd_load_task *last; /* whose these are; NULL: nobody's */

	atomic_bool is_lost; /* nothing more is tried */

	/* The caller's. */
	pthread_t mover;
	pthread_t registrar;
	bool has_mover;
	bool has_registrar;

	/* Guarded by lock. */
	struct bs_lock lock;
	pthread_cond_t moves;
	pthread_cond_t registers;
	bool is_ending;
	struct pd_load_list resets;
	struct pd_load_list copies;
	struct pd_load_list memory; /* to be registered, unregistered */
	struct pd_load_list done;
};

#define PD_LOADER_MAGIC 0x70646c64u

/* ---- lists: loader.c ---- */

void pd_load_list_init(struct pd_load_list *list);
void pd_load_list_add(struct pd_load_list *list, struct pd_load_task *task);
/* NULL: it is empty. */
struct pd_load_task *pd_load_list_take(struct pd_load_list *list);
void pd_load_list_remove(struct pd_load_list *list, struct pd_load_task *task);

/* What a task came to. A failure's text is the calling thread's last. */
void pd_loader_note(struct pd_load_task *task, enum ps_status status);
/* Gives it to the caller. pre: it is on no list; the lock is not held. */
void pd_loader_report(struct pd_loader *loader, struct pd_load_task *task);

/* ---- the board: loader_board.c ---- */

/* Makes it, or takes it over with what its counters say. */
enum ps_status pd_board_open(struct pd_loader *loader, int board);
void pd_board_close(struct pd_loader *loader);
uint64_t pd_board_counter(const struct pd_loader *loader, uint32_t model);
/* Copies to what the board has besides. */
enum ps_status pd_board_measure(struct pd_loader *loader);

/* ---- the threads: loader_work.c ---- */

void *pd_loader_move(void *loader);
void *pd_loader_do_memory(void *loader);

#endif /* POOLD_STORE_LOADER_PARTS_H */
