/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * ps_doctor() on the simulated GPU. Each test looks in a child: the driver is
 * loaded once a process, and so is what the environment says of it.
 */
#include "include/poolswitch.h"
#include "tests/support/harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* ---- another system (linked with --wrap) ---- */

static bool is_wsl;
static bool is_old;

int __real_access(const char *path, int mode);
int __wrap_access(const char *path, int mode);

int __wrap_access(const char *path, int mode)
{
	if (is_wsl && strcmp(path, "/dev/dxg") == 0)
		return 0;
	return __real_access(path, mode);
}

int __real_uname(struct utsname *name);
int __wrap_uname(struct utsname *name);

int __wrap_uname(struct utsname *name)
{
	int result = __real_uname(name);

	if (is_old)
		strcpy(name->release, "4.19.0-27-amd64");
	return result;
}

/* Not variadic: on this processor that makes no difference to the caller, and
 * what it did not pass is never looked at. */
long __real_syscall(long number, long a, long b, long c, long d, long e,
		    long f);
long __wrap_syscall(long number, long a, long b, long c, long d, long e,
		    long f);

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (is_old && number == SYS_pidfd_open) {
		errno = ENOSYS;
		return -1;
	}
	return __real_syscall(number, a, b, c, d, e, f);
}

/* ---- findings ---- */

#define FINDINGS_MAX 32

struct seen {
	char need[32];
	bool ok;
	char found[512];
	char remedy[512];
};

static struct seen seen[FINDINGS_MAX];
static unsigned int count;

static void note(void *arg, const struct ps_finding *finding)
{
	struct seen *one = &seen[count++];

	assert_ptr_equal(arg, seen);
	assert_true(count <= FINDINGS_MAX);
	snprintf(one->need, sizeof(one->need), "%s", finding->need);
	snprintf(one->found, sizeof(one->found), "%s", finding->found);
	snprintf(one->remedy, sizeof(one->remedy), "%s", finding->remedy);
	one->ok = finding->ok;
}

static void look(void)
{
	count = 0;
	th_assert_ok(ps_doctor(NULL, note, seen));
}

static const struct seen *of(const char *need)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if (strcmp(seen[i].need, need) == 0)
			return &seen[i];
	fail_msg("nothing is said of %s", need);
	return NULL;
}

/* Fails unless the need is not met, for this reason, with a remedy. */
static void assert_no(const char *need, const char *found)
{
	const struct seen *one = of(need);

	assert_false(one->ok);
	if (!strstr(one->found, found))
		fail_msg("%s: found \"%s\", not \"%s\"", need, one->found,
			 found);
	assert_true(strlen(one->remedy) > 0);
}

static void assert_only_no(const char *need)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if (seen[i].ok != (strcmp(seen[i].need, need) != 0))
			fail_msg("%s is %d: %s", seen[i].need, seen[i].ok,
				 seen[i].found);
}

static void in_child(void (*run)(void *))
{
	assert_int_equal(th_wait(th_fork(run, NULL)), 0);
}

static void see_all(void *unused)
{
	(void)unused;
	look();
	assert_only_no("none");
	assert_non_null(strstr(of("driver")->found, "simulated"));
	assert_string_equal(of("driver")->remedy, "");
	assert_non_null(strstr(of("segment-fds")->found, "imported"));
}

static void test_doctor_simulated_gpu_has_all(void **state)
{
	(void)state;
	in_child(see_all);
}

static void see_order(void *unused)
{
	static const char *const needs[] = {
		"driver",      "gpu",           "vmm",    "segment-fds",
		"value-waits", "mig",           "mps",    "compute-mode",
		"fd-limit",    "locked-memory", "kernel", "glibc",
		"pidfds",      "wsl",
	};
	unsigned int i;

	(void)unused;
	look();
	assert_int_equal(count, sizeof(needs) / sizeof(needs[0]));
	for (i = 0; i < count; i++)
		assert_string_equal(seen[i].need, needs[i]);
}

static void test_doctor_findings_have_a_fixed_order(void **state)
{
	(void)state;
	in_child(see_order);
}

static void see_no_driver(void *unused)
{
	(void)unused;
	setenv("POOLSWITCH_SIM_LIBRARY", "/nowhere/libcuda.so.1", 1);
	look();
	assert_no("driver", "/nowhere/libcuda.so.1");
	assert_non_null(strstr(of("driver")->remedy, "install"));
	assert_no("gpu", "not known");
	assert_no("vmm", "not known");
	assert_no("segment-fds", "not known");
	assert_true(of("kernel")->ok);
}

static void test_doctor_without_driver_says_so(void **state)
{
	(void)state;
	in_child(see_no_driver);
}

static void see_no_gpu(void *unused)
{
	(void)unused;
	count = 0;
	th_assert_ok(ps_doctor("9", note, seen));
	assert_true(of("driver")->ok);
	assert_no("gpu", "there is no GPU 9");
	assert_no("mig", "not known");
}

static void test_doctor_without_gpu_says_so(void **state)
{
	(void)state;
	in_child(see_no_gpu);
}

static void see_no_vmm(void *unused)
{
	(void)unused;
	setenv("POOLSWITCH_SIM_VMM", "0", 1);
	look();
	assert_no("vmm", "cannot be mapped");
	assert_false(of("segment-fds")->ok);
	assert_true(of("gpu")->ok);
}

static void test_doctor_without_vmm_says_so(void **state)
{
	(void)state;
	in_child(see_no_vmm);
}

static void see_old_gpu(void *unused)
{
	(void)unused;
	setenv("POOLSWITCH_SIM_CAPABILITY", "61", 1);
	look();
	assert_no("gpu", "compute capability 6.1");
}

static void test_doctor_gpu_older_than_volta_is_a_finding(void **state)
{
	(void)state;
	in_child(see_old_gpu);
}

static void see_mps(void *unused)
{
	(void)unused;
	setenv("POOLSWITCH_SIM_MPS", "1", 1);
	look();
	assert_only_no("mps");
	assert_no("mps", "in an MPS server");
}

static void test_doctor_mps_is_a_finding(void **state)
{
	(void)state;
	in_child(see_mps);
}

static void see_exclusive(void *unused)
{
	(void)unused;
	setenv("POOLSWITCH_SIM_COMPUTE_MODE", "3", 1);
	look();
	assert_no("compute-mode", "exclusive");
}

static void test_doctor_exclusive_mode_is_a_finding(void **state)
{
	(void)state;
	in_child(see_exclusive);
}

static void see_mig(void *unused)
{
	(void)unused;
	setenv("POOLSWITCH_SIM_NAME", "NVIDIA H200 MIG 1g.18gb", 1);
	look();
	assert_no("mig", "an instance");
}

static void test_doctor_mig_instance_is_a_finding(void **state)
{
	(void)state;
	in_child(see_mig);
}

static void see_failing_export(void *unused)
{
	(void)unused;
	setenv("POOLSWITCH_SIM_FAIL", "cuMemExportToShareableHandle:1=999", 1);
	look();
	assert_only_no("segment-fds");
	assert_true(strlen(of("segment-fds")->remedy) > 0);
}

static void test_doctor_failing_export_is_a_finding(void **state)
{
	(void)state;
	in_child(see_failing_export);
}

static void see_few_fds(void *unused)
{
	const struct rlimit few = { 128, 128 };

	(void)unused;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	look();
	assert_only_no("fd-limit");
	assert_no("fd-limit", "128 open files, at most 128");
}

static void test_doctor_low_fd_limit_is_a_finding(void **state)
{
	(void)state;
	in_child(see_few_fds);
}

static void see_no_locked_memory(void *unused)
{
	const struct rlimit none = { 0, 0 };

	(void)unused;
	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	look();
	assert_only_no("locked-memory");
	assert_no("locked-memory", "0, at most 0;");
}

static void test_doctor_no_locked_memory_is_a_finding(void **state)
{
	(void)state;
	in_child(see_no_locked_memory);
}

static void see_wsl(void *unused)
{
	(void)unused;
	is_wsl = true;
	look();
	assert_only_no("wsl");
	assert_no("wsl", "this is WSL2");
}

static void test_doctor_wsl_is_a_finding(void **state)
{
	(void)state;
	in_child(see_wsl);
}

static void see_old_kernel(void *unused)
{
	(void)unused;
	is_old = true;
	look();
	assert_no("kernel", "4.19.0-27-amd64; 5.3 is needed");
	assert_no("pidfds", "pidfd_open() fails: Function not implemented");
}

static void test_doctor_old_kernel_is_a_finding(void **state)
{
	(void)state;
	in_child(see_old_kernel);
}

static void test_doctor_refuses_what_names_no_gpu(void **state)
{
	(void)state;
	th_assert_status(ps_doctor("first", note, seen), PS_INVALID_ARGUMENT);
	th_assert_status(ps_doctor("0", NULL, NULL), PS_INVALID_ARGUMENT);
}

static const struct th_test tests[] = {
	TH_TEST(test_doctor_simulated_gpu_has_all),
	TH_TEST(test_doctor_findings_have_a_fixed_order),
	TH_TEST(test_doctor_without_driver_says_so),
	TH_TEST(test_doctor_without_gpu_says_so),
	TH_TEST(test_doctor_without_vmm_says_so),
	TH_TEST(test_doctor_gpu_older_than_volta_is_a_finding),
	TH_TEST(test_doctor_mps_is_a_finding),
	TH_TEST(test_doctor_exclusive_mode_is_a_finding),
	TH_TEST(test_doctor_mig_instance_is_a_finding),
	TH_TEST(test_doctor_failing_export_is_a_finding),
	TH_TEST(test_doctor_low_fd_limit_is_a_finding),
	TH_TEST(test_doctor_no_locked_memory_is_a_finding),
	TH_TEST(test_doctor_wsl_is_a_finding),
	TH_TEST(test_doctor_old_kernel_is_a_finding),
	TH_TEST(test_doctor_refuses_what_names_no_gpu),
};

TH_MAIN("doctor", tests)
