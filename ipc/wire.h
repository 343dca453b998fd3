/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The messages of the protocol and their bytes (docs/protocol.md). Pure
 * functions over buffers: no socket, no clock.
 *
 * Invariants
 *   Nothing that a peer sent is believed: the decoder checks every field and
 *   the length, and says field, value and limit when one is wrong.
 *   What was decoded from a minor version that is known here is encoded to
 *   the same bytes again: there is one form of each message.
 *   A descriptor belongs to its message until it is taken.
 */
#ifndef IPC_WIRE_H
#define IPC_WIRE_H

#include "include/poolswitch.h"

#define IP_MAGIC 0x50575350u /* the bytes "PSWP" */

/* A peer of another major version is refused. Of the minor versions that both
 * sides know the higher is used; one may append fields to a message. */
#define IP_MAJOR 1u
#define IP_MINOR_LOW 0u
#define IP_MINOR_HIGH 4u

#define IP_HEADER_BYTES 16u
#define IP_PAYLOAD_MAX 1280u /* no message of any type has more */
#define IP_MESSAGE_MAX (IP_HEADER_BYTES + IP_PAYLOAD_MAX)
#define IP_MESSAGE_FDS 253u /* Linux: SCM_MAX_FD */

#define IP_POOL_ID_BYTES 16u
#define IP_GPU_BYTES 48u /* "GPU-<uuid>", filled up with zeros */
#define IP_HANDLE_BYTES 64u
#define IP_TEXT_MAX 400u

#define IP_SEGMENTS_MAX 65536u
#define IP_SEGMENT_MIN (UINT64_C(2) << 20)
#define IP_ADDRESS_END (UINT64_C(1) << 47)

#include "ipc/wire_daemon.h"
#include "ipc/wire_models.h"

enum ip_type {
	IP_HELLO = 1,
	IP_OFFER = 2,
	IP_REFUSE = 3,
	IP_ACCEPT = 4,
	IP_SEGMENTS = 5,
	IP_GOT = 6,
	IP_DONE = 7,
	/* ipc/wire_daemon.h; from minor 1 on */
	IP_ATTACH = 16,
	IP_TAKE = 17,
	IP_GIVE = 18,
	IP_NEED = 19,
	IP_LEAVE = 20,
	IP_ASK = 21,
	IP_ISSUE = 22,
	IP_OPEN = 23,
	IP_CLOSE = 24,
	/* ipc/wire_models.h; from minor 4 on */
	IP_ADD = 25,
	IP_ORDER = 26,
	IP_COSTS = 27,
	IP_JOIN = 28,
	IP_FIND = 29,
	IP_USE = 30,
	IP_DROPPED = 31,
	IP_WELCOME = 32,
	IP_HELD = 33,
	IP_GRANT = 34,
	IP_DID = 35,
	IP_PART = 36,
	IP_DENY = 37,
	IP_ANSWER = 38,
	IP_TICKET = 39,
	IP_OPENED = 40,
	IP_ADDED = 41,
	IP_BOARD = 42,
	IP_MODEL = 43,
	IP_PLACE = 44,
	IP_RECALL = 48,
	IP_POLL = 49,
	IP_LOST = 50,
	IP_RECALLED = 51,
	IP_POLLED = 52,
	IP_YIELD = 53,
	IP_YIELDED = 54,
	IP_BEGIN = 64,
	IP_PIECE = 65,
	IP_DROP = 66,
	IP_NOTE = 67,
};

/* Who may say it: bits, so that a message can belong to several. */
enum ip_side {
	IP_SENDER = 1u << 0,   /* has the pool and gives it */
	IP_RECEIVER = 1u << 1, /* asks for it */
	IP_CLIENT = 1u << 2,   /* of poolswitchd; its service thread too */
	IP_DAEMON = 1u << 3,
	IP_HALF = 1u << 4, /* the daemon's keeper or agent */
};

/* One line of the table of messages. */
struct ip_rule {
	const char *name;
	uint16_t type;
	uint16_t since; /* the first minor that has it */
	uint16_t fds_min;
	uint16_t fds_max;
	uint32_t bytes_min;   /* payload */
	uint32_t bytes_known; /* at most, of the minors that are known here */
	uint32_t bytes_max;   /* also of newer ones */
	unsigned int from;    /* of enum ip_side */
};

/* NULL: no such type. */
const struct ip_rule *ip_rule_find(uint16_t type);
/* "HELLO"; a text for an unknown type too. */
const char *ip_type_name(uint16_t type);

/* The minor versions that one side knows. */
struct ip_minors {
	uint16_t low;
	uint16_t high;
};

/* The highest that both know; false when there is none. */
bool ip_minor_agree(struct ip_minors own, struct ip_minors peer,
		    uint16_t *minor_out);

struct ip_header {
	uint16_t minor;
	uint16_t type;
	uint16_t fd_count;
	uint32_t bytes; /* payload */
};

/* Modes that a receiver takes. */
enum ip_modes {
	IP_MODE_VMM = 1u << PS_SHARE_VMM,
	IP_MODE_LEGACY_IPC = 1u << PS_SHARE_LEGACY_IPC,
};

/* Receiver, first message. Its header's minor is the highest it knows. */
struct ip_hello {
	uint16_t minor_low;     /* the lowest minor it knows */
	uint16_t modes;         /* of enum ip_modes, at least one */
	uint32_t fds_at_once;   /* in one message: 1 to IP_MESSAGE_FDS */
	uint32_t fds_in_all;    /* 1 to IP_SEGMENTS_MAX */
	char gpu[IP_GPU_BYTES]; /* "" for any */
};

/* Sender, answer to HELLO. Its header's minor is the agreed one. */
struct ip_offer {
	uint8_t pool_id[IP_POOL_ID_BYTES]; /* random; not all 0 */
	char gpu[IP_GPU_BYTES];
	uint32_t mode;            /* enum ps_share_mode */
	uint32_t parameter_write; /* 1: parameters may be written */
	uint64_t window_base;     /* 0 for legacy */
	uint64_t window_bytes;    /* at least the pool's; 0 for legacy */
	uint64_t segment_bytes;
	uint64_t parameter_bytes; /* at the start of the pool */
	uint32_t segment_count;   /* of the pool */
	uint32_t first;           /* the segments that will be sent */
	uint32_t count;
	uint8_t handle[IP_HANDLE_BYTES]; /* legacy; else all 0 */
};

/* Either side, instead of what was due. Ends the conversation. */
struct ip_refuse {
	uint32_t status;            /* enum ps_status, not PS_OK */
	char text[IP_TEXT_MAX + 1]; /* printable ASCII; on the wire no end */
};

/* Receiver, answer to an OFFER that it takes. */
struct ip_accept {
	uint8_t pool_id[IP_POOL_ID_BYTES];
};

/* Sender: the descriptors of these segments, in order, travel with it. */
struct ip_segments {
	uint32_t first;
	uint32_t count; /* 1 to IP_MESSAGE_FDS */
	uint32_t write; /* 1: may be written */
};

/* Receiver: these segments have been taken; send more. */
struct ip_got {
	uint32_t first;
	uint32_t count;
};

/* Receiver, last message: it has everything. */
struct ip_done {
	uint32_t count; /* segments taken in all */
};

struct ip_message {
	uint16_t type;  /* enum ip_type: which of the union */
	uint16_t minor; /* of the header */
	union {
		struct ip_hello hello;
		struct ip_offer offer;
		struct ip_refuse refuse;
		struct ip_accept accept;
		struct ip_segments segments;
		struct ip_got got;
		struct ip_done done;
		struct ip_attach attach;
		struct ip_welcome welcome;
		struct ip_take take;
		struct ip_list list; /* GRANT, HELD, GIVE, RECALLED, CLOSE */
		struct ip_need need;
		struct ip_part part;
		struct ip_number number; /* LEAVE, DID, POLL, LOST, JOIN */
		struct ip_deny deny;
		struct ip_ask ask;
		struct ip_answer answer;
		struct ip_issue issue;
		struct ip_ticket ticket; /* TICKET, OPEN */
		struct ip_opened opened;
		struct ip_add add;
		struct ip_added added;
		struct ip_order order;
		struct ip_costs costs;
		struct ip_board board;
		struct ip_find find;
		struct ip_model model;
		struct ip_use_request use;
		struct ip_place place;
		struct ip_dropped dropped;
		struct ip_yield yield;
		struct ip_yielded yielded;
		struct ip_recall recall;
		struct ip_polled polled;
		struct ip_begin begin;
		struct ip_piece piece; /* DROP too */
		struct ip_note note;
	} body;
	unsigned int fd_count;
	int fds[IP_MESSAGE_FDS]; /* owned; -1: taken */
};

/* An empty message. */
void ip_message_init(struct ip_message *msg, enum ip_type type, uint16_t minor);
/* Closes a descriptor that came from a peer: by close(), or by what the
 * process said before it had any. */
void ip_close(int fd);
void ip_close_with(void (*close_fd)(int fd));
/* Closes the descriptors that were not taken. */
void ip_message_done(struct ip_message *msg);
/* The caller's from now on. pre: index < fd_count. */
int ip_message_take_fd(struct ip_message *msg, unsigned int index);

/*
 * Checks the first IP_HEADER_BYTES of a message. @from: who is at the other
 * end, of enum ip_side. PS_PROTOCOL; PS_VERSION_MISMATCH for another major.
 */
enum ps_status ip_header_decode(const uint8_t bytes[IP_HEADER_BYTES],
				unsigned int from,
				struct ip_header *header_out);

/*
 * Decodes one whole message. @size must be its exact length. The message gets
 * no descriptors: who received them adds them, as many as the header says.
 * PS_PROTOCOL; PS_VERSION_MISMATCH for another major.
 */
enum ps_status ip_message_decode(const uint8_t *bytes, size_t size,
				 unsigned int from, struct ip_message *msg_out);

/* The bytes of a message, fd_count included. PS_INVALID_ARGUMENT when a field
 * has a value that the decoder would refuse. */
enum ps_status ip_message_encode(const struct ip_message *msg,
				 uint8_t bytes_out[IP_MESSAGE_MAX],
				 size_t *size_out);

/* The body of a REFUSE; a text that is too long is cut, and what cannot be
 * printed becomes '?'. */
void ip_refuse_set(struct ip_message *msg, enum ps_status status,
		   const char *text);
/* The same for DENY. */
void ip_deny_set(struct ip_message *msg, uint32_t seq, enum ps_status status,
		 const char *text);

/*
 * Whether the layout in an offer makes sense: sizes, counts, addresses and
 * what depends on the mode. PS_PROTOCOL with field, value and limit. The
 * decoder does not look; at WELCOME's layout it does.
 */
enum ps_status ip_offer_check(const struct ip_offer *offer);

#endif /* IPC_WIRE_H */
