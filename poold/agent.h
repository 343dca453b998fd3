/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The agent from inside: one thread, one epoll, and what hangs on it. The
 * files: agent.c starts and turns the loop, agent_clients.c reads what clients
 * say, agent_send.c what they are told, agent_attach.c how they come and
 * leave, agent_fence.c how they die, agent_share.c descriptors and tickets,
 * agent_gpu.c what the core wants done, agent_keeper.c the other half,
 * agent_ask.c the questions.
 *
 * Invariants
 *   The thread never waits but in epoll_wait(), and makes no driver call
 *   after the start. Nothing is armed when nothing is awaited: an idle agent
 *   does not wake up.
 *   The core is never called from its own operations: a connection that fails
 *   there is doomed, and ends when the turn does.
 *   What an event may still point to is freed at the end of the turn.
 */
#ifndef POOLD_AGENT_H
#define POOLD_AGENT_H

#include "ipc/conn.h"
#include "poold/core.h"
#include "poold/gpu.h"
#include "poold/half.h"
#include "poold/options.h"
#include "poold/peer.h"
#include "poold/report.h"

/* How long a connection may stay without ATTACH or a question under way. */
#define PD_VISIT_IDLE_MS 5000u
/* Messages of one client in one turn of the loop. */
#define PD_MESSAGES_A_TURN 16u
/* Messages that wait for a client to read. Requests: the largest GRANT and
 * HELD there are, and one answer; it is not read from while any waits. */
#define PD_LETTERS_REQUESTS (2u * (IP_SEGMENTS_MAX / IP_LIST_MAX + 1u) + 2u)
#define PD_LETTERS_EVENTS 64u
/* Bytes that the kernel keeps for a client that does not read: a few
 * messages, since their descriptors count against the daemon's limit. */
#define PD_SOCKET_BYTES 8192
/* Connections that have not attached: in all, and of one user. */
#define PD_VISITS_UNATTACHED 1024u
#define PD_VISITS_OF_USER 64u
/* Sockets of a client's earlier connections that are watched for heirs. */
#define PD_LIFELINES 8u
/* How long a status waits for the clients' own numbers. */
#define PD_POLL_MS 50u
/* One part in so many of the time may go into making it. */
#define PD_REPORT_SHARE 10u
/* After a failure that passes by itself (no descriptor, no memory). */
#define PD_REST_MS 20u
/* Lines about refusals, so that nobody can fill the disk. */
#define PD_LOGS_A_SECOND 10u
/* What the keeper gets to read what it is sent. */
#define PD_KEEPER_MS 2000
/* DROPs of segments at once. The keeper answers each; more would fill the
 * link both ways, while it waits for us and we for it. */
#define PD_DROPS_AT_ONCE 64u

/* In a client's record in the journal, beside enum ip_attach_flags: its user
 * id means nothing here (another user namespace), so the record has a number
 * of its own in its place and nothing of it may pass to others unmade. */
#define PD_CLIENT_UNMAPPED (1u << 31)
/* It has a page with words about models. */
#define PD_CLIENT_JOINED (1u << 30)

enum pd_source_kind {
	PD_AT_LISTEN,
	PD_AT_LINK,
	PD_AT_KEEPER, /* its pidfd */
	PD_AT_SIGNALS,
	PD_AT_GPU,
	PD_AT_REQUESTS, /* owner: struct pd_visit */
	PD_AT_EVENTS,   /* owner: struct pd_visit */
	PD_AT_CLIENT,   /* its pidfd; owner: struct pd_seat */
	PD_AT_HEIR,     /* its pidfd; owner: struct pd_seat */
	PD_AT_LIFELINE, /* owner: struct pd_lifeline */
	PD_AT_HOSTS,
	PD_AT_LOADER,
};

/* A descriptor in the epoll. */
struct pd_source {
	enum pd_source_kind kind;
	int fd; /* -1: none */
	bool is_watched;
	uint32_t events; /* watched for */
	void *owner;
};

/* A message that waits for room in its socket. */
struct pd_letter {
	struct pd_letter *next;
	bool owns_fds; /* else they are the gpu's */
	struct ip_message msg;
};

/* One of a connection's two sockets. */
struct pd_channel {
	struct pd_source source; /* the descriptor is ours */
	struct ip_conn conn;
	struct pd_letter *first;
	struct pd_letter **last;
	unsigned int letters;
	uint64_t rest_until_ms; /* 0: it does not rest */
};

/* A segment that the keeper has still, and what becomes of it then. */
enum pd_dropping { PD_NOT_DROPPING, PD_DROP_TO_REMAKE, PD_DROP_TO_VACATE };

/* A request about a model that has not been answered; one a connection. */
struct pd_model_request {
	uint64_t tag; /* of its answer; 0: there is none */
	enum ip_type type;
	uint32_t seq;
	uint32_t place; /* USE: what the client says that it has mapped */
};

/* A connection of a client, or of somebody who asks. */
struct pd_visit {
	struct pd_visit *next;
	struct pd_visit **from; /* the pointer that points here */
	struct pd_visit *doomed_next;
	struct pd_agent *agent;
	struct pd_channel requests;
	struct pd_channel events; /* fd -1: not attached */
	uint32_t slot;            /* PD_NO_CLIENT: not attached */
	uint32_t last_seq;
	bool has_left;
	bool is_doomed;
	uint64_t deadline_ms; /* 0: none */
	int64_t tokens;       /* messages it may send; see take_token() */
	uint64_t tokens_ms;   /* as of then */
	uint64_t throttled_until_ms;
	uint32_t recalled; /* number of the last RECALL */
	uint32_t polled;   /* number of the last POLL */
	bool is_polled;    /* it has not been answered */
	uint32_t asked;    /* a STATUS waits: its number; 0: none */
	uint64_t ask_deadline_ms;
	struct pd_model_request model;
	uint32_t yields; /* number of the last YIELD */
	bool has_joined;
};

/* A socket of a client whose connection is over, watched because a child that
 * the client forked may have it still. */
struct pd_lifeline {
	struct pd_lifeline *next;
	struct pd_seat *seat;
	struct pd_source source;
};

/* Lines of one kind in the log. */
struct pd_quiet {
	uint64_t second;
	unsigned int lines; /* in it */
};

/* What the agent has for a slot of the journal. */
struct pd_seat {
	struct pd_agent *agent;
	uint32_t slot;
	bool is_used;
	bool is_dead;
	bool is_queued; /* to be looked at */
	struct pd_seat *look_next;
	uint64_t id;
	struct pd_visit *visit;   /* NULL: away or dead */
	struct pd_source process; /* its fd is the holdings' */
	struct pd_source heir;    /* its fd is ours */
	pid_t heir_pid;
	uint64_t look_at_ms;   /* an heir may cease to be one: look again */
	uint64_t look_rest_ms; /* doubles; 0: not looked at yet */
	struct pd_lifeline *lifelines;
	unsigned int lifeline_count;
	bool has_answered;
	struct ip_polled polled;
};

struct pd_agent {
	const struct pd_options *options;
	int argc;
	char **argv;
	uint64_t started_ms;
	uint64_t now_ms; /* of this turn */
	int epoll;
	int spare; /* given up to refuse somebody when no fd is left */
	struct pd_source listen;
	struct pd_source signals;
	struct pd_source gpu_event;
	uint64_t listen_rests_until_ms; /* 0: it does not */
	uint64_t core_at_ms;            /* of ops.arm; 0: none */
	uint64_t look_at_ms;            /* the soonest of the seats'; 0: none */
	uint64_t soonest_ms;            /* of the visits' deadlines; 0: none */
	bool is_soonest_stale;
	const char *gpu_files; /* for pd_heirs_find() */
	struct pd_gpu *gpu;
	struct pd_journal *journal;
	struct pd_core *core;
	struct pd_models *models;
	struct pd_limits limits;
	struct pd_holdings holdings; /* segments: only while handed over */
	struct pd_seat *seats;       /* by slot */
	uint32_t seat_count;
	struct pd_visit *visits;
	uint32_t unattached;
	struct pd_visit *doomed;
	struct pd_visit *buried; /* to be freed at the end of the turn */
	struct pd_lifeline *cut; /* the same */
	struct pd_seat *look_first;
	struct pd_seat **look_last;
	uint32_t polls_open;
	uint32_t asks_open;
	uint64_t report_at_ms; /* no status is made before */
	struct pd_counters counters;
	struct pd_quiet refusals; /* of connections */
	struct pd_quiet denials;  /* of memory */
	bool is_draining;
	bool is_lost;
	bool is_over; /* the loop ends */
	int exit_status;
	/* the other half */
	struct ip_conn link;
	struct pd_source link_source;
	struct pd_source keeper; /* its pidfd, ours */
	bool is_our_child;
	bool has_link;
	pid_t keeper_pid;
	bool is_keeper_ready;  /* it has all, and has said so */
	uint64_t keeper_at_ms; /* the next try to start one; 0: none */
	unsigned int keeper_failures;
	uint8_t *dropping;   /* by segment, of enum pd_dropping */
	uint32_t *to_drop;   /* a ring of those of which it is not told yet */
	uint32_t drop_first; /* the next in it */
	uint32_t drops;      /* how many are in it */
	uint32_t drops_open; /* DROPs that are not answered */
};

/* ---- agent.c ---- */

enum ps_status pd_watch(struct pd_agent *agent, struct pd_source *source,
			uint32_t events);
void pd_unwatch(struct pd_agent *agent, struct pd_source *source);
/* Unwatches and closes. */
void pd_source_close(struct pd_agent *agent, struct pd_source *source);
/* The same of a client's connection: it may hold what is long in closing. */
void pd_source_hang_up(struct pd_agent *agent, struct pd_source *source);
/* A visit has a deadline then; one that had has none any more. */
void pd_schedule(struct pd_agent *agent, uint64_t at_ms);
void pd_unschedule(struct pd_agent *agent);
void pd_agent_drain(struct pd_agent *agent);
/* Ends the loop after this turn. */
void pd_agent_finish(struct pd_agent *agent, int exit_status);
enum ps_status pd_agent_reload(struct pd_agent *agent);

/* ---- agent_clients.c ---- */

void pd_visits_accept(struct pd_agent *agent);
void pd_visit_ready(struct pd_visit *visit, struct pd_channel *channel,
		    uint32_t events);
/* Deadlines that have come; the soonest of the others. */
void pd_visits_tick(struct pd_agent *agent);
/* Ends the doomed, frees the buried. */
void pd_visits_sweep(struct pd_agent *agent);
void pd_visits_done(struct pd_agent *agent);
/* What the visit's sockets are watched for now. */
void pd_visit_rewatch(struct pd_visit *visit);

/* Whether one more line may be written: not when there were many this
 * second. */
bool pd_may_log(const struct pd_agent *agent, struct pd_quiet *quiet);
/* Counts it, and says so. */
void pd_log_refused(struct pd_agent *agent, const struct ip_conn *conn,
		    const char *text);

/* ---- agent_send.c ---- */

/* Sends, or lets it wait its turn; then @msg is the channel's. A client that
 * is gone or does not read is doomed. @owns_fds: they are closed afterwards. */
void pd_send(struct pd_visit *visit, struct pd_channel *channel,
	     struct ip_message *msg, bool owns_fds);
void pd_channel_flush(struct pd_visit *visit, struct pd_channel *channel);
void pd_channel_empty(struct pd_channel *channel);
/* Lets the connection end when the turn does. */
void pd_doom(struct pd_visit *visit);
/* REFUSE, and the end of the connection. */
void pd_refuse(struct pd_visit *visit, enum ps_status status, const char *text);
void pd_deny(struct pd_visit *visit, uint32_t seq, enum ps_status status,
	     const char *text);
void pd_did(struct pd_visit *visit, uint32_t seq);
/* HELD or GRANT, in as many messages as it takes. @flags: IP_LIST_OUTSIDE or
 * none. */
void pd_send_list(struct pd_visit *visit, enum ip_type type, uint32_t seq,
		  uint32_t flags, const uint32_t *segments, uint32_t count);
/* OPENED likewise: what @grant says, in these segments. */
void pd_send_opened(struct pd_visit *visit, uint32_t seq,
		    const struct pd_grant_of *grant, const uint32_t *segments,
		    uint32_t count);

/* PLACE likewise: of a model. */
void pd_send_place(struct pd_visit *visit, const struct ip_place *place,
		   const uint32_t *segments, uint32_t count);

/* ---- agent_attach.c ---- */

/* Not PS_OK: the connection is refused with it. */
enum ps_status pd_attach(struct pd_visit *visit, struct ip_message *msg);
void pd_leave(struct pd_visit *visit, uint32_t seq);

/* ---- agent_share.c ---- */

void pd_need(struct pd_visit *visit, const struct ip_need *need);
void pd_issue(struct pd_visit *visit, const struct ip_issue *issue);
void pd_open(struct pd_visit *visit, const struct ip_ticket *ticket);
/* Not PS_OK: the connection ends with it. */
enum ps_status pd_close(struct pd_visit *visit, const struct ip_list *list);

/* ---- agent_fence.c ---- */

/* Sits the journal's clients down. */
enum ps_status pd_seats_new(struct pd_agent *agent);
void pd_seats_done(struct pd_agent *agent);
/* A client at a slot; the pidfd is in the holdings. PS_SYSTEM ... */
enum ps_status pd_seat_take(struct pd_agent *agent, uint32_t slot, uint64_t id);
void pd_seat_leave(struct pd_seat *seat);
/* Its connection is over: keeps the sockets that somebody has still. */
void pd_seat_keep_lifelines(struct pd_seat *seat, struct pd_visit *visit);
void pd_seat_process_ready(struct pd_seat *seat);
void pd_seat_heir_ready(struct pd_seat *seat);
void pd_lifeline_ready(struct pd_lifeline *lifeline);
/* Looks at one of the dead whose fence may have passed. */
void pd_fence_turn(struct pd_agent *agent);
/* Has those looked at again whose time has come. */
void pd_fence_tick(struct pd_agent *agent);
/* A new client: no heir is awaited in it any more. */
void pd_fence_attached(struct pd_agent *agent, pid_t pid);
void pd_fence_reason(const struct pd_seat *seat, char *text_out, size_t room);
void pd_lifelines_sweep(struct pd_agent *agent);

/* ---- agent_gpu.c ---- */

extern const struct pd_core_ops pd_agent_ops;
void pd_gpu_ready(struct pd_agent *agent);
/* The GPU is lost: all are told, and the agent ends. */
void pd_agent_lose(struct pd_agent *agent, const char *text);
/* Destroys a segment and makes it anew, when nobody has its descriptor. */
void pd_agent_remake(struct pd_agent *agent, uint32_t segment);
/* The keeper has closed its descriptor. */
void pd_segment_dropped(struct pd_agent *agent, uint32_t segment);
/* There is no keeper that could have any. */
void pd_segments_dropped(struct pd_agent *agent);

/* ---- agent_keeper.c ---- */

/* The first half of a start: the link, and what came over it. */
enum ps_status pd_keeper_meet(struct pd_agent *agent);
void pd_keeper_link_ready(struct pd_agent *agent);
void pd_keeper_ended(struct pd_agent *agent);
void pd_keeper_tick(struct pd_agent *agent);
/* A pool that was made just now. */
enum ps_status pd_keeper_give_first(struct pd_agent *agent);
/* These fail by noticing that the keeper is gone. */
/* PS_FD_LIMIT: it was not told and is well; not now. */
enum ps_status pd_keeper_keep(struct pd_agent *agent, enum ip_piece_kind kind,
			      uint32_t number, int fd);
void pd_keeper_drop(struct pd_agent *agent, enum ip_piece_kind kind,
		    uint32_t number);
void pd_keeper_note(struct pd_agent *agent, enum ip_notice notice,
		    uint32_t value);
void pd_keeper_done(struct pd_agent *agent);

/* ---- agent_models.c and its kin (agent_models.h) ---- */

/* pre: the seats are taken. */
enum ps_status pd_models_new(struct pd_agent *agent);
void pd_models_done(struct pd_agent *agent);
void pd_models_lose(struct pd_agent *agent);
void pd_models_ready(struct pd_agent *agent, enum pd_source_kind kind);
/* What is due, and what the last turn has left. */
void pd_models_turn(struct pd_agent *agent);
/* When the turn is wanted; 0: not. */
uint64_t pd_models_due_ms(const struct pd_agent *agent);
void pd_models_remade(struct pd_agent *agent, uint32_t segment,
		      enum ps_status status);
/* Whether clients may have a parameter segment to use as they like. */
bool pd_models_give_away(struct pd_agent *agent, uint32_t segment);

/* ADD to DROPPED. Not PS_OK: the connection ends with it. */
enum ps_status pd_models_serve(struct pd_visit *visit, struct ip_message *msg);
enum ps_status pd_models_yielded(struct pd_visit *visit,
				 const struct ip_yielded *yielded);
/* The connection ends, or is no client's any more; pre: it has its slot. */
void pd_models_visit_over(struct pd_visit *visit);
/* The client is fenced or has left. */
void pd_models_client_over(struct pd_agent *agent, uint32_t slot);
/* The descriptors of a letter that has waited; false: not its client's. */
bool pd_models_renew(const struct pd_visit *visit, struct ip_message *msg);
void pd_models_sum(const struct pd_agent *agent,
		   struct pd_model_totals *totals_out);
/* PS_ASK_MODELS, for who asks. free() it; NULL: no memory. */
char *pd_models_report(const struct pd_visit *visit);

/* ---- agent_ask.c ---- */

/* The daemon's own user, or root. */
bool pd_is_master(uid_t uid);
enum ps_status pd_ask(struct pd_visit *visit, const struct ip_ask *ask);
/* PS_PROTOCOL: nobody asked. */
enum ps_status pd_polled(struct pd_visit *visit,
			 const struct ip_polled *polled);
/* Answers who waits, when all clients have answered or time is up. */
void pd_asks_turn(struct pd_agent *agent);
/* When the visit gets its status; 0: it has not asked. */
uint64_t pd_ask_due_ms(const struct pd_visit *visit);
/* The visit ends. */
void pd_asks_forget(struct pd_visit *visit);

#endif /* POOLD_AGENT_H */
