/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* ps_doctor() where there is a real GPU. What it says of lacks is seen on the
 * simulated one (unit/test_doctor.c). */
#include "include/poolswitch.h"
#include "tests/support/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct wanted {
	const char *need;
	bool is_met;
	char found[512];
};

static void note(void *arg, const struct ps_finding *finding)
{
	struct wanted *wanted = arg;

	if (strcmp(finding->need, wanted->need) != 0)
		return;
	wanted->is_met = finding->ok;
	snprintf(wanted->found, sizeof(wanted->found), "%s", finding->found);
}

static struct wanted look(const char *need)
{
	struct wanted wanted = { .need = need };

	th_assert_ok(ps_doctor(NULL, note, &wanted));
	return wanted;
}

/* The driver keeps descriptors from its first use on. */
static void warm_up(void)
{
	const char *driver = getenv("POOLSWITCH_DRIVER");

	if (!driver || strcmp(driver, "sim") != 0)
		(void)look("driver");
}

static void need_gpu(void)
{
	const char *driver = getenv("POOLSWITCH_DRIVER");

	if (driver && strcmp(driver, "sim") == 0)
		th_skip("this is for a real GPU");
	if (!look("gpu").is_met)
		th_skip("there is no GPU here");
}

static void test_doctor_real_gpu_is_well(void **state)
{
	static const char *const needs[] = { "driver",      "gpu",
					     "vmm",         "segment-fds",
					     "value-waits", "mig",
					     "kernel",      "pidfds" };
	struct wanted wanted;
	size_t i;

	(void)state;
	need_gpu();
	for (i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		wanted = look(needs[i]);
		if (!wanted.is_met)
			fail_msg("%s: %s", needs[i], wanted.found);
	}
}

static void test_doctor_real_driver_has_its_version(void **state)
{
	unsigned int major, minor;

	(void)state;
	need_gpu();
	assert_int_equal(sscanf(look("driver").found, "%u.%u", &major, &minor),
			 2);
	assert_true(major >= 525);
}

static const struct th_test tests[] = {
	TH_TEST(test_doctor_real_gpu_is_well),
	TH_TEST(test_doctor_real_driver_has_its_version),
};

TH_MAIN_WARM("doctor_gpu", tests, warm_up)
