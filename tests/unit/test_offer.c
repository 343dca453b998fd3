/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Layouts that a receiver must not compute with. */
#include <string.h>

#include "base/status.h"
#include "ipc/wire.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_samples.h"

static void assert_bad(const struct ip_offer *offer, const char *text)
{
	th_assert_status(ip_offer_check(offer), PS_PROTOCOL);
	if (!strstr(bs_fail_text(), text))
		fail_msg("\"%s\" lacks \"%s\"", bs_fail_text(), text);
}

/* One wrong field of a good layout. */
struct bad_layout {
	bool legacy;
	size_t at;
	size_t width;
	uint64_t value;
	const char *text; /* what the error says */
};

#define FIELD(field)                                                           \
	offsetof(struct ip_offer, field), sizeof(((struct ip_offer *)0)->field)
#define BYTE(field, index) offsetof(struct ip_offer, field) + (index), 1

static const struct bad_layout bad_layouts[] = {
	{ false, BYTE(gpu, 0), '\0', "gpu is empty" },
	{ false, FIELD(segment_bytes), 3 << 20,
	  "segment_bytes is 0x300000, must be a power of two of at least" },
	{ false, FIELD(segment_bytes), 1 << 20, "segment_bytes is 0x100000" },
	{ false, FIELD(segment_bytes), 0, "segment_bytes is 0x0" },
	{ false, FIELD(segment_bytes), UINT64_C(1) << 63,
	  "such that all segments fit below" },
	{ false, FIELD(segment_bytes), UINT64_C(1) << 45,
	  "such that all segments fit below" },
	{ false, FIELD(segment_count), 0,
	  "segment_count is 0x0, must be 1 to 0x10000" },
	{ false, FIELD(segment_count), 65537, "segment_count is 0x10001" },
	{ false, FIELD(count), 0, "count is 0x0" },
	{ false, FIELD(count), 6, "count is 0x6, must be 1 to 0x5" },
	{ false, FIELD(first), 1, "first is 0x1, must be at most 0x0" },
	{ false, FIELD(first), UINT32_MAX, "first is 0xffffffff" },
	{ false, FIELD(parameter_bytes), 1,
	  "parameter_bytes is 0x1, must be a multiple of 0x200000" },
	{ false, FIELD(parameter_bytes), 6 * TH_SEGMENT_BYTES,
	  "parameter_bytes is 0xc00000, must be at" },
	{ false, FIELD(window_base), 0, "window_base is 0x0" },
	{ false, FIELD(window_base), TH_WINDOW + 4096,
	  "window_base is 0x200000001000, must be a multiple, not 0, of" },
	{ false, FIELD(window_bytes), 4 * TH_SEGMENT_BYTES,
	  "window_bytes is 0x800000, must be at" },
	{ false, FIELD(window_bytes), 8 * TH_SEGMENT_BYTES + 1,
	  "must be a multiple of 0x200000" },
	{ false, FIELD(window_base), IP_ADDRESS_END - 4 * TH_SEGMENT_BYTES,
	  "window_base + window_bytes is" },
	{ false, FIELD(window_base), -(8 * TH_SEGMENT_BYTES),
	  "window_base + window_bytes is" },
	{ false, BYTE(handle, 63), 1, "handle is set" },
	{ false, FIELD(mode), 2, "mode is 0x2" },
	{ true, FIELD(window_base), TH_WINDOW, "(legacy IPC) 0x0" },
	{ true, FIELD(window_bytes), 1,
	  "window_bytes is 0x1, must be (legacy IPC) 0x0" },
	{ true, FIELD(count), 4, "count is 0x4, must be (legacy IPC) 0x5" },
	{ true, FIELD(parameter_write), 0, "parameter_write is 0x0" },
};

static void test_offer_incoherent_layout_is_named(void **state)
{
	const size_t count = sizeof(bad_layouts) / sizeof(bad_layouts[0]);
	struct ip_offer offer;

	(void)state;
	for (size_t i = 0; i < count; i++) {
		const struct bad_layout *bad = &bad_layouts[i];

		if (bad->legacy)
			th_offer_init_legacy(&offer);
		else
			th_offer_init(&offer);
		/* little-endian, like the machine: see meson.build */
		memcpy((char *)&offer + bad->at, &bad->value, bad->width);
		assert_bad(&offer, bad->text);
	}
}

static void test_offer_coherent_layout_is_accepted(void **state)
{
	struct ip_offer offer;

	(void)state;
	th_offer_init(&offer);
	th_assert_ok(ip_offer_check(&offer));
	th_offer_init_legacy(&offer);
	th_assert_ok(ip_offer_check(&offer));
}

static void test_offer_zero_pool_id_is_refused(void **state)
{
	struct ip_offer offer;

	(void)state;
	th_offer_init(&offer);
	memset(offer.pool_id, 0, sizeof(offer.pool_id));
	assert_bad(&offer, "pool_id is all zeros");
}

static void test_offer_legacy_without_handle_is_refused(void **state)
{
	struct ip_offer offer;

	(void)state;
	th_offer_init_legacy(&offer);
	memset(offer.handle, 0, sizeof(offer.handle));
	assert_bad(&offer, "handle is all zeros");
}

/* The largest: 65,536 segments that end where the addresses do. */
static void test_offer_largest_pool_is_accepted(void **state)
{
	struct ip_offer offer;

	(void)state;
	th_offer_init(&offer);
	offer.segment_bytes = UINT64_C(1) << 30;
	offer.segment_count = IP_SEGMENTS_MAX;
	offer.window_bytes = offer.segment_bytes * IP_SEGMENTS_MAX;
	offer.window_base = IP_ADDRESS_END - offer.window_bytes;
	offer.parameter_bytes = offer.window_bytes;
	offer.first = IP_SEGMENTS_MAX - 1;
	offer.count = 1;
	th_assert_ok(ip_offer_check(&offer));
}

static const struct th_test tests[] = {
	TH_TEST(test_offer_incoherent_layout_is_named),
	TH_TEST(test_offer_coherent_layout_is_accepted),
	TH_TEST(test_offer_zero_pool_id_is_refused),
	TH_TEST(test_offer_legacy_without_handle_is_refused),
	TH_TEST(test_offer_largest_pool_is_accepted),
};

TH_MAIN("offer", tests)
