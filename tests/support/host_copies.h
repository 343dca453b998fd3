/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * For tests of host copies: making one, and a place in each read of a file
 * (th_on_read), in which a test changes the file, fails the read or waits. The
 * program is linked with --wrap=pread64.
 */
#ifndef TESTS_SUPPORT_HOST_COPIES_H
#define TESTS_SUPPORT_HOST_COPIES_H

#include <sys/types.h>

#include "poold/store/host.h"
#include "tests/support/model_files.h"

#define TH_ROOM (UINT64_C(1) << 40)

/* Called instead of each pread, on any thread; the real one unless a test sets
 * it. */
typedef ssize_t th_read_hook(int fd, void *buffer, size_t bytes, off_t offset);
extern th_read_hook *_Atomic th_on_read;
th_read_hook __real_pread64;

/* Setup and teardown: *state is a struct pd_hosts of four threads. */
int th_hosts_setup(void **state);
int th_hosts_teardown(void **state);

/* The next that is made, within 30 s. */
struct pd_host_made th_host_take(struct pd_hosts *hosts);
/* Makes one of these files, which it closes. @want: NULL: any. */
struct pd_host_made th_host_make(struct pd_hosts *hosts, const int *files,
				 uint32_t count, const uint8_t *want,
				 uint64_t room);
/* One file of these tensors; it must go well. */
struct pd_host_made th_host_make_of(struct pd_hosts *hosts,
				    const struct th_tensor *tensors,
				    size_t count);
/* Makes one of a file, which must be refused so and in these words. */
void th_host_refuse(struct pd_hosts *hosts, int file, enum ps_status status,
		    const char *words);
/* Gives up what was made. */
void th_host_drop(struct pd_host_made *made);

#endif /* TESTS_SUPPORT_HOST_COPIES_H */
