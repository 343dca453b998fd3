/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The decoder on any bytes, as any message from any side. What is accepted
 * must be encoded to the same bytes again, and a layout that is accepted must
 * lie where the receiver will look for it.
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
	if (msg.type == IP_OFFER)
		check_offer(&msg.body.offer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (unsigned int side = IP_SENDER; side <= IP_HALF; side <<= 1)
		decode_from(data, size, side);
	return 0;
}
