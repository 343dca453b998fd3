/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/preload/program.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

struct dv_driver th_cu;

static CUcontext primary;
static int tester = -1; /* the socket to the test */

void th_program_fail(const char *file, int line, const char *what, int code)
{
	fprintf(stderr, "%s:%d: %s", file, line, what);
	if (code != 0)
		fprintf(stderr, ": %d", code);
	fprintf(stderr, "\n");
	_exit(1);
}

int th_program_main(const struct th_scenario *scenarios, size_t count, int argc,
		    char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc >= 3)
		tester = atoi(argv[2]);
	for (size_t i = 0; argc >= 2 && i < count; i++) {
		if (strcmp(scenarios[i].name, argv[1]) != 0)
			continue;
		scenarios[i].run();
		return 0;
	}
	fprintf(stderr, "%s: no scenario %s\n", argv[0],
		argc >= 2 ? argv[1] : "given");
	return 2;
}

void *th_cuda_load(void)
{
	void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	void *address;

	if (!library)
		th_program_fail(__FILE__, __LINE__, dlerror(), 0);
#define SYMBOL(need, type, name, params)                                       \
	address = dlsym(library, #name);                                       \
	memcpy(&th_cu.name, &address, sizeof(address));
#include "device/symbols.def"
#undef SYMBOL
	return library;
}

void th_cuda_open(void)
{
	th_cuda_load();
	TH_CU(th_cu.cuInit(0));
	TH_CU(th_cu.cuDevicePrimaryCtxRetain(&primary, 0));
	th_cuda_enter();
}

void th_cuda_enter(void)
{
	TH_CU(th_cu.cuCtxSetCurrent(primary));
}

void th_program_pause(void)
{
	char byte;

	TH_CHECK(send(tester, "!", 1, MSG_NOSIGNAL) == 1);
	TH_CHECK(recv(tester, &byte, 1, 0) == 1);
}
