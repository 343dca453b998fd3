/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A pretend world around the store of models: clients with their words, a
 * clock, host memory, a GPU that does in order what it was told to, and a
 * record of what the store answered to whom.
 *
 * It knows by itself what is in each segment, who could ever read it and who
 * uses what, and notes in @wrong the first thing that the store must never do:
 * take weights from under a client, load where others could read, let a client
 * believe in a mapping or in a counter that is not right, say what the journal
 * does not say yet, answer twice.
 */
#ifndef TESTS_SUPPORT_STORE_WORLD_H
#define TESTS_SUPPORT_STORE_WORLD_H

#include <setjmp.h>

#include "poold/store/store.h"

#define TS_SEGMENTS 32u
#define TS_CLIENTS 8u
#define TS_MODELS 24u /* numbers that are looked at */
#define TS_ASKERS 4096u
#define TS_JOBS 256u
#define TS_UNIT (UINT64_C(2) << 20)
#define TS_YIELD_MS 500u
#define TS_NOBODY UINT32_MAX

enum ts_answer { TS_NONE, TS_PLACE, TS_DONE, TS_DENY };

/* By the asker's tag. */
struct ts_asked {
	bool is_open;
	uint32_t client; /* TS_NOBODY: a visit */
	uint32_t model;  /* USE: of it; ADD: what it became */
	enum ts_answer answer;
	enum ps_status status;
	char text[IP_TEXT_MAX + 1];
};

struct ts_segment {
	uint32_t serial;  /* of the model whose weights are in it; 0: none */
	uint32_t readers; /* who could read it since it was made */
	uint32_t made;    /* grows with each remake */
	bool is_remaking;
};

enum ts_counter { TS_EMPTY, TS_LANDED, TS_FAILED };

/* What its files are stands in its source. */
struct ts_model {
	bool has_host;
	bool is_reading;
	uint32_t drops; /* of its copy */
	enum ts_counter counter;
	bool resumes; /* it was loaded when the agent died */
	bool is_resetting;
	uint32_t yields;
	uint32_t loads; /* ops */
	uint32_t resets;
	uint32_t priority; /* of the last one */
};

struct ts_view {
	bool is_attached;
	enum ip_use_word word;
	bool is_asked;  /* to yield, and has not answered */
	uint32_t place; /* what is mapped */
	uint32_t segment[TS_SEGMENTS];
	uint32_t made[TS_SEGMENTS];
	uint32_t serial;
	uint64_t used_ms;
};

struct ts_client {
	bool has_joined; /* the agent that is there now */
	uint32_t uid;
	struct ts_view view[TS_MODELS];
};

enum ts_job_kind { TS_LOAD, TS_RESET };

struct ts_job {
	enum ts_job_kind kind;
	uint32_t model;
	uint32_t serial;
	uint32_t count;
	uint32_t segment[TS_SEGMENTS];
};

struct ts_world {
	uint32_t segments;
	uint64_t budget;
	uint64_t now_ms;
	uint64_t armed_ms;
	struct pd_journal *journal;
	struct pd_store *store;
	struct ts_segment segment[TS_SEGMENTS];
	struct ts_model model[TS_MODELS];
	struct ts_client client[TS_CLIENTS];
	struct ts_asked asked[TS_ASKERS];
	uint32_t askers;
	struct ts_job job[TS_JOBS]; /* the GPU's, in order */
	uint32_t jobs;
	uint64_t forgets;
	uint64_t places; /* answers to USE */
	char wrong[256]; /* "": nothing */
	/* A client begins to use the model while the store takes words back. */
	uint32_t slips; /* so often */
	/* A client's words are other ones each time they are looked at. */
	bool is_fickle;
	uint32_t tricks; /* yields asked for in vain */
	uint64_t ops;
	uint64_t kill_at; /* the agent dies in this one; 0: it does not */
	jmp_buf killed;
};

bool ts_open(struct ts_world *world, uint32_t segments, uint64_t budget);
void ts_close(struct ts_world *world);
/* The agent dies with @jobs of the GPU's done, and another takes its place.
 * @is_lost: what was being remade is gone, else it is as it was. */
bool ts_restart(struct ts_world *world, uint32_t jobs, bool is_lost);
/* A client comes back: attached to what it was. */
void ts_rejoin(struct ts_world *world, uint32_t client);

/* ---- requests: each returns its tag ---- */

uint64_t ts_add(struct ts_world *world, const char *name, uint32_t uid,
		uint32_t flags, uint64_t bytes, uint8_t hash);
uint64_t ts_order(struct ts_world *world, uint32_t uid, uint32_t order,
		  const char *name, uint32_t wait_ms);
uint64_t ts_use(struct ts_world *world, uint32_t client, uint32_t model,
		uint32_t priority, uint32_t wait_ms);
/* As a client does it: no message where its word is IDLE. True: it was. */
bool ts_begin(struct ts_world *world, uint32_t client, uint32_t model);
/* BUSY to IDLE, and what was asked is answered. */
void ts_release(struct ts_world *world, uint32_t client, uint32_t model);
enum ps_status ts_attach(struct ts_world *world, uint32_t client,
			 const char *name, uint32_t *model_out);
void ts_detach(struct ts_world *world, uint32_t client, uint32_t model);
/* The client dies and is fenced; its place is another's. */
void ts_die(struct ts_world *world, uint32_t client);

enum ts_answer ts_answer(const struct ts_world *world, uint64_t tag);
enum ps_status ts_status(const struct ts_world *world, uint64_t tag);

/* ---- what goes on by itself ---- */

/* All of it, until nothing is left. */
void ts_work(struct ts_world *world);
/* One each; false: there is nothing. */
bool ts_read_one(struct ts_world *world, enum ps_status status);
bool ts_gpu_one(struct ts_world *world, enum ps_status status);
bool ts_remake_one(struct ts_world *world, enum ps_status status);
void ts_wait(struct ts_world *world, uint64_t ms);

/* Adds it, does all work; its number. pre: it is taken. */
uint32_t ts_have(struct ts_world *world, const char *name, uint32_t uid,
		 uint32_t flags, uint32_t segments);
/* The same, on the GPU. */
uint32_t ts_loaded(struct ts_world *world, const char *name, uint32_t segments);
/* The same, in use by that client. */
uint32_t ts_busy(struct ts_world *world, const char *name, uint32_t segments,
		 uint32_t client);

enum pd_model_state ts_state(const struct ts_world *world, uint32_t model);
/* Its first segment; TS_NOBODY. */
uint32_t ts_first(const struct ts_world *world, uint32_t model);
bool ts_is_used(const struct ts_world *world, uint32_t model);

void ts_complain(struct ts_world *world, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Each call out of the store is a step: a place where the agent can die. */
void ts_step(struct ts_world *world);

#endif /* TESTS_SUPPORT_STORE_WORLD_H */
