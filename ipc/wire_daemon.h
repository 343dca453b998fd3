/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The messages between poolswitchd and its clients, and between its keeper
 * and its agent (docs/protocol.md). Part of ipc/wire.h, which is what to
 * include.
 *
 * A client has two sockets, both SOCK_SEQPACKET. On the first it asks and the
 * daemon answers: each request carries a number, larger than the last one's,
 * and is answered by the message named here or by DENY, with that number. On
 * the second, which comes with WELCOME, the daemon asks and the client's
 * service thread answers.
 *
 *	client -> daemon                daemon -> client
 *	ATTACH                          WELCOME, then HELD when resumed
 *	TAKE                            GRANT, more than one when IP_LIST_MORE
 *	GIVE                            DID
 *	NEED                            PART
 *	ISSUE                           TICKET
 *	OPEN                            OPENED, more when IP_LIST_MORE
 *	CLOSE                           DID
 *	LEAVE                           DID
 *	ASK (no ATTACH before)          ANSWER
 *
 *	daemon -> service thread        service thread -> daemon
 *	RECALL                          RECALLED, more when IP_LIST_MORE
 *	POLL                            POLLED
 *	LOST                            -
 */
#ifndef IPC_WIRE_DAEMON_H
#define IPC_WIRE_DAEMON_H

#include "include/poolswitch.h"

/* Daemon messages exist from minor 1 on. Minor 2 appended ATTACH's contexts;
 * minor 3 NEED's flags, and brought room outside, exports and tickets. */
#define IP_MINOR_DAEMON 1u
#define IP_MINOR_CONTEXTS 2u
#define IP_MINOR_OUTSIDE 3u

#define IP_TOKEN_BYTES 16u
#define IP_NAME_BYTES 64u /* a client's name, filled up with zeros */
#define IP_LIST_MAX 253u  /* segments in a list, and descriptors with it */
#define IP_CLIENTS_MAX 4096u
#define IP_CONTEXTS_MAX 1024u

enum ip_attach_flags {
	IP_ATTACH_WRITE = 1u << 0, /* wants parameters writable */
	IP_ATTACH_MPS = 1u << 1,   /* its work runs in an MPS server */
};

/* Client, first message. With it travels a pidfd of the client (one or no
 * descriptor): used where the kernel lacks SO_PEERPIDFD. */
struct ip_attach {
	uint32_t seq;
	uint16_t minor_low;            /* the lowest minor it knows */
	uint16_t flags;                /* of enum ip_attach_flags */
	uint64_t id;                   /* 0: a new client; else it resumes */
	uint8_t token[IP_TOKEN_BYTES]; /* what WELCOME gave; zeros if id is 0 */
	uint64_t reservation;          /* bytes guaranteed; 0: none */
	uint64_t limit;                /* bytes at most; 0: the daemon's */
	char name[IP_NAME_BYTES];      /* printable; "" is allowed */
	/* From minor 2 on; 0 before. */
	uint32_t contexts; /* CUDA contexts that it has; for the headroom */
};

/* Daemon. With it: the socket of the service thread (one descriptor). */
struct ip_welcome {
	uint32_t seq;
	uint32_t resumed; /* 1: recognised; HELD follows, one at least */
	uint64_t id;      /* not 0 */
	uint8_t token[IP_TOKEN_BYTES];
	uint8_t pool_id[IP_POOL_ID_BYTES];
	char gpu[IP_GPU_BYTES];
	uint64_t window_base;
	uint64_t window_bytes;
	uint64_t segment_bytes;
	uint64_t parameter_bytes; /* at the start of the pool */
	uint32_t segment_count;   /* of the pool */
	uint32_t parameter_write; /* 1: NEED gives them writable */
	uint64_t reservation;     /* as granted */
	uint64_t limit;           /* as granted; never 0 */
};

enum ip_take_flags {
	/* Rather fewer than none: what there is now, without waiting. */
	IP_TAKE_SOME = 1u << 0,
	/* Minor 3: not the segments but their room: they are destroyed, and
	 * the client takes as many bytes from the driver. All or none: never
	 * with IP_TAKE_SOME. */
	IP_TAKE_OUTSIDE = 1u << 1,
};

/* Client: wants computation segments, neighbours where possible. */
struct ip_take {
	uint32_t seq;
	uint32_t count;   /* 1 to IP_SEGMENTS_MAX */
	uint32_t wait_ms; /* for other clients to give theirs back; at most
			   * IP_WAIT_MAX_MS */
	uint32_t flags;   /* of enum ip_take_flags */
};
#define IP_WAIT_MAX_MS 60000u

enum ip_list_flags {
	IP_LIST_MORE = 1u << 0,   /* another message of this answer follows */
	IP_LIST_PARKED = 1u << 1, /* GIVE: the segments stay mapped */
	/* GRANT, minor 3: the answer to IP_TAKE_OUTSIDE; no descriptors. */
	IP_LIST_OUTSIDE = 1u << 2,
};

/* In a list of HELD or GRANT: the client has it mapped (parked until now), so
 * no descriptor travels. */
#define IP_SEGMENT_PARKED 0x80000000u
/* In HELD, minor 3: destroyed for room outside; opened by a ticket, another
 * client's or nobody's. An entry has one mark at most. */
#define IP_SEGMENT_OUTSIDE 0x40000000u
#define IP_SEGMENT_OPENED 0x20000000u
#define IP_SEGMENT_NUMBER 0x0fffffffu

/*
 * GRANT, HELD, GIVE, RECALLED. No segment twice. GRANT: count at least 1; the
 * descriptors of those without IP_SEGMENT_PARKED travel with it, in order.
 * HELD: what the journal says that the client has; no descriptors; count may
 * be 0. GIVE: count at least 1; without IP_LIST_PARKED the client has fenced
 * and unmapped them. RECALLED: unmapped; count may be 0.
 */
struct ip_list {
	uint32_t seq;   /* of the request, or RECALL's number */
	uint32_t flags; /* of enum ip_list_flags */
	uint32_t count; /* at most IP_LIST_MAX */
	uint32_t segment[IP_LIST_MAX];
};

/* Client: descriptors of segments that it may have: of the parameter region,
 * or leased to it. */
struct ip_need {
	uint32_t seq;
	uint32_t first;
	uint32_t count; /* 1 to IP_LIST_MAX */
	/* From minor 3 on; 0 before. */
	uint32_t flags; /* of enum ip_need_flags */
};

enum ip_need_flags {
	/* One segment, leased to the client, to be handed to anybody: it is
	 * remade when it goes back. */
	IP_NEED_EXPORT = 1u << 0,
};

/* Daemon: they travel with it, in order. */
struct ip_part {
	uint32_t seq;
	uint32_t first;
	uint32_t count;
	uint32_t write; /* 1: may be written */
};

/* ---- tickets (minor 3) ---- */

#define IP_TICKET_BYTES 64u
/* Runs of neighbouring segments that a ticket has room for. */
#define IP_TICKET_RUNS 5u

struct ip_run {
	uint32_t first;
	uint32_t count; /* at least 1 */
};

/* Client: @bytes from @offset in the first of these segments, which are leased
 * to it and follow each other in its addresses. No segment twice. On the wire
 * the runs come last. */
struct ip_issue {
	uint32_t seq;
	uint32_t run_count; /* 1 to IP_TICKET_RUNS */
	struct ip_run run[IP_TICKET_RUNS];
	uint64_t offset; /* multiples of IP_TICKET_GRANULE, both; bytes not 0 */
	uint64_t bytes;
};
#define IP_TICKET_GRANULE 512u

/* TICKET (daemon) and OPEN (client): the client reads nothing in it. */
struct ip_ticket {
	uint32_t seq;
	uint8_t ticket[IP_TICKET_BYTES];
};

/* Daemon: the segments in order, with their descriptors; @offset and @bytes as
 * in ISSUE, the same in each message of the answer. */
struct ip_opened {
	uint32_t seq;
	uint32_t flags; /* IP_LIST_MORE */
	uint64_t offset;
	uint64_t bytes;
	uint32_t count; /* 1 to IP_LIST_MAX */
	uint32_t segment[IP_LIST_MAX];
};

/* CLOSE has the body of a list: segments that the client had opened and has
 * unmapped, 1 at least, without flags or marks; how often it opened them is
 * its own affair. */

/* LEAVE and DID: a number and nothing else. */
struct ip_number {
	uint32_t seq;
};

/* Daemon: the request was refused; the connection goes on. PS_AGAIN: the same
 * request may be sent again. */
struct ip_deny {
	uint32_t seq;
	uint32_t status;            /* enum ps_status, not PS_OK */
	char text[IP_TEXT_MAX + 1]; /* as in REFUSE */
};

enum ip_question {
	IP_ASK_STATUS = 1,   /* anybody who may connect */
	IP_ASK_DRAIN = 2,    /* the daemon's user or root, like the rest */
	IP_ASK_SHUTDOWN = 3, /* now; clients keep what they have */
	IP_ASK_RELOAD = 4,   /* the limits */
	IP_ASK_PRESENCE = 5, /* anybody too; minor 3 */
	IP_ASK_MODELS = 6,   /* anybody too; minor 4 */
};

struct ip_ask {
	uint32_t seq;
	uint32_t question; /* enum ip_question */
};

/* Daemon: a JSON text in a sealed memfd (one descriptor). */
struct ip_answer {
	uint32_t seq;
	uint32_t bytes; /* of the text, without an end; at most 16 MiB */
};
#define IP_ANSWER_MAX (16u << 20)

/* Daemon: unmap what is idle and give it back, @count segments if there are
 * as many, parked ones first. */
struct ip_recall {
	uint32_t seq;
	uint32_t count;
	uint32_t deadline_ms; /* from now; what comes later is too late for
			       * this request and welcome all the same */
};

/* Service thread: what `poolswitch status` shows of this client. Believed by
 * nobody, only printed. */
struct ip_polled {
	uint32_t seq;
	uint32_t blocks;
	uint64_t live;
	uint64_t cached;
	uint64_t passed; /* bytes that went to the driver instead */
};

/* ---- between keeper and agent ---- */

/* The survivor to the one it has started, first message: the descriptors of
 * the journal, the listening socket and the GPU's claim (three). Without a
 * pool yet: that of the listening socket (one), and no numbers. */
struct ip_begin {
	uint32_t layout;   /* PD_JOURNAL_LAYOUT of the sender */
	uint32_t segments; /* of the pool; 0: there is none */
	uint32_t clients;  /* places in the journal; 0: there is none */
};

/* One or several times after BEGIN, each with the descriptors of @count
 * segments or pidfds, one each. PIECE_END ends the hand-over; no descriptor.
 * Later either tells the other of a change in the same way; DROP closes. */
enum ip_piece_kind {
	IP_PIECE_SEGMENTS = 1, /* number: of the segment */
	IP_PIECE_PIDFDS = 2,   /* number: the client's slot in the journal */
	IP_PIECE_END = 3,
	/* Minor 4. */
	IP_PIECE_SIGNALS = 4,   /* number: enum ip_signal */
	IP_PIECE_MANIFESTS = 5, /* number: the model's place in the journal */
	IP_PIECE_HOSTS = 6,     /* the same: of the copy in host memory */
	IP_PIECE_FILES = 7,     /* that times IP_MODEL_FILES, and which file */
};

enum ip_signal {
	IP_SIGNAL_BOARD = 0,  /* memory of the GPU */
	IP_SIGNAL_LANDED = 1, /* the daemon's page, writable */
	IP_SIGNALS
};
struct ip_piece {
	uint32_t kind; /* enum ip_piece_kind */
	uint32_t count;
	uint32_t number[IP_LIST_MAX];
};

/* PIECE (with descriptors: keep them) and DROP (without: close yours) both
 * have this body. */

enum ip_notice {
	IP_NOTICE_READY = 1,    /* agent: serves; keeper: has taken over */
	IP_NOTICE_LOST = 2,     /* agent: the GPU is lost; close everything */
	IP_NOTICE_FINISHED = 3, /* agent: ends on purpose; so do you */
	IP_NOTICE_DRAIN = 4,    /* keeper, from here on */
	IP_NOTICE_STOP = 5,
	IP_NOTICE_RELOAD = 6,
	IP_NOTICE_DROPPED = 7, /* keeper: the answer to DROP, value: first
				* number in it */
};
struct ip_note {
	uint32_t notice; /* enum ip_notice */
	uint32_t value;  /* FINISHED: the exit status */
};

#endif /* IPC_WIRE_DAEMON_H */
