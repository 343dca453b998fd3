/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The two halves of the daemon. The keeper has no CUDA and does nothing but
 * hold descriptors; the agent does all the work. Each holds all that the
 * other would need, and whichever survives starts the other and hands
 * everything over, by the one path here.
 *
 * Invariants
 *   The survivor waits for the dead half's pidfd before it starts another: a
 *   killed agent's GPU work goes on for a while.
 *   What one half learns (a client's pidfd, a remade segment) it sends to the
 *   other before anything that depends on it is seen outside. The socket keeps
 *   it even if the sender dies at once, so nobody waits for an answer.
 *   A half reads all that the other has sent before it believes it dead.
 */
#ifndef POOLD_HALF_H
#define POOLD_HALF_H

#include "ipc/conn.h"
#include "poold/journal.h"
#include "poold/options.h"

/* What both halves hold. -1: none. */
struct pd_holdings {
	int journal; /* the memfd */
	int listen;
	int claim; /* the GPU's abstract name (ipc/claim.h) */
	uint32_t segments;
	uint32_t clients;
	int *segment; /* by number */
	int *pidfd;   /* by the client's slot */
	/* Of models. */
	int *signal;   /* by enum ip_signal */
	int *manifest; /* by the model's place in the journal */
	int *host;     /* the same */
	int *file;     /* that times IP_MODEL_FILES, and which */
};

void pd_holdings_init(struct pd_holdings *holdings_out);
/* Makes the arrays, all -1; without segments those of models have nothing in
 * them. pre: they are empty. PS_HOST_MEMORY. */
enum ps_status pd_holdings_size(struct pd_holdings *holdings, uint32_t segments,
				uint32_t clients);
void pd_holdings_done(struct pd_holdings *holdings); /* closes everything */

/*
 * Sends everything, which stays the sender's. With no segments there is a
 * socket and nothing else: the receiver is to make a pool.
 */
enum ps_status pd_hand_over(struct ip_conn *link,
			    const struct pd_holdings *holdings);
/*
 * Receives everything into @holdings_out (initialised, empty), or nothing.
 * PS_FD_LIMIT: so many segments and clients may not be open at once. What is
 * sent at any time must be read by the other: neither waits for an answer.
 */
enum ps_status pd_take_over(struct ip_conn *link,
			    struct pd_holdings *holdings_out);
/* The same with BEGIN received already; takes its descriptors. */
enum ps_status pd_take_over_from(struct ip_conn *link, struct ip_message *begin,
				 struct pd_holdings *holdings_out);

/* One change, to the other half: keep these, or close yours. */
enum ps_status pd_tell_keep(struct ip_conn *link, enum ip_piece_kind kind,
			    uint32_t number, int fd);
enum ps_status pd_tell_drop(struct ip_conn *link, enum ip_piece_kind kind,
			    uint32_t number);
enum ps_status pd_tell_note(struct ip_conn *link, enum ip_notice notice,
			    uint32_t value);
/* Applies PIECE or DROP that the other half sent. PS_PROTOCOL. */
enum ps_status pd_apply(struct pd_holdings *holdings, struct ip_message *msg);

/*
 * Starts the other half: a process of its own session, with no descriptor of
 * ours but its end of the link (so no GPU file is inherited).
 * @link_out: our end. @pidfd_out: its pidfd. PS_FD_LIMIT, PS_HOST_MEMORY,
 * PS_SYSTEM. Safe in a process with several threads.
 */
enum ps_status pd_start_half(int argc, char **argv, enum pd_role role,
			     int *link_out, int *pidfd_out);

/* Raises the soft limit of open files to the hard one. */
void pd_raise_files(void);
/* How a half that failed ends, by sysexits.h; docs/daemon.md has the list. */
int pd_exit_status(enum ps_status status);

/*
 * The halves' lives; each returns the process's exit status.
 * Keeper: a first start (@link -1: makes the socket, the journal comes from
 * the agent) or a restart by the agent. Agent: started by a keeper, which
 * hands over nothing (a fresh pool) or everything.
 */
int pd_keeper_run(int argc, char **argv, const struct pd_options *options);
int pd_agent_run(int argc, char **argv, const struct pd_options *options);

#endif /* POOLD_HALF_H */
