/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A whole handover: a source of descriptors that can be told apart, a sink
 * that keeps books, and both roles at once, the receiver in a thread. Each
 * side can be told to fail at any of its steps.
 */
#ifndef TESTS_SUPPORT_IPC_TALK_H
#define TESTS_SUPPORT_IPC_TALK_H

#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "ipc/handover.h"
#include "tests/support/ipc_ends.h"

#define TH_TALK_SEGMENTS 200u
#define TH_TEXT 512u

/* Segment i is a file of i + 1 bytes. */
struct th_source {
	int fds[TH_TALK_SEGMENTS];
	uint32_t segments;
	uint32_t lent; /* and not given back */
	uint32_t batches;
	uint32_t largest;    /* batch */
	uint32_t fail_batch; /* counted from 1; 0: none */
};

struct th_sink {
	struct ip_offer offer;
	uint32_t checks;
	uint32_t taken;
	uint32_t writable;
	uint32_t batches;
	bool keep; /* the descriptors; in kept */
	int kept[TH_TALK_SEGMENTS];
	enum ps_status check_status;
	uint32_t fail_batch; /* counted from 1; 0: none */
};

struct th_talk {
	struct th_ends ends;
	struct ip_offer offer;
	struct ip_hello hello;
	struct th_source source;
	struct th_sink sink;
	enum ps_status sent;
	enum ps_status received;
	char sender_text[TH_TEXT];
	char receiver_text[TH_TEXT];
};

static inline enum ps_status th_source_get(void *owner, uint32_t first,
					   uint32_t count, int *fds_out)
{
	struct th_source *source = owner;

	if (++source->batches == source->fail_batch)
		return bs_fail(PS_DRIVER, "segment %u cannot be exported",
			       first);
	memcpy(fds_out, source->fds + first, count * sizeof(int));
	source->lent += count;
	if (count > source->largest)
		source->largest = count;
	return PS_OK;
}

static inline void th_source_put(void *owner, uint32_t first, uint32_t count,
				 const int *fds)
{
	struct th_source *source = owner;

	if (memcmp(fds, source->fds + first, count * sizeof(int)) == 0)
		source->lent -= count;
}

static inline enum ps_status th_sink_check(void *owner,
					   const struct ip_offer *offer)
{
	struct th_sink *sink = owner;

	sink->checks++;
	sink->offer = *offer;
	sink->taken = offer->first;
	if (sink->check_status != PS_OK)
		return bs_fail(sink->check_status, "the window is in use here");
	return PS_OK;
}

static inline enum ps_status th_sink_take(void *owner, uint32_t first,
					  uint32_t count, bool writable,
					  int *fds)
{
	struct th_sink *sink = owner;
	struct stat info;

	if (++sink->batches == sink->fail_batch)
		return bs_fail(PS_BAD_SEGMENT, "segment %u is none", first);
	for (uint32_t i = 0; i < count; i++) {
		if (first != sink->taken || fstat(fds[i], &info) != 0 ||
		    info.st_size != (off_t)(first + i + 1))
			return bs_fail(PS_BAD_SEGMENT, "segment %u is another",
				       first + i);
		if (sink->keep) {
			sink->kept[first + i] = fds[i];
			fds[i] = -1;
		}
	}
	sink->taken += count;
	sink->writable += writable ? count : 0;
	return PS_OK;
}

/* The handover of ipc_samples.h, over a socket of @type. */
static inline void th_talk_init(struct th_talk *talk, int type)
{
	memset(talk, 0, sizeof(*talk));
	th_open_ends(type, &talk->ends);
	th_offer_init(&talk->offer);
	th_hello_init(&talk->hello);
	talk->source.segments = TH_SEGMENTS;
}

static inline void th_talk_resize(struct th_talk *talk, uint32_t segments)
{
	talk->source.segments = segments;
	talk->offer.segment_count = talk->offer.count = segments;
	talk->offer.window_bytes = segments * talk->offer.segment_bytes;
	talk->hello.fds_in_all = segments;
}

static inline void th_source_open(struct th_source *source)
{
	for (uint32_t i = 0; i < source->segments; i++) {
		source->fds[i] = memfd_create("segment", MFD_CLOEXEC);
		assert_int_equal(ftruncate(source->fds[i], (off_t)i + 1), 0);
	}
}

static inline void th_source_close(struct th_source *source)
{
	for (uint32_t i = 0; i < source->segments; i++)
		close(source->fds[i]);
}

static inline void *th_talk_receive(void *arg)
{
	struct th_talk *talk = arg;
	struct ip_sink sink = { th_sink_check, th_sink_take, &talk->sink };

	talk->received =
		ip_offer_receive(&talk->ends.receiver, &talk->hello, &sink);
	if (talk->received != PS_OK)
		snprintf(talk->receiver_text, TH_TEXT, "%s", bs_fail_text());
	/* Like a process that ends: the sender must not wait for more. */
	if (talk->received != PS_OK)
		shutdown(talk->ends.fds[1], SHUT_RDWR);
	return NULL;
}

static inline void th_talk_send(struct th_talk *talk)
{
	struct ip_source source = { th_source_get, th_source_put,
				    &talk->source };

	talk->sent = ip_offer_send(&talk->ends.sender, &talk->offer, &source);
	if (talk->sent != PS_OK)
		snprintf(talk->sender_text, TH_TEXT, "%s", bs_fail_text());
	if (talk->sent != PS_OK)
		shutdown(talk->ends.fds[0], SHUT_RDWR);
}

/* Both sides, to the end. */
static inline void th_talk_run(struct th_talk *talk)
{
	pthread_t receiver;

	th_source_open(&talk->source);
	assert_int_equal(pthread_create(&receiver, NULL, th_talk_receive, talk),
			 0);
	th_talk_send(talk);
	pthread_join(receiver, NULL);
	th_source_close(&talk->source);
	assert_int_equal(talk->source.lent, 0);
}

static inline void th_talk_done(struct th_talk *talk)
{
	for (uint32_t i = 0; talk->sink.keep && i < TH_TALK_SEGMENTS; i++) {
		if (talk->sink.kept[i] > 0)
			close(talk->sink.kept[i]);
	}
	th_close_ends(&talk->ends);
}

static inline void th_assert_text(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("\"%s\" lacks \"%s\"", text, part);
}

#endif /* TESTS_SUPPORT_IPC_TALK_H */
