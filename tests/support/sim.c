/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/sim.h"

#include "tests/support/harness.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Writes the address of a control into a function pointer. */
static void find(const char *name, void *function_out)
{
	void *library = dlopen(getenv("POOLSWITCH_SIM_LIBRARY"), RTLD_NOW);
	void *address = library ? dlsym(library, name) : NULL;

	if (!address)
		fail_msg("no %s in the simulated driver", name);
	memcpy(function_out, &address, sizeof(address));
}

void th_sim_fail_nth(const char *symbol, unsigned int nth, int code)
{
	void (*fail_nth)(const char *, unsigned int, int);

	find("simFailNth", &fail_nth);
	fail_nth(symbol, nth, code);
}

unsigned long th_sim_calls(const char *symbol)
{
	unsigned long (*calls)(const char *);

	find("simCalls", &calls);
	return calls(symbol);
}

void th_sim_lose_device(void)
{
	void (*lose)(void);

	find("simLoseDevice", &lose);
	lose();
}

void th_sim_reset(void)
{
	void (*reset)(void);

	find("simReset", &reset);
	reset();
}

void th_sim_die(unsigned int milliseconds)
{
	void (*die)(unsigned int);

	find("simDie", &die);
	die(milliseconds);
}

/* Only what is safe in the child of a process with threads. */
static void close_sockets(void)
{
	const int end = (int)sysconf(_SC_OPEN_MAX);
	int type;

	for (int fd = 3; fd < end; fd++)
		if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type,
			       &(socklen_t){ sizeof(type) }) == 0)
			close(fd);
}

pid_t th_sim_haunt(uint64_t address, bool has_sockets)
{
	const struct timespec rest = { 0, 100000 };
	volatile uint32_t *word = (volatile uint32_t *)address;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child > 0)
		return child;
	signal(SIGALRM, SIG_DFL);
	alarm(60);
	if (!has_sockets)
		close_sockets();
	for (;;) {
		(*word)++;
		nanosleep(&rest, NULL);
	}
}
