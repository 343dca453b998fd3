/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A good message of each type, for the tests of ipc/ and for the fuzz corpus:
 * those of one whole handover of TH_SEGMENTS segments, the first two of which
 * hold parameters.
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

/* SEGMENTS counts two descriptors and has none: their numbers are -1. */
static inline void th_sample(enum ip_type type, struct ip_message *msg)
{
	struct ip_offer offer;

	ip_message_init(msg, type, IP_MINOR_HIGH);
	th_offer_init(&offer);
	switch (type) {
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
		msg->fd_count = 2;
		msg->fds[0] = msg->fds[1] = -1;
		break;
	case IP_GOT:
		msg->body.got = (struct ip_got){ 2, 2 };
		break;
	case IP_DONE:
		msg->body.done.count = TH_SEGMENTS;
		break;
	}
}

static const enum ip_type th_types[] = {
	IP_HELLO, IP_OFFER, IP_REFUSE, IP_ACCEPT, IP_SEGMENTS, IP_GOT, IP_DONE,
};

#define TH_TYPES (sizeof(th_types) / sizeof(th_types[0]))

#endif /* TESTS_SUPPORT_IPC_SAMPLES_H */
