/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The conversation that hands a pool over (docs/protocol.md):
 *
 *	receiver   HELLO                          GOT     ... DONE
 *	sender            OFFER         SEGMENTS      ...
 *	receiver                 ACCEPT
 *
 * Either side may say REFUSE when it is its turn. Each side's failure is told
 * to the other if the connection still works, and the other names it.
 *
 * Invariant: PS_OK means that both sides have sent and read everything; the
 * socket is in step. After a failure it is not: close it.
 *
 * No lock may be held around these calls: they wait for the peer.
 */
#ifndef IPC_HANDOVER_H
#define IPC_HANDOVER_H

#include "ipc/conn.h"

/* How many segments travel in one message unless the receiver has less room:
 * large enough that the round trips do not show, small enough for a process
 * that is near its limit of open files. */
#define IP_BATCH 64u

/* Where the sender's descriptors come from. */
struct ip_source {
	/* Lends the descriptors of @count (at most IP_BATCH) segments. They
	 * stay the source's; nothing is lent after a failure. */
	enum ps_status (*get)(void *owner, uint32_t first, uint32_t count,
			      int *fds_out);
	/* They are not needed any more. May be NULL. */
	void (*put)(void *owner, uint32_t first, uint32_t count,
		    const int *fds);
	void *owner;
};

/* Where the receiver's go. Any failure is told to the peer and returned. */
struct ip_sink {
	/* The layout is coherent and the GPU is the one that HELLO named.
	 * Opens it, takes the window, opens the legacy handle ... Called
	 * exactly once, before take. */
	enum ps_status (*check)(void *owner, const struct ip_offer *offer);
	/* Called with the offered segments in order, each once; never for a
	 * legacy pool. To keep a descriptor set its entry to -1: the others
	 * are closed afterwards. */
	enum ps_status (*take)(void *owner, uint32_t first, uint32_t count,
			       bool writable, int *fds);
	void *owner;
};

/*
 * Gives the pool that @offer describes to the peer. @source: not used, and may
 * be NULL, for a legacy pool.
 *
 * PS_OK: the peer has said that it has everything. PS_VERSION_MISMATCH,
 * PS_WRONG_GPU, PS_UNSUPPORTED (the peer does not take the mode), PS_PERMISSION
 * also when it was the peer that said so; PS_REFUSED with its reason for any
 * other; PS_PROTOCOL, PS_PEER_GONE, PS_TIMED_OUT, PS_INVALID_ARGUMENT for an
 * offer that is not coherent, PS_SYSTEM; or what the source returned.
 */
enum ps_status ip_offer_send(struct ip_conn *conn, const struct ip_offer *offer,
			     const struct ip_source *source);

/*
 * The defaults: any GPU, both modes, as many descriptors at once as fit into
 * half of the room there is now (1 to IP_BATCH), IP_SEGMENTS_MAX in all, which
 * suits a sink that imports and closes each batch.
 */
void ip_hello_init(struct ip_hello *hello_out);

/*
 * Asks the peer for its pool and takes it. Statuses as ip_offer_send(), and
 * PS_FD_LIMIT; or what the sink returned.
 */
enum ps_status ip_offer_receive(struct ip_conn *conn,
				const struct ip_hello *hello,
				const struct ip_sink *sink);

/* Tells the peer why the conversation ends, when it can still be told; keeps
 * the text of the failure. For a failure outside the calls above, such as
 * PS_PERMISSION from ip_conn_init(). Returns @status. */
enum ps_status ip_refuse_send(struct ip_conn *conn, enum ps_status status);

#endif /* IPC_HANDOVER_H */
