/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The agent's models from inside: what joins the store (which decides), the
 * threads that read and load (which do), the clients and the keeper. The
 * files: agent_models.c starts, turns and ends it, agent_model_add.c and
 * agent_model_use.c hear what is asked for, agent_model_members.c the clients'
 * words, agent_model_yield.c who is asked to let go, agent_model_host.c the
 * copies in host memory, agent_model_load.c what travels,
 * agent_model_ask.c the questions.
 *
 * Invariants
 *   The keeper holds a descriptor before anybody is told what it is for.
 *   Of a client's page only the words of models to which it is attached are
 *   looked at. One that had a page with an agent that died, and has not sent
 *   it again, counts as using everything.
 *   The store is never called from its own operations: what such a one comes
 *   to at once is told in the loop's next turn.
 */
#ifndef POOLD_AGENT_MODELS_H
#define POOLD_AGENT_MODELS_H

#include "poold/agent.h"
#include "poold/store/host.h"
#include "poold/store/loader.h"
#include "poold/store/store.h"

/* A file of which no byte comes for so long is given up: others wait. */
#define PD_READ_STUCK_MS 30000u

/* It may have mapped the model as an agent that died had placed it. */
#define PD_PLACE_UNKNOWN UINT32_MAX

/* A client that is attached to a model. */
struct pd_bond {
	struct pd_bond *next; /* of the client */
	struct pd_bond *next_of_model;
	struct pd_member *member;
	uint32_t model;
	uint32_t place;   /* what PLACE said last; 0: has it not mapped */
	uint32_t *mapped; /* segments of that place */
	uint32_t mapped_count;
	/* What it was asked last. */
	uint32_t yield_seq;   /* 0: nothing that is not answered */
	uint32_t yield_flags; /* of enum ip_yield_flags */
	bool is_wanted;       /* it is asked when it comes back */
	bool is_placed_since; /* PLACE has left after YIELD */
	uint64_t deaf_at_ms;  /* 0: it has answered, or is not asked */
	bool is_deaf;
};

/* A client that has joined. */
struct pd_member {
	struct pd_member *next;
	uint32_t slot;
	/* The client writes to it at any time. NULL: an agent that died had
	 * it. */
	struct ip_use_page *page;
	bool is_inherited;   /* what it has mapped is not known */
	uint64_t deaf_at_ms; /* of one without a page; 0: it is not awaited */
	bool is_deaf;
	struct pd_bond *bonds;
};

/* A load: all that pd_loader_copy() must find unchanged. Made with the copy in
 * host memory, so that no load fails for want of it. */
struct pd_load {
	struct pd_load_model what;
	uint32_t *segment; /* room for the region */
	bool is_under_way;
	uint32_t failed; /* what the page said before it began */
};

/* A copy that is given up: the driver lets go of it, then it is unmapped. */
struct pd_discard {
	struct pd_discard *next;
	uint32_t serial;
	void *memory;
	uint64_t bytes;
	int copy;
};

/* Of a model's place in the journal. */
struct pd_model {
	struct pd_bond *bonds;
	uint32_t serial;     /* of what is here */
	void *memory;        /* the copy, mapped; its descriptor is the
			      * holdings' */
	uint64_t bytes;      /* of the model */
	uint64_t host_bytes; /* that the copy takes */
	bool is_fresh;       /* the store does not know of the copy yet */
	struct pd_host_layout layout; /* no memory: not known */
	uint32_t *costs;              /* for each tensor; NULL: not known */
	uint32_t *next_costs;         /* came while a load went by the others */
	struct pd_load *load;
	enum ps_status failed; /* to be told to the store; PS_OK: nothing */
	char failed_text[IP_TEXT_MAX + 1];
	uint64_t used_ms;
	/* for people */
	uint64_t copied;  /* bytes that travelled */
	uint64_t load_ns; /* of the last load, by the GPU's clock */
};

struct pd_models {
	struct pd_agent *agent;
	struct pd_store *store;        /* NULL: there are no models ... */
	char why_not[IP_TEXT_MAX + 1]; /* ... and why */
	struct pd_hosts *hosts;
	struct pd_loader *loader;
	struct pd_source hosts_event;
	struct pd_source loader_event;
	struct pd_member *members;
	struct pd_member **seated; /* by slot; NULL: has not joined */
	uint32_t unheard;          /* members without a page */
	struct pd_model *model;    /* IP_MODELS_MAX */
	struct pd_discard *discards;
	const struct ip_landed_page *landed;
	int landed_reader;    /* for clients: cannot be written by */
	uint32_t to_read;     /* PD_NO_MODEL: none */
	uint32_t reading;     /* the same: what pd_hosts_make() has */
	uint64_t read_bytes;  /* of it, when it was looked at... */
	uint64_t read_due_ms; /* ...and is again */
	uint64_t at_ms;       /* of the store's arm; 0: none */
	uint64_t deaf_at_ms;  /* the soonest; 0: none */
	uint64_t tags;        /* the last request's */
	uint64_t budget;
	uint8_t *to_remake; /* by parameter segment: when nobody has it */
	uint32_t remakes;   /* how many of these */
	bool is_review_due; /* somebody has unmapped something */
	uint64_t fds;       /* of files; for the limit */
	bool has_failed;    /* some model's failed is not PS_OK */
	/* Files that came with ADD, until the store says where they belong. */
	struct ip_message *incoming;
	/* for people */
	uint64_t deaf;
	uint64_t loaded_bytes;
	uint64_t loaded_ns;
	struct pd_quiet lines;
};

/* ---- agent_model_members.c: operations of the store, and what they are
 * about ---- */

bool pd_members_use(void *owner, uint32_t model);
bool pd_members_take_back(void *owner, uint32_t model);
uint64_t pd_members_used_last(void *owner, uint32_t model);

/* A memfd that cannot change its size any more, of exactly this. PS_PROTOCOL.
 * @seals: besides. */
enum ps_status pd_check_page(int fd, uint64_t bytes, int seals,
			     const char *what);
enum ps_status pd_members_new(struct pd_models *models);
void pd_members_done(struct pd_models *models);
struct pd_bond *pd_bond_find(const struct pd_models *models, uint32_t slot,
			     uint32_t model);
/* The one that there is, or a new one; the store is told. PS_HOST_MEMORY. */
enum ps_status pd_bond_make(struct pd_models *models, uint32_t slot,
			    uint32_t model, struct pd_bond **bond_out);
/* It has the model not mapped any more. The store is told. */
void pd_bond_end(struct pd_models *models, struct pd_bond *bond);
/* All of a model that is forgotten; the store is not told. */
void pd_bonds_drop(struct pd_models *models, uint32_t model);
bool pd_bond_is_busy(const struct pd_bond *bond);
/* Sets the client's word; returns what it was. */
uint32_t pd_bond_set(struct pd_bond *bond, enum ip_use_word word);
void pd_bond_take_back(struct pd_bond *bond);
enum ps_status pd_member_join(struct pd_models *models, uint32_t slot,
			      int page);
void pd_member_free(struct pd_models *models, struct pd_member *member);

/* ---- agent_model_yield.c ---- */

bool pd_yield(void *owner, uint32_t model, uint32_t deadline_ms);
/* Has it unmapped everywhere, then destroys and makes it anew. */
void pd_remake(void *owner, uint32_t segment);
/* Those of which nobody has any mapped any more. */
void pd_remakes_review(struct pd_models *models);
/* What the client has mapped now, or will when it reads PLACE. */
void pd_bond_place(struct pd_bond *bond, uint32_t place, uint32_t *segments,
		   uint32_t count);
/* It has come back: what it could not be asked. */
void pd_yield_again(struct pd_models *models, struct pd_member *member);
/* It is away: asks when it comes back. */
void pd_yield_later(struct pd_member *member);
/* Those that are due; the soonest of the others. */
void pd_yield_tick(struct pd_models *models);

/* ---- agent_model_host.c ---- */

void pd_host_read(void *owner, uint32_t model);
void pd_host_drop(void *owner, uint32_t model);
void pd_host_forget(void *owner, uint32_t model);
/* The driver knows of the copy, or could not be told. */
void pd_host_registered(struct pd_models *models, uint32_t model,
			uint32_t serial);
/* Gives up a file that is stuck, begins what is to be read. */
void pd_host_turn(struct pd_models *models);
void pd_host_ready(struct pd_models *models);
void pd_host_discarded(struct pd_models *models, uint32_t serial);
/* What was inherited. @has_host: by model. */
void pd_host_inherit(struct pd_models *models, bool *has_host);
void pd_hosts_done(struct pd_models *models);
/* The files of incoming are that model's. */
void pd_host_take_files(struct pd_models *models, uint32_t model);
/* Reading it has failed: the store is told in the next turn. */
void pd_model_fail(struct pd_models *models, uint32_t model,
		   enum ps_status status, const char *text);

/* ---- agent_model_load.c ---- */

void pd_load_begin(void *owner, uint32_t model, uint32_t priority);
void pd_load_reset(void *owner, uint32_t model);
void pd_load_ready(struct pd_models *models);
/* In the order of addresses, by the journal; how many. @room: of the region. */
uint32_t pd_parameters(const struct pd_models *models); /* of the region */
uint32_t pd_model_segments(const struct pd_models *models, uint32_t model,
			   uint32_t *segments_out);
/* Makes what a load takes. PS_HOST_MEMORY. */
enum ps_status pd_load_prepare(struct pd_models *models, uint32_t model);
void pd_load_free(struct pd_load *load);
/* Loads of it that failed before the one that is under way: whose failure is
 * none of its users' yet, even if the page says it already. */
uint32_t pd_model_failures(const struct pd_models *models, uint32_t model);

/* ---- agent_model_use.c, agent_model_add.c ---- */

void pd_answer_place(void *owner, struct pd_asker asker, uint32_t model);
void pd_answer_done(void *owner, struct pd_asker asker, uint32_t model);
void pd_answer_deny(void *owner, struct pd_asker asker, enum ps_status status,
		    const char *text);
/* One request of a connection that is not answered. PS_PROTOCOL: another
 * waits. */
enum ps_status pd_request_begin(struct pd_visit *visit, enum ip_type type,
				uint32_t seq, struct pd_asker *asker_out);
/* Whose it is, not answered yet; NULL: nobody's any more. */
struct pd_visit *pd_request_find(const struct pd_models *models,
				 struct pd_asker asker);
void pd_request_end(struct pd_visit *visit);
/* JOIN, FIND, USE, DROPPED, COSTS. Not PS_OK: the connection ends with it. */
enum ps_status pd_member_serve(struct pd_visit *visit, struct ip_message *msg);
/* The record of a model; false: there is none, or another serial (0: any). */
bool pd_model_record(const struct pd_models *models, uint32_t model,
		     uint32_t serial, struct pd_model_record *record_out);

#endif /* POOLD_AGENT_MODELS_H */
