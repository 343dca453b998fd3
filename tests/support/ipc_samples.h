/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A good message of each type, for the tests of ipc/ and for the fuzz corpus:
 * those of one whole handover of TH_SEGMENTS segments, the first two of which
 * hold parameters, and those of a daemon with the same pool.
 */
#ifndef TESTS_SUPPORT_IPC_SAMPLES_H
#define TESTS_SUPPORT_IPC_SAMPLES_H

#include <string.h>

#include "ipc/wire.h"

#define TH_GPU "GPU-00112233-4455-6677-8899-aabbccddeeff"
#define TH_SEGMENTS 5u
#define TH_SEGMENT_BYTES (UINT64_C(2) << 20)
#define TH_PARAMETERS 2u
#define TH_WINDOW UINT64_C(0x200000000000)

static inline void th_offer_init(struct ip_offer *offer)
{
	memset(offer, 0, sizeof(*offer));
	for (unsigned int i = 0; i < IP_POOL_ID_BYTES; i++)
		offer->pool_id[i] = (uint8_t)(0xa0 + i);
	memcpy(offer->gpu, TH_GPU, sizeof(TH_GPU));
	offer->mode = PS_SHARE_VMM;
	offer->window_base = TH_WINDOW;
	offer->window_bytes = 8 * TH_SEGMENT_BYTES;
	offer->segment_bytes = TH_SEGMENT_BYTES;
	offer->parameter_bytes = TH_PARAMETERS * TH_SEGMENT_BYTES;
	offer->segment_count = TH_SEGMENTS;
	offer->count = TH_SEGMENTS;
}

/* The same pool by legacy IPC. */
static inline void th_offer_init_legacy(struct ip_offer *offer)
{
	th_offer_init(offer);
	offer->mode = PS_SHARE_LEGACY_IPC;
	offer->window_base = 0;
	offer->window_bytes = 0;
	offer->parameter_write = 1;
	memset(offer->handle, 0x5a, sizeof(offer->handle));
}

static inline void th_hello_init(struct ip_hello *hello)
{
	memset(hello, 0, sizeof(*hello));
	hello->modes = IP_MODE_VMM | IP_MODE_LEGACY_IPC;
	hello->fds_at_once = 2;
	hello->fds_in_all = 64;
	memcpy(hello->gpu, TH_GPU, sizeof(TH_GPU));
}

static inline void th_attach_init(struct ip_attach *attach)
{
	memset(attach, 0, sizeof(*attach));
	attach->seq = 1;
	attach->minor_low = IP_MINOR_DAEMON;
	attach->flags = IP_ATTACH_WRITE;
	attach->id = 7;
	memset(attach->token, 0x3c, sizeof(attach->token));
	attach->reservation = TH_SEGMENT_BYTES;
	attach->limit = 3 * TH_SEGMENT_BYTES;
	memcpy(attach->name, "worker 1", 9);
	attach->contexts = 2;
}

static inline void th_welcome_init(struct ip_welcome *welcome)
{
	struct ip_offer offer;

	th_offer_init(&offer);
	memset(welcome, 0, sizeof(*welcome));
	welcome->seq = 1;
	welcome->resumed = 1;
	welcome->id = 7;
	memset(welcome->token, 0x3c, sizeof(welcome->token));
	memcpy(welcome->pool_id, offer.pool_id, sizeof(welcome->pool_id));
	memcpy(welcome->gpu, TH_GPU, sizeof(TH_GPU));
	welcome->window_base = offer.window_base;
	welcome->window_bytes = offer.window_bytes;
	welcome->segment_bytes = offer.segment_bytes;
	welcome->parameter_bytes = offer.parameter_bytes;
	welcome->segment_count = offer.segment_count;
	welcome->parameter_write = 1;
	welcome->reservation = TH_SEGMENT_BYTES;
	welcome->limit = 3 * TH_SEGMENT_BYTES;
}

/* They count descriptors and have none: their numbers are -1. */
static inline void th_sample_fds(struct ip_message *msg, unsigned int count)
{
	msg->fd_count = count;
	for (unsigned int i = 0; i < count; i++)
		msg->fds[i] = -1;
}

static inline void th_sample_handover(struct ip_message *msg)
{
	struct ip_offer offer;

	th_offer_init(&offer);
	switch ((enum ip_type)msg->type) {
	case IP_HELLO:
		th_hello_init(&msg->body.hello);
		break;
	case IP_OFFER:
		msg->body.offer = offer;
		break;
	case IP_REFUSE:
		ip_refuse_set(msg, PS_WRONG_GPU, "no such GPU here");
		break;
	case IP_ACCEPT:
		memcpy(msg->body.accept.pool_id, offer.pool_id,
		       sizeof(offer.pool_id));
		break;
	case IP_SEGMENTS:
		msg->body.segments = (struct ip_segments){ 2, 2, 1 };
		th_sample_fds(msg, 2);
		break;
	case IP_GOT:
		msg->body.got = (struct ip_got){ 2, 2 };
		break;
	default:
		msg->body.done.count = TH_SEGMENTS;
		break;
	}
}

/* Of both sides. */
static inline void th_sample_ticket(struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_ISSUE:
		msg->body.issue =
			(struct ip_issue){ 6, 2, { { 3, 1 }, { 2, 1 } }, 0, 0 };
		msg->body.issue.offset = 512;
		msg->body.issue.bytes = TH_SEGMENT_BYTES;
		break;
	case IP_OPENED:
		msg->body.opened = (struct ip_opened){ .seq = 6, .count = 2 };
		msg->body.opened.offset = 512;
		msg->body.opened.bytes = TH_SEGMENT_BYTES;
		msg->body.opened.segment[0] = 3;
		msg->body.opened.segment[1] = 2;
		th_sample_fds(msg, 2);
		break;
	default: /* TICKET, OPEN */
		msg->body.ticket.seq = 6;
		memset(msg->body.ticket.ticket, 0x7e, IP_TICKET_BYTES);
		break;
	}
}

static inline void th_sample_names(struct ip_message *msg)
{
	static const char name[] = "llama-3/8b@base";

	switch ((enum ip_type)msg->type) {
	case IP_ADD:
		msg->body.add = (struct ip_add){
			2, PS_MODEL_PUBLIC, PS_PLAN_GROUPS, 8, "", ""
		};
		memcpy(msg->body.add.name, name, sizeof(name));
		memcpy(msg->body.add.source, "/srv/llama", 11);
		th_sample_fds(msg, 2);
		break;
	case IP_ORDER:
		msg->body.order =
			(struct ip_order){ 3, PS_MODEL_PIN, 60001, "" };
		memcpy(msg->body.order.name, name, sizeof(name));
		break;
	default: /* FIND */
		msg->body.find.seq = 4;
		msg->body.find.flags = IP_FIND_NAME | IP_FIND_HASH;
		memcpy(msg->body.find.name, name, sizeof(name));
		memset(msg->body.find.hash, 0x9d, PS_MODEL_HASH_BYTES);
		break;
	}
}

/* What a client says of models. */
static inline void th_sample_user(struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_COSTS:
		msg->body.costs = (struct ip_costs){ 5, 1023, 40 };
		th_sample_fds(msg, 1);
		break;
	case IP_JOIN:
		msg->body.number.seq = 2;
		th_sample_fds(msg, 1);
		break;
	case IP_USE:
		msg->body.use =
			(struct ip_use_request){ 6, 1023, 9, 4, 100, 500 };
		break;
	case IP_DROPPED:
		msg->body.dropped = (struct ip_dropped){ 7, 1023, 9 };
		break;
	case IP_YIELDED:
		msg->body.yielded =
			(struct ip_yielded){ 8, 1023, 9, IP_YIELDED_BUSY };
		break;
	default:
		th_sample_names(msg);
		break;
	}
}

static inline void th_model_init(struct ip_model *model)
{
	struct ip_message find;

	ip_message_init(&find, IP_FIND, IP_MINOR_HIGH);
	th_sample_names(&find);
	memset(model, 0, sizeof(*model));
	model->seq = 4;
	model->model = 1023;
	model->serial = 9;
	model->tensors = 40;
	model->address = TH_WINDOW + 5 * TH_SEGMENT_BYTES;
	model->bytes = TH_SEGMENT_BYTES + IP_MODEL_ALIGN;
	model->manifest_bytes = 4000;
	memcpy(model->hash, find.body.find.hash, sizeof(model->hash));
	memcpy(model->name, find.body.find.name, sizeof(model->name));
}

/* What the daemon says of them. */
static inline void th_sample_store(struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_ADDED:
		msg->body.added.seq = 2;
		memset(msg->body.added.hash, 0x9d, PS_MODEL_HASH_BYTES);
		break;
	case IP_BOARD:
		msg->body.board = (struct ip_board){ 2, IP_MODELS_MAX };
		th_sample_fds(msg, 2);
		break;
	case IP_MODEL:
		th_model_init(&msg->body.model);
		th_sample_fds(msg, 1);
		break;
	case IP_PLACE:
		msg->body.place =
			(struct ip_place){ 6, IP_LIST_MORE, 5, 1, 2, { 3, 1 } };
		th_sample_fds(msg, 2);
		break;
	default:
		msg->body.yield =
			(struct ip_yield){ 8, IP_YIELD_UNMAP, 1023, 9, 250 };
		break;
	}
}

/* What a client and its service thread say. */
static inline void th_sample_client(struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_ATTACH:
		th_attach_init(&msg->body.attach);
		th_sample_fds(msg, 1);
		break;
	case IP_TAKE:
		msg->body.take = (struct ip_take){ 2, 3, 500, IP_TAKE_SOME };
		break;
	case IP_GIVE:
		msg->body.list = (struct ip_list){ 3, 0, 2, { 4, 2 } };
		msg->body.list.flags = IP_LIST_PARKED;
		break;
	case IP_NEED:
		msg->body.need = (struct ip_need){ 4, 0, 2, 0 };
		break;
	case IP_ASK:
		msg->body.ask = (struct ip_ask){ 1, IP_ASK_STATUS };
		break;
	case IP_CLOSE:
		msg->body.list = (struct ip_list){ 7, 0, 2, { 4, 2 } };
		break;
	case IP_ISSUE:
	case IP_OPEN:
		th_sample_ticket(msg);
		break;
	case IP_RECALLED:
		msg->body.list = (struct ip_list){ 9, 0, 2, { 3, 4 } };
		msg->body.list.flags = IP_LIST_MORE;
		break;
	case IP_POLLED:
		msg->body.polled = (struct ip_polled){ 9, 5, 1, 2, 3 };
		break;
	default:
		msg->body.number.seq = 5; /* LEAVE */
		break;
	}
}

static inline void th_sample_daemon(struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_WELCOME:
		th_welcome_init(&msg->body.welcome);
		th_sample_fds(msg, 1);
		break;
	case IP_HELD:
		msg->body.list = (struct ip_list){ 1, 0, 2, { 2, 3 } };
		msg->body.list.segment[1] |= IP_SEGMENT_PARKED;
		break;
	case IP_GRANT:
		msg->body.list = (struct ip_list){ 2, 0, 3, { 2, 4, 3 } };
		msg->body.list.flags = IP_LIST_MORE;
		msg->body.list.segment[1] |= IP_SEGMENT_PARKED;
		th_sample_fds(msg, 2);
		break;
	case IP_PART:
		msg->body.part = (struct ip_part){ 4, 0, 2, 1 };
		th_sample_fds(msg, 2);
		break;
	case IP_DENY:
		ip_deny_set(msg, 2, PS_AGAIN, "not before the fence");
		break;
	case IP_ANSWER:
		msg->body.answer = (struct ip_answer){ 1, 1000 };
		th_sample_fds(msg, 1);
		break;
	case IP_TICKET:
	case IP_OPENED:
		th_sample_ticket(msg);
		break;
	case IP_RECALL:
		msg->body.recall = (struct ip_recall){ 9, 2, 100 };
		break;
	default:
		msg->body.number.seq = 5; /* DID, POLL, LOST */
		break;
	}
}

/* What keeper and agent say to each other. */
static inline void th_sample_half(struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_BEGIN:
		msg->body.begin = (struct ip_begin){ 1, TH_SEGMENTS, 64 };
		th_sample_fds(msg, 3);
		break;
	case IP_PIECE:
		msg->body.piece =
			(struct ip_piece){ IP_PIECE_SEGMENTS, 2, { 1, 0 } };
		th_sample_fds(msg, 2);
		break;
	case IP_DROP:
		msg->body.piece =
			(struct ip_piece){ IP_PIECE_PIDFDS, 2, { 63, 5 } };
		break;
	default:
		msg->body.note = (struct ip_note){ IP_NOTICE_DROPPED, 63 };
		break;
	}
}

static inline void th_sample(enum ip_type type, struct ip_message *msg)
{
	const struct ip_rule *rule = ip_rule_find((uint16_t)type);

	ip_message_init(msg, type, IP_MINOR_HIGH);
	if (type < IP_ATTACH)
		th_sample_handover(msg);
	else if (rule->since == IP_MINOR_MODELS)
		(rule->from & IP_CLIENT ? th_sample_user
					: th_sample_store)(msg);
	else if (rule->from & IP_CLIENT)
		th_sample_client(msg);
	else if (rule->from & IP_DAEMON)
		th_sample_daemon(msg);
	else
		th_sample_half(msg);
}

static const enum ip_type th_types[] = {
	IP_HELLO,  IP_OFFER,   IP_REFUSE, IP_ACCEPT, IP_SEGMENTS, IP_GOT,
	IP_DONE,   IP_ATTACH,  IP_TAKE,   IP_GIVE,   IP_NEED,     IP_LEAVE,
	IP_ASK,    IP_WELCOME, IP_HELD,   IP_GRANT,  IP_DID,      IP_PART,
	IP_DENY,   IP_ANSWER,  IP_RECALL, IP_POLL,   IP_LOST,     IP_RECALLED,
	IP_POLLED, IP_BEGIN,   IP_PIECE,  IP_DROP,   IP_NOTE,     IP_ISSUE,
	IP_OPEN,   IP_CLOSE,   IP_TICKET, IP_OPENED, IP_ADD,      IP_ORDER,
	IP_COSTS,  IP_JOIN,    IP_FIND,   IP_USE,    IP_DROPPED,  IP_ADDED,
	IP_BOARD,  IP_MODEL,   IP_PLACE,  IP_YIELD,  IP_YIELDED,
};

#define TH_TYPES (sizeof(th_types) / sizeof(th_types[0]))

#endif /* TESTS_SUPPORT_IPC_SAMPLES_H */
