/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What systemd is told, and that nothing depends on it. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "poold/notify.h"
#include "tests/support/harness.h"

static int reset(void **state)
{
	(void)state;
	unsetenv("NOTIFY_SOCKET");
	return 0;
}

/* systemd's end; @place as in NOTIFY_SOCKET. */
static int be_systemd(const char *place)
{
	struct sockaddr_un name = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	size_t length = strlen(place);

	memcpy(name.sun_path, place, length);
	if (place[0] == '@')
		name.sun_path[0] = '\0';
	assert_int_equal(
		bind(fd, (struct sockaddr *)&name,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				 length)),
		0);
	setenv("NOTIFY_SOCKET", place, 1);
	return fd;
}

static void assert_told(int fd, const char *expected)
{
	char text[100];
	ssize_t got = read(fd, text, sizeof(text) - 1);

	text[got > 0 ? got : 0] = '\0';
	assert_string_equal(text, expected);
	close(fd);
}

static void test_notify_goes_to_a_path(void **state)
{
	char place[100];
	int fd;

	(void)state;
	snprintf(place, sizeof(place), "%s/notify", th_temp_dir());
	fd = be_systemd(place);
	pd_notify("READY=1\nMAINPID=7");
	assert_told(fd, "READY=1\nMAINPID=7");
}

static void test_notify_goes_to_an_abstract_name(void **state)
{
	char place[100];
	int fd;

	(void)state;
	snprintf(place, sizeof(place), "@poolswitch-test-%d", (int)getpid());
	fd = be_systemd(place);
	pd_notify("STOPPING=1");
	assert_told(fd, "STOPPING=1");
}

static void test_notify_without_systemd_does_nothing(void **state)
{
	(void)state;
	pd_notify("READY=1");
	setenv("NOTIFY_SOCKET", "", 1);
	pd_notify("READY=1");
}

/* The runner counts descriptors. */
static void test_notify_to_a_place_that_is_none_goes_on(void **state)
{
	char place[300];

	(void)state;
	memset(place, 'x', sizeof(place) - 1);
	place[0] = '/';
	place[sizeof(place) - 1] = '\0';
	setenv("NOTIFY_SOCKET", place, 1);
	pd_notify("READY=1");
	setenv("NOTIFY_SOCKET", "vsock:2:1234", 1);
	pd_notify("READY=1");
	setenv("NOTIFY_SOCKET", "/no/such/place", 1);
	pd_notify("READY=1");
}

static const struct th_test tests[] = {
	TH_TEST_SETUP(test_notify_goes_to_a_path, reset, reset),
	TH_TEST_SETUP(test_notify_goes_to_an_abstract_name, reset, reset),
	TH_TEST_SETUP(test_notify_without_systemd_does_nothing, reset, reset),
	TH_TEST_SETUP(test_notify_to_a_place_that_is_none_goes_on, reset,
		      reset),
};

TH_MAIN("notify", tests)
