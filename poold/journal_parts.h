/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The journal's bytes, and what its files share: journal.c has the file,
 * journal_place.c the two places of a record, journal_records.c the records.
 *
 * A header, then two places for each segment, two for each client, and two
 * for each model.
 */
#ifndef POOLD_JOURNAL_PARTS_H
#define POOLD_JOURNAL_PARTS_H

#include "poold/journal.h"

#include <stdatomic.h>
#include <stddef.h>

struct pd_journal_header {
	uint64_t magic;
	uint32_t layout;
	uint32_t header_bytes;
	uint64_t total_bytes;
	uint32_t segment_place_bytes;
	uint32_t client_place_bytes;
	uint32_t model_place_bytes;
	uint32_t models;
	uint8_t id[IP_POOL_ID_BYTES];
	char gpu[IP_GPU_BYTES];
	uint64_t window_base;
	uint64_t window_bytes;
	uint64_t segment_bytes;
	uint64_t parameter_bytes;
	uint32_t segments;
	uint32_t clients;
	uint8_t key[PD_KEY_BYTES];
	uint32_t spare;
	uint32_t crc; /* of all before it */
};

/* How each place begins. */
struct pd_stamp {
	_Atomic(uint64_t) number; /* 0: empty */
	uint32_t crc;             /* of the number and of what follows here */
	uint32_t spare;
};

struct pd_segment_place {
	struct pd_stamp stamp;
	uint32_t state;
	uint32_t client;
	uint32_t user;
	uint32_t epoch;
	uint32_t is_tainted;
	uint32_t model;
	uint32_t position;
	uint32_t spare;
	uint16_t openers[PD_OPENERS];
};

struct pd_client_place {
	struct pd_stamp stamp;
	uint64_t id;
	uint64_t reservation;
	uint64_t limit;
	uint64_t started;
	uint64_t image[4];
	uint8_t token[IP_TOKEN_BYTES];
	uint32_t used;
	int32_t pid;
	uint32_t uid;
	uint32_t gid;
	uint32_t flags;
	uint32_t spare;
	char name[IP_NAME_BYTES];
};

struct pd_model_place {
	struct pd_stamp stamp;
	uint64_t bytes;
	uint32_t state;
	uint32_t serial;
	uint32_t uid;
	uint32_t flags;
	uint32_t is_known;
	uint32_t is_pinned;
	uint32_t tensors;
	uint32_t files;
	uint32_t slot;
	uint32_t place;
	uint32_t plan;
	uint32_t groups;
	uint8_t hash[PS_MODEL_HASH_BYTES];
	char name[IP_MODEL_NAME_BYTES];
	char source[IP_SOURCE_BYTES];
};

/* What another process reads must not depend on the compiler. */
_Static_assert(sizeof(struct pd_journal_header) == 184,
	       "the journal's header changed");
_Static_assert(sizeof(struct pd_segment_place) == 80,
	       "a segment's place changed");
_Static_assert(sizeof(struct pd_client_place) == 184,
	       "a client's place changed");
_Static_assert(sizeof(struct pd_model_place) == 488, "a model's place changed");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a store could be cut in two");

struct pd_journal {
	int fd;
	unsigned char *map;
	size_t bytes;
	struct pd_pool_record pool; /* a copy: checked once, then believed */
};

/* The place that counts, of two that lie one behind the other; NULL: the
 * record is damaged. */
struct pd_stamp *pd_place_newest(struct pd_stamp *first, size_t bytes);
/* Where the next version of a record goes, emptied; and its number. */
struct pd_stamp *pd_place_begin(struct pd_stamp *first, size_t bytes,
				uint64_t *number_out);
/* It is filled: gives it its number. */
void pd_place_commit(struct pd_stamp *stamp, size_t bytes, uint64_t number);

#endif /* POOLD_JOURNAL_PARTS_H */
