/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Copies of models in host memory when the system fails: the first call that
 * may fail does, then the second, and so on until a run needs no more. Each
 * run ends with a copy that is right or with a status, and leaves nothing.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "model/hash.h"
#include "tests/support/harness.h"
#include "tests/support/model_files.h"

#include "poold/store/host.h"

/* Two chunks, so that there is a helper. */
static const struct th_tensor tensors[] = {
	{ "a", 3000 },
	{ "b", MD_CHUNK_BYTES },
};

/* Calls until one fails; 0: none does. */
static atomic_int left;
static atomic_bool has_failed;

static bool fails(int error)
{
	if (atomic_load(&left) == 0 || atomic_fetch_sub(&left, 1) != 1)
		return false;
	has_failed = true;
	errno = error;
	return true;
}

/* A call of the C library's, and the same under the name of the linker. */
#define WRAP(type, call, parameters, arguments, error, failure)                \
	type __real_##call parameters;                                         \
	type __wrap_##call parameters;                                         \
	type __wrap_##call parameters                                          \
	{                                                                      \
		return fails(error) ? failure : __real_##call arguments;       \
	}

WRAP(void *, calloc, (size_t count, size_t size), (count, size), ENOMEM, NULL)
WRAP(void *, malloc, (size_t size), (size), ENOMEM, NULL)
WRAP(void *, realloc, (void *old, size_t size), (old, size), ENOMEM, NULL)
WRAP(int, memfd_create, (const char *name, unsigned int flags), (name, flags),
     EMFILE, -1)
WRAP(int, ftruncate64, (int fd, off_t size), (fd, size), EINVAL, -1)
WRAP(int, fstat64, (int fd, struct stat *info), (fd, info), EIO, -1)
WRAP(int, fcntl64, (int fd, int command, long value), (fd, command, value),
     EMFILE, -1)
WRAP(int, eventfd, (unsigned int start, int flags), (start, flags), EMFILE, -1)
WRAP(ssize_t, pread64, (int fd, void *to, size_t size, off_t at),
     (fd, to, size, at), EIO, -1)
WRAP(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size),
     ENOSPC, -1)
WRAP(void *, mmap64,
     (void *at, size_t size, int rights, int flags, int fd, off_t offset),
     (at, size, rights, flags, fd, offset), ENOMEM, MAP_FAILED)
WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes,
      void *(*run)(void *), void *arg),
     (thread, attributes, run, arg), EAGAIN, EAGAIN)

static void check_made(struct pd_host_made *made)
{
	if (made->status != PS_OK) {
		assert_true(made->text[0] != '\0');
		assert_null(made->memory);
		return;
	}
	th_assert_tensor(made->memory, &tensors[0]);
	th_assert_tensor((const uint8_t *)made->memory + 3072, &tensors[1]);
	pd_host_layout_done(&made->layout);
	pd_host_unmap(made->memory, made->bytes);
	close(made->copy);
	close(made->manifest);
}

/* *made_out: what came of it, if it began. */
static enum ps_status make_once(int file, struct pd_host_made *made_out)
{
	struct pd_hosts *hosts;
	struct pollfd look = { .events = POLLIN };
	enum ps_status status = pd_hosts_new(2, &hosts);

	if (status != PS_OK)
		return status;
	status = pd_hosts_make(hosts, 1, 1, &file, 1, NULL, UINT64_MAX);
	if (status == PS_OK) {
		look.fd = pd_hosts_event(hosts);
		assert_int_equal(poll(&look, 1, 30000), 1);
		assert_true(pd_hosts_take(hosts, made_out));
	}
	pd_hosts_free(hosts);
	return status;
}

static void test_host_any_call_that_fails_is_survived(void **state)
{
	int file = th_model_file(tensors, 2);
	unsigned int runs = 0, refused = 0;

	(void)state;
	do {
		struct pd_host_made made = { .memory = NULL };
		enum ps_status status;
		size_t fds = th_open_fds();

		has_failed = false;
		left = (int)++runs;
		status = make_once(file, &made);
		left = 0;
		refused += status != PS_OK || made.status != PS_OK;
		if (status == PS_OK)
			check_made(&made);
		assert_int_equal(th_open_fds(), fds);
	} while (has_failed);
	/* Not all that fail matter; most do. */
	assert_true(refused > runs / 2 && refused < runs);
	close(file);
}

static const struct th_test tests[] = {
	TH_TEST(test_host_any_call_that_fails_is_survived),
};

TH_MAIN("host_nth", tests)
