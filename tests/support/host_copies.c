/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/host_copies.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/harness.h"

#define WAIT_MS 30000

th_read_hook *_Atomic th_on_read = __real_pread64;

th_read_hook __wrap_pread64;

ssize_t __wrap_pread64(int fd, void *buffer, size_t bytes, off_t offset)
{
	th_read_hook *hook = th_on_read;

	return hook(fd, buffer, bytes, offset);
}

int th_hosts_setup(void **state)
{
	struct pd_hosts *hosts;

	th_on_read = __real_pread64;
	th_assert_ok(pd_hosts_new(4, &hosts));
	*state = hosts;
	return 0;
}

int th_hosts_teardown(void **state)
{
	pd_hosts_free(*state);
	th_on_read = __real_pread64;
	return 0;
}

struct pd_host_made th_host_take(struct pd_hosts *hosts)
{
	struct pollfd look = { pd_hosts_event(hosts), POLLIN, 0 };
	struct pd_host_made made;

	assert_int_equal(poll(&look, 1, WAIT_MS), 1);
	assert_true(pd_hosts_take(hosts, &made));
	return made;
}

struct pd_host_made th_host_make(struct pd_hosts *hosts, const int *files,
				 uint32_t count, const uint8_t *want,
				 uint64_t room)
{
	struct pd_host_made made;

	th_assert_ok(pd_hosts_make(hosts, 3, 7, files, count, want, room));
	for (uint32_t i = 0; i < count; i++)
		close(files[i]);
	made = th_host_take(hosts);
	assert_int_equal(made.model, 3);
	assert_int_equal(made.serial, 7);
	return made;
}

struct pd_host_made th_host_make_of(struct pd_hosts *hosts,
				    const struct th_tensor *tensors,
				    size_t count)
{
	int file = th_model_file(tensors, count);
	struct pd_host_made made = th_host_make(hosts, &file, 1, NULL, TH_ROOM);

	if (made.status != PS_OK)
		fail_msg("%s: %s", ps_status_name(made.status), made.text);
	return made;
}

void th_host_refuse(struct pd_hosts *hosts, int file, enum ps_status status,
		    const char *words)
{
	struct pd_host_made made = th_host_make(hosts, &file, 1, NULL, TH_ROOM);

	if (made.status != status || strstr(made.text, words) == NULL)
		fail_msg("%s \"%s\", not %s \"%s\"",
			 ps_status_name(made.status), made.text,
			 ps_status_name(status), words);
	assert_null(made.memory);
	assert_int_equal(made.copy, -1);
	assert_int_equal(made.manifest, -1);
}

void th_host_drop(struct pd_host_made *made)
{
	pd_host_layout_done(&made->layout);
	pd_host_unmap(made->memory, made->bytes);
	if (made->copy >= 0)
		close(made->copy);
	if (made->manifest >= 0)
		close(made->manifest);
}
