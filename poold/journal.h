/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the daemon must not forget when its agent or its keeper dies: who has
 * which segment, who the clients are, and which models there are. It lies in a
 * memfd that both hold, so it outlives either; when both are dead there is
 * nothing to remember.
 *
 * It is a table, not a log: each record has two places, each with a number
 * that grows and a checksum. A change is written to the older place, which is
 * empty until its number is stored, last of all; a reader takes the newer
 * place. So a record is always as it was before or as it is after, whenever
 * the writer is killed.
 *
 * Invariants
 *   A record is committed before what it says can be seen outside: a lease
 *   before its GRANT leaves, a free segment after its fence has passed.
 *   A journal of another layout is refused, never read.
 *   A record with a place that is neither empty nor whole, or with none that
 *   is whole, is reported as damaged, never as free: its segment is given to
 *   nobody. A writer that is killed leaves no such place.
 */
#ifndef POOLD_JOURNAL_H
#define POOLD_JOURNAL_H

#include "include/poolswitch.h"
#include "ipc/wire.h"

/* Grows with every change of the bytes. */
#define PD_JOURNAL_LAYOUT 3u

#define PD_NO_CLIENT UINT32_MAX
#define PD_NO_USER UINT32_MAX
#define PD_ANY_USER (UINT32_MAX - 1u) /* of a public model */
#define PD_NO_MODEL UINT32_MAX

/* Clients besides its owner that may have a segment open at once. */
#define PD_OPENERS 16u
#define PD_NO_OPENER UINT16_MAX

#define PD_KEY_BYTES 32u

/* The pool that the journal is about. Written once. */
struct pd_pool_record {
	uint8_t id[IP_POOL_ID_BYTES];
	char gpu[IP_GPU_BYTES];
	uint64_t window_base;
	uint64_t window_bytes;
	uint64_t segment_bytes;
	uint64_t parameter_bytes;
	uint32_t segments;
	uint32_t clients;          /* places for clients */
	uint8_t key[PD_KEY_BYTES]; /* random: of the tickets */
};

enum pd_segment_state {
	PD_CLEAN = 1,     /* free; zeros, or fresh from the driver */
	PD_DIRTY = 2,     /* free; to be scrubbed */
	PD_LEASED = 3,    /* its client may use it */
	PD_PARKED = 4,    /* its client has it mapped and does not use it */
	PD_REMAKING = 5,  /* to be destroyed and created anew */
	PD_PARAMETER = 6, /* of the parameter region, nobody's or a model's */
	PD_DAMAGED = 7,   /* read only: the record is not whole */
	PD_OUTSIDE = 8,   /* destroyed, or about to be: its client has as many
			   * bytes of the driver's own */
	PD_SHARED = 9,    /* nobody's; clients have it open by tickets */
};

struct pd_segment_record {
	enum pd_segment_state state;
	uint32_t client; /* LEASED, PARKED, OUTSIDE: its slot; SHARED: the
			  * slot of the one that gave it back and is still
			  * charged with it; else PD_NO_CLIENT */
	uint32_t user;   /* who had it last; PD_NO_USER: nobody since it was
			  * created */
	uint32_t epoch;  /* grows with each lease; never 0 while leased */
	/* It may be mapped by somebody of whom nobody knows (exported, or one
	 * that had it was not shown to be gone): only remaking frees it.
	 * PARAMETER: given to clients to use as they like, never a model's. */
	bool is_tainted;
	/* PARAMETER: the model that lies in it, and where (its first segment
	 * is 0); else PD_NO_MODEL. */
	uint32_t model;
	uint32_t position;
	/* Slots of clients that have it open, each once; PD_NO_OPENER: a free
	 * place. SHARED: one at least; LEASED, PARKED: any; else none. */
	uint16_t openers[PD_OPENERS];
};

/* How the process is found again, and its heirs: poold/peer.h. */
struct pd_marks {
	uint64_t started;  /* /proc/PID/stat starttime; 0: could not be read */
	uint64_t image[4]; /* addresses that a fork keeps and an exec does not;
			    * all 0: could not be read */
};

struct pd_client_record {
	bool used;
	uint64_t id;
	uint8_t token[IP_TOKEN_BYTES];
	int32_t pid; /* 0: cannot be seen from here */
	uint32_t uid;
	uint32_t gid;
	uint32_t flags; /* enum ip_attach_flags */
	uint64_t reservation;
	uint64_t limit;
	char name[IP_NAME_BYTES];
	struct pd_marks marks;
};

enum pd_model_state {
	PD_MODEL_FREE = 0,
	PD_MODEL_READING,  /* a copy in host memory is being made */
	PD_MODEL_KNOWN,    /* its files are; no copy */
	PD_MODEL_HOST,     /* there is a copy */
	PD_MODEL_LOADING,  /* has its segments; the counter says how far */
	PD_MODEL_RESIDENT, /* all has landed */
	PD_MODEL_EVICTING, /* the counter goes back to 0; with segments: when
			    * the users of a load that failed are gone */
};

struct pd_model_record {
	enum pd_model_state state; /* FREE: all else is 0 */
	uint32_t serial;           /* of all models ever; never 0 */
	uint32_t uid;              /* who added it */
	uint32_t flags;            /* enum ps_model_flags */
	bool is_known;             /* the hash is: it was read once */
	bool is_pinned;
	uint8_t hash[PS_MODEL_HASH_BYTES];
	uint64_t bytes; /* 0 until its files were read */
	uint32_t tensors;
	uint32_t files;
	uint32_t slot;  /* of the window, the first; 0 until it is known */
	uint32_t place; /* as in struct ip_place; 0: was never loaded */
	uint32_t plan;  /* enum ps_model_plan */
	uint32_t groups;
	char name[IP_MODEL_NAME_BYTES];
	char source[IP_SOURCE_BYTES];
};

struct pd_journal;

/* PS_FD_LIMIT, PS_HOST_MEMORY, PS_SYSTEM (no memory for it, here or later: it
 * is taken at once). All segments: CLEAN or PARAMETER by their place, no user.
 * pre: segments and clients are at least 1, at most what the protocol has. */
enum ps_status pd_journal_create(const struct pd_pool_record *pool,
				 struct pd_journal **journal_out);
/*
 * Takes the descriptor over, also when it fails. PS_VERSION_MISMATCH: another
 * layout; PS_PROTOCOL: it is no journal, it has another size than it says, or
 * the pool's record is damaged.
 */
enum ps_status pd_journal_open(int fd, struct pd_journal **journal_out);
void pd_journal_close(struct pd_journal *journal); /* NULL: ok */

int pd_journal_fd(const struct pd_journal *journal); /* stays the journal's */
const struct pd_pool_record *pd_journal_pool(const struct pd_journal *journal);

/* pre: number < pool's segments. */
struct pd_segment_record pd_journal_segment(const struct pd_journal *journal,
					    uint32_t number);
void pd_journal_put_segment(struct pd_journal *journal, uint32_t number,
			    const struct pd_segment_record *record);

/* pre: slot < pool's clients. PS_PROTOCOL: damaged; then *record_out is not
 * written. */
enum ps_status pd_journal_client(const struct pd_journal *journal,
				 uint32_t slot,
				 struct pd_client_record *record_out);
void pd_journal_put_client(struct pd_journal *journal, uint32_t slot,
			   const struct pd_client_record *record);

/* pre: model < IP_MODELS_MAX. As for clients. */
enum ps_status pd_journal_model(const struct pd_journal *journal,
				uint32_t model,
				struct pd_model_record *record_out);
void pd_journal_put_model(struct pd_journal *journal, uint32_t model,
			  const struct pd_model_record *record);

#endif /* POOLD_JOURNAL_H */
