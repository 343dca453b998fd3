/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The messages about models, from minor 4 on (docs/protocol.md). Part of
 * ipc/wire.h, which is what to include.
 *
 *	client -> daemon                daemon -> client
 *	ADD (no ATTACH before)          ADDED
 *	ORDER (the same)                DID
 *	COSTS                           DID
 *	JOIN                            BOARD
 *	FIND                            MODEL
 *	USE                             PLACE, more when IP_LIST_MORE
 *	DROPPED                         DID
 *
 *	daemon -> service thread        service thread -> daemon
 *	YIELD                           YIELDED
 *
 * Beside the messages there are two pages of host memory. The client's own,
 * which it makes and sends with JOIN, has a word for each model: by that the
 * daemon sees what is in use, and takes back what is not, without a message.
 * The daemon's, read-only for clients, says how far each model has landed.
 */
#ifndef IPC_WIRE_MODELS_H
#define IPC_WIRE_MODELS_H

#include "include/poolswitch.h"

#define IP_MINOR_MODELS 4u

#define IP_MODELS_MAX 1024u
#define IP_MODEL_FILES 128u /* parts of a sharded model */
#define IP_MODEL_NAME_BYTES (PS_MODEL_NAME_MAX + 1u) /* filled with zeros */
#define IP_SOURCE_BYTES 256u
#define IP_NO_MODEL UINT32_MAX
#define IP_TENSORS_MAX (UINT32_C(1) << 24)
#define IP_MODEL_ALIGN 256u /* of tensors, and of a model's bytes */
#define IP_MANIFEST_MAX (UINT64_C(1) << 30)
/* ORDER's, longer than other waits: a file may have to be read again. */
#define IP_ORDER_WAIT_MAX_MS (24u * 60 * 60 * 1000)

/*
 * A client's word about a model. The client: IDLE to BUSY when it begins to
 * use it, BUSY to IDLE when its work is done. The daemon: NONE to BUSY before
 * it answers USE, IDLE to NONE before it evicts. All by compare-and-exchange.
 * What else is found is taken for BUSY.
 */
enum ip_use_word {
	IP_USE_NONE = 0, /* what is mapped may be another model's */
	IP_USE_IDLE = 1, /* mapped and right; not in use */
	IP_USE_BUSY = 2,
};

/* The page that a client makes: a memfd of exactly this, sealed against a
 * change of its size. */
struct ip_use_page {
	struct ip_use {
		uint32_t word; /* enum ip_use_word */
		uint32_t used; /* when last, in units of IP_USED_MS; for the
				* choice of what to evict, believed no more
				* than that */
	} model[IP_MODELS_MAX];
};
#define IP_USED_MS 64u /* CLOCK_MONOTONIC, wraps */

/* The daemon's page. A reader that sees landed has the tensors before it. */
struct ip_landed_page {
	struct ip_landed {
		uint32_t landed; /* tensors, from the first on */
		uint32_t failed; /* counts loads that failed */
	} model[IP_MODELS_MAX];
};

/*
 * The board: memory of the GPU, with a counter for each model at this
 * distance, mapped by every client, read-only, at the start of the window's
 * upper half; the models' addresses follow in whole segments. What a client
 * maps for itself (aliases, blocks that are gathered) lies below.
 */
#define IP_BOARD_STRIDE 64u
#define IP_BOARD_BYTES (UINT64_C(2) << 20)

/* Where the upper half begins, with the board. */
static inline uint64_t ip_models_base(uint64_t window_base,
				      uint64_t window_bytes,
				      uint64_t segment_bytes)
{
	return window_base + window_bytes / segment_bytes / 2 * segment_bytes;
}

/* With it: the files, 1 to IP_MODEL_FILES, in the order of the layout. */
struct ip_add {
	uint32_t seq;
	uint32_t flags;                 /* enum ps_model_flags */
	uint32_t plan;                  /* enum ps_model_plan */
	uint32_t groups;                /* PS_PLAN_GROUPS: 1 or more; else 0 */
	char name[IP_MODEL_NAME_BYTES]; /* not ""; see ip_model_name_is_ok() */
	char source[IP_SOURCE_BYTES];   /* printable, for people; "" allowed */
};

struct ip_added {
	uint32_t seq;
	uint8_t hash[PS_MODEL_HASH_BYTES];
};

struct ip_order {
	uint32_t seq;
	uint32_t order;   /* enum ps_model_action */
	uint32_t wait_ms; /* at most IP_ORDER_WAIT_MAX_MS */
	char name[IP_MODEL_NAME_BYTES];
};

/* With it: a memfd, sealed against every change, with a uint32_t for each
 * tensor. */
struct ip_costs {
	uint32_t seq;
	uint32_t model;
	uint32_t count;
};

/* JOIN: a number, and the client's page with it. Once a connection. */

/* With it: the board's descriptor, and the daemon's page, read-only. */
struct ip_board {
	uint32_t seq;
	uint32_t models; /* IP_MODELS_MAX */
};

enum ip_find_flags {
	IP_FIND_NAME = 1u << 0,
	IP_FIND_HASH = 1u << 1, /* both: that name with that hash */
};

struct ip_find {
	uint32_t seq;
	uint32_t flags; /* of enum ip_find_flags, one at least */
	char name[IP_MODEL_NAME_BYTES];
	uint8_t hash[PS_MODEL_HASH_BYTES];
};

/* With it: the manifest (model/manifest.h), a sealed memfd. The client is
 * attached to the model until DROPPED, or its end. */
struct ip_model {
	uint32_t seq;
	uint32_t model;   /* its number: of the words and the counter */
	uint32_t serial;  /* of the model that has this number now */
	uint32_t tensors; /* 1 to IP_TENSORS_MAX */
	uint64_t address; /* in the window's upper half, of a whole segment */
	uint64_t bytes;   /* a multiple of 256 */
	uint64_t manifest_bytes; /* at most IP_MANIFEST_MAX */
	uint8_t hash[PS_MODEL_HASH_BYTES];
	char name[IP_MODEL_NAME_BYTES];
};

/* The client wants it, and to be told where it is. */
struct ip_use_request {
	uint32_t seq;
	uint32_t model;
	uint32_t serial;
	uint32_t place; /* what PLACE said last, when that is mapped; else 0 */
	uint32_t priority;
	uint32_t wait_ms; /* at most IP_WAIT_MAX_MS */
};

enum ip_place_flags {
	/* IP_LIST_MORE, and */
	IP_PLACE_SAME = 1u << 1, /* as it is mapped: no segments follow */
};

/* The segments in the order of the model's addresses, with their descriptors.
 * The weights are there or on their way. */
struct ip_place {
	uint32_t seq;
	uint32_t flags;
	uint32_t place;  /* grows when the segments are others; not 0 */
	uint32_t failed; /* of struct ip_landed, as of now */
	uint32_t count;  /* 0 with IP_PLACE_SAME, else 1 to IP_LIST_MAX */
	uint32_t segment[IP_LIST_MAX];
};

/* The client has unmapped it and is attached no more. */
struct ip_dropped {
	uint32_t seq;
	uint32_t model;
	uint32_t serial;
};

enum ip_yield_flags {
	/* Unmap it too: its memory is to be destroyed, or goes to others. */
	IP_YIELD_UNMAP = 1u << 0,
};

/* Daemon: somebody needs the room; make it IDLE as soon as it can be. */
struct ip_yield {
	uint32_t seq;
	uint32_t flags; /* of enum ip_yield_flags */
	uint32_t model;
	uint32_t serial;
	uint32_t deadline_ms; /* for the answer, from now */
};

enum ip_yielded_state {
	IP_YIELDED_IDLE = 0, /* and, if that was asked, unmapped and NONE */
	IP_YIELDED_BUSY =
		1, /* in use; another YIELDED follows when it is not */
};

struct ip_yielded {
	uint32_t seq; /* of YIELD */
	uint32_t model;
	uint32_t serial;
	uint32_t state; /* enum ip_yielded_state */
};

/* 1 to PS_MODEL_NAME_MAX letters, digits and -_.:/@+, zeros after them. */
bool ip_model_name_is_ok(const char name[IP_MODEL_NAME_BYTES]);

#endif /* IPC_WIRE_MODELS_H */
