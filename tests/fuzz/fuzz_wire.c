/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The decoder on any bytes, as any message from any side. What is accepted
 * must be encoded to the same bytes again, a layout that is accepted must lie
 * where the receiver will look for it, and a list holds what it may, once.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool promise)
{
	if (!promise)
		abort();
}

/* A newer minor may have appended what we do not know and do not keep. */
static void check_encoding(const struct ip_message *msg, const uint8_t *data,
			   size_t size)
{
	uint8_t again[IP_MESSAGE_MAX];
	size_t again_size = 0;

	expect(ip_message_encode(msg, again, &again_size) == PS_OK);
	expect(again_size <= size);
	if (msg->minor <= IP_MINOR_HIGH)
		expect(again_size == size && memcmp(again, data, size) == 0);
	else
		expect(memcmp(again + IP_HEADER_BYTES, data + IP_HEADER_BYTES,
			      again_size - IP_HEADER_BYTES) == 0);
}

static void check_offer(const struct ip_offer *offer)
{
	uint64_t pool = offer->segment_bytes * offer->segment_count;

	if (ip_offer_check(offer) != PS_OK)
		return;
	expect(pool / offer->segment_count == offer->segment_bytes);
	expect(pool <= IP_ADDRESS_END && offer->parameter_bytes <= pool);
	expect((uint64_t)offer->first + offer->count <= offer->segment_count);
	expect(offer->gpu[IP_GPU_BYTES - 1] == '\0');
	if (offer->mode != PS_SHARE_VMM)
		return;
	expect(offer->window_base >= IP_SEGMENT_MIN);
	expect(offer->window_base + pool <= IP_ADDRESS_END);
}

static void check_welcome(const struct ip_welcome *welcome)
{
	uint64_t pool = welcome->segment_bytes * welcome->segment_count;

	expect(welcome->id != 0 && welcome->gpu[IP_GPU_BYTES - 1] == '\0');
	expect(pool / welcome->segment_count == welcome->segment_bytes);
	expect(welcome->parameter_bytes <= pool);
	expect(welcome->window_base >= IP_SEGMENT_MIN);
	expect(welcome->window_base + welcome->window_bytes <= IP_ADDRESS_END);
	expect(pool <= welcome->window_bytes);
	expect(welcome->reservation <= welcome->limit);
}

/* Each below @end, none twice. */
static void check_numbers(const uint32_t *numbers, uint32_t count, uint32_t end)
{
	expect(count <= IP_LIST_MAX);
	for (uint32_t i = 0; i < count; i++) {
		expect((numbers[i] & IP_SEGMENT_NUMBER) < end);
		for (uint32_t j = 0; j < i; j++)
			expect(((numbers[i] ^ numbers[j]) &
				IP_SEGMENT_NUMBER) != 0);
	}
}

/* Room comes without descriptors. */
static void check_list(const struct ip_message *msg)
{
	const struct ip_list *list = &msg->body.list;
	bool is_room = (list->flags & IP_LIST_OUTSIDE) != 0;
	uint32_t bare = 0;

	check_numbers(list->segment, list->count, IP_SEGMENTS_MAX);
	for (uint32_t i = 0; i < list->count; i++)
		bare += !(list->segment[i] & ~IP_SEGMENT_NUMBER);
	if (msg->type != IP_GRANT && msg->type != IP_HELD)
		expect(bare == list->count);
	if (msg->type == IP_GRANT && !is_room)
		expect(msg->fd_count == bare);
	else
		expect(msg->fd_count == 0);
}

static void check_issue(const struct ip_issue *issue)
{
	expect(issue->run_count >= 1 && issue->run_count <= IP_TICKET_RUNS);
	for (uint32_t i = 0; i < issue->run_count; i++) {
		uint32_t first = issue->run[i].first;
		uint32_t end = first + issue->run[i].count;

		expect(first < end && end <= IP_SEGMENTS_MAX);
		for (uint32_t j = 0; j < i; j++)
			expect(issue->run[j].first >= end ||
			       issue->run[j].first + issue->run[j].count <=
				       first);
	}
	expect(issue->offset + issue->bytes > issue->offset);
	expect((issue->offset | issue->bytes) % IP_TICKET_GRANULE == 0);
}

static void check_opened(const struct ip_message *msg)
{
	const struct ip_opened *opened = &msg->body.opened;

	check_numbers(opened->segment, opened->count, IP_SEGMENTS_MAX);
	expect(opened->count > 0 && msg->fd_count == opened->count);
	expect(opened->offset + opened->bytes > opened->offset);
}

static uint32_t places(uint32_t kind)
{
	switch (kind) {
	case IP_PIECE_PIDFDS:
		return IP_CLIENTS_MAX;
	case IP_PIECE_SIGNALS:
		return IP_SIGNALS;
	case IP_PIECE_MANIFESTS:
	case IP_PIECE_HOSTS:
		return IP_MODELS_MAX;
	case IP_PIECE_FILES:
		return IP_MODELS_MAX * IP_MODEL_FILES;
	default:
		return IP_SEGMENTS_MAX;
	}
}

static void check_piece(const struct ip_message *msg)
{
	const struct ip_piece *piece = &msg->body.piece;

	check_numbers(piece->number, piece->count, places(piece->kind));
	expect(msg->fd_count == (msg->type == IP_PIECE ? piece->count : 0));
}

static void check_model(const struct ip_model *model)
{
	expect(model->model < IP_MODELS_MAX);
	expect(model->address % IP_SEGMENT_MIN == 0 && model->address > 0);
	expect(model->bytes > 0 && model->bytes % IP_MODEL_ALIGN == 0);
	expect(model->address + model->bytes <= IP_ADDRESS_END);
	expect(ip_model_name_is_ok(model->name));
	expect(model->tensors > 0 && model->manifest_bytes > 0);
}

static void check_place(const struct ip_message *msg)
{
	const struct ip_place *place = &msg->body.place;

	check_numbers(place->segment, place->count, IP_SEGMENTS_MAX);
	expect(place->place > 0 && msg->fd_count == place->count);
	expect(!(place->flags & IP_PLACE_SAME) == (place->count > 0));
}

/* What a place in a table or a file's name is made of. */
static bool check_models(const struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_ADD:
		expect(ip_model_name_is_ok(msg->body.add.name));
		expect(msg->body.add.source[IP_SOURCE_BYTES - 1] == '\0');
		expect(msg->fd_count > 0 && msg->fd_count <= IP_MODEL_FILES);
		return true;
	case IP_ORDER:
		expect(ip_model_name_is_ok(msg->body.order.name));
		return true;
	case IP_MODEL:
		check_model(&msg->body.model);
		return true;
	case IP_PLACE:
		check_place(msg);
		return true;
	case IP_USE:
		expect(msg->body.use.model < IP_MODELS_MAX);
		return true;
	case IP_YIELD:
		expect(msg->body.yield.model < IP_MODELS_MAX);
		return true;
	default:
		return false;
	}
}

/* What a receiver computes with. */
static void check_body(const struct ip_message *msg)
{
	switch ((enum ip_type)msg->type) {
	case IP_OFFER:
		check_offer(&msg->body.offer);
		break;
	case IP_WELCOME:
		check_welcome(&msg->body.welcome);
		break;
	case IP_GIVE:
	case IP_HELD:
	case IP_GRANT:
	case IP_RECALLED:
	case IP_CLOSE:
		check_list(msg);
		break;
	case IP_ISSUE:
		check_issue(&msg->body.issue);
		break;
	case IP_OPENED:
		check_opened(msg);
		break;
	case IP_PIECE:
	case IP_DROP:
		check_piece(msg);
		break;
	case IP_DENY:
		expect(strlen(msg->body.deny.text) <= IP_TEXT_MAX);
		break;
	default:
		break;
	}
}

/* Who looks at the header first must come to the same. */
static void check_header(const struct ip_message *msg, const uint8_t *data,
			 size_t size, unsigned int from)
{
	struct ip_header header;

	expect(ip_header_decode(data, from, &header) == PS_OK);
	expect(header.type == msg->type && header.minor == msg->minor);
	expect(IP_HEADER_BYTES + header.bytes == size);
	expect(header.fd_count <= IP_MESSAGE_FDS);
}

static void decode_from(const uint8_t *data, size_t size, unsigned int from)
{
	struct ip_message msg;

	if (ip_message_decode(data, size, from, &msg) != PS_OK)
		return;
	expect(msg.fd_count == 0);
	check_header(&msg, data, size, from);
	msg.fd_count = (unsigned int)(data[10] | data[11] << 8);
	check_encoding(&msg, data, size);
	if (!check_models(&msg))
		check_body(&msg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (unsigned int side = IP_SENDER; side <= IP_HALF; side <<= 1)
		decode_from(data, size, side);
	return 0;
}
