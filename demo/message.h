/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What controller and worker say to each other, on the socket that the pool
 * travels on. Both ends are the same program on the same machine, so a
 * message is a struct; the socket keeps their borders (SOCK_SEQPACKET).
 *
 *   worker      READY                              its context exists
 *   controller  ATTACH, then the pool itself       ps_send_shared()
 *   controller  MANIFEST   worker ANSWER           once a model
 *   controller  RUN        worker LABELS           once a switch
 *   controller  FINISH     worker SUMMARY          and both close
 *
 * A worker that fails says FAILED, with the reason, instead of its answer.
 */
#ifndef DEMO_MESSAGE_H
#define DEMO_MESSAGE_H

#include "demo/demo.h"

enum dm_kind {
	DM_READY = 1,
	DM_ATTACH,
	DM_MANIFEST,
	DM_ANSWER,
	DM_RUN,
	DM_LABELS,
	DM_FINISH,
	DM_SUMMARY,
	DM_FAILED,
};

struct dm_entry {
	char name[48];     /* of the tensor */
	uint32_t dtype;    /* enum md_dtype */
	uint32_t rank;     /* dimensions */
	uint64_t shape[8]; /* the first rank count */
	uint64_t offset;   /* from the model's first byte */
	uint64_t bytes;    /* of data */
};

/* Where a model lies in the pool. */
struct dm_manifest {
	uint32_t model;       /* index in dm_model_names */
	uint32_t count;       /* of entries */
	uint64_t pool_offset; /* of the model's first byte */
	uint64_t bytes;       /* of the whole model */
	uint64_t hash;        /* md_layout_hash() of the entries */
	struct dm_entry entries[DM_MAX_TENSORS];
};

/* "Switch to this model and classify these images." */
struct dm_run {
	uint32_t model; /* index in dm_model_names */
	uint32_t first; /* image */
	uint32_t count; /* of images */
};

struct dm_labels {
	uint32_t right;               /* of the images asked for */
	uint8_t labels[DM_MAX_BATCH]; /* what the model says they are */
};

/* All times in nanoseconds; of several, the median. */
struct dm_summary {
	uint64_t addresses[DM_MODELS]; /* of the weights, in this process */
	uint64_t first_block;          /* address of its first allocation */
	uint64_t weight_bytes;         /* copied to the GPU by this process */
	uint64_t input_bytes;          /* likewise */
	uint64_t attach_ns;            /* receive call to first allocation */
	uint64_t alloc_ns;             /* one allocation */
	uint64_t submitted_ns;         /* command to first kernel submitted */
	uint64_t done_ns;              /* command to first kernel done */
	uint32_t allocs;               /* how many were timed */
	uint32_t switches;             /* likewise */
	uint32_t read_only;            /* a write to the weights was refused */
};

struct dm_failure {
	uint32_t status;
	char text[400];
};

struct dm_message {
	uint32_t kind; /* enum dm_kind */
	union {
		struct dm_manifest manifest;
		struct dm_run run;
		struct dm_labels labels;
		struct dm_summary summary;
		struct dm_failure failure;
	};
};

enum ps_status dm_send(int socket, const struct dm_message *message);

/* One without content. */
enum ps_status dm_send_kind(int socket, enum dm_kind kind);

/*
 * Waits up to DM_TIMEOUT_MS. A peer's FAILED comes back as its status and
 * text; any other kind than @kind is PS_PROTOCOL. @kind 0: whatever comes.
 */
enum ps_status dm_receive(int socket, enum dm_kind kind,
			  struct dm_message *message_out);

#endif /* DEMO_MESSAGE_H */
