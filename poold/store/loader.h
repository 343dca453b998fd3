/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The thread that moves models: copies groups of tensors to the segments and
 * writes the counters. One stream: what was submitted first is done first. A
 * second thread registers host memory with the driver, which takes long.
 *
 * A group is one copy (more where it crosses segments' ends) and one write of
 * the counter behind it; the thread waits for none of them, but keeps only so
 * many bytes under way, so that a load of higher priority gets between two
 * groups of another.
 *
 * Invariants
 *   The counter says n only when the first n tensors have landed. A load that
 *   fails counts its failure in the page first, then sets the counter beyond
 *   all: nobody hangs, and nobody believes what came of it, not even a loader
 *   that takes the board over: it says PS_LOAD_FAILED of such a counter until
 *   it is reset.
 *   The page never says more than the counter.
 *   A load is done, or has failed, only when no copy of it can run any more.
 *   Nothing here creates or frees memory of the GPU, the board excepted.
 */
#ifndef POOLD_STORE_LOADER_H
#define POOLD_STORE_LOADER_H

#include "model/plan.h"
#include "poold/gpu.h"
#include "poold/journal.h"

struct pd_loader;

enum pd_load_job {
	PD_LOAD_REGISTER,
	PD_LOAD_UNREGISTER,
	PD_LOAD_COPY,
	PD_LOAD_RESET,
};

struct pd_load_done {
	enum pd_load_job job;
	uint32_t model;
	uint32_t serial;
	enum ps_status status;
	char text[IP_TEXT_MAX + 1];
	uint64_t bytes; /* COPY: that travelled, and for how long */
	uint64_t ns;    /* by the GPU's clock */
};

/* What a model is to the loader. All the caller's, and alive until the job
 * that uses it is taken from pd_loader_take(). */
struct pd_load_model {
	uint32_t model;
	uint32_t serial;
	const struct md_tensor *tensors; /* offsets in the model */
	uint32_t count;
	const uint8_t *memory; /* the host copy, registered; where it is not,
				* it is copied all the same, slowly */
	uint64_t bytes;
	const uint32_t *segment; /* in the order of the model's addresses */
	uint32_t segments;
	const uint32_t *compute_ns; /* NULL: not known */
	enum ps_model_plan plan;
	uint32_t groups;
	uint32_t priority;
};

/*
 * @board: the GPU's memory for the counters, or -1: it is made (the first
 * agent); stays the caller's. @landed: the page, a memfd, writable; stays the
 * caller's. Makes driver calls, and measures the wire: a few milliseconds.
 */
enum ps_status pd_loader_new(struct pd_gpu *gpu, int board, int landed,
			     struct pd_loader **loader_out);
/* What is under way has passed then; what is queued is dropped. NULL: ok. */
void pd_loader_free(struct pd_loader *loader);
/* The board's descriptor; stays the loader's. */
int pd_loader_board(const struct pd_loader *loader);
int pd_loader_event(const struct pd_loader *loader); /* readable: take */

/* pre: of both: no copy from that memory is queued or under way. */
void pd_loader_register(struct pd_loader *loader, uint32_t model,
			uint32_t serial, void *memory, uint64_t bytes);
void pd_loader_unregister(struct pd_loader *loader, uint32_t model,
			  uint32_t serial, void *memory, uint64_t bytes);
/* Begins where the counter is. pre: what @load points to stays; no other job
 * of the model is queued but resets. */
void pd_loader_copy(struct pd_loader *loader, const struct pd_load_model *load);
/* Higher for one that waits; never lower than it was. */
void pd_loader_hurry(struct pd_loader *loader, uint32_t model,
		     uint32_t priority);
/* The counter and the page to 0. Comes before each copy that is queued later.
 * pre: no copy of the model is queued or under way. */
void pd_loader_reset(struct pd_loader *loader, uint32_t model, uint32_t serial);
/* The next thing done; false: nothing. PS_DEVICE_LOST: the GPU is gone, and
 * whoever waits for it is told so by others. */
bool pd_loader_take(struct pd_loader *loader, struct pd_load_done *done_out);
/* As measured; for people. */
struct md_wire pd_loader_wire(const struct pd_loader *loader);

#endif /* POOLD_STORE_LOADER_H */
