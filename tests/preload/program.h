/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * For the programs under the preload: ordinary programs of the CUDA driver,
 * which know nothing of a pool. Each has several scenarios and is started with
 * the name of one:
 *
 *	static void allocates(void)
 *	{
 *		th_cuda_open();
 *		TH_CU(th_cu.cuMemAlloc_v2(&address, 4096));
 *	}
 *	TH_PROGRAM({ "allocates", allocates }, ...)
 *
 * What fails says where on standard error and ends the program with status 1.
 */
#ifndef TESTS_PRELOAD_PROGRAM_H
#define TESTS_PRELOAD_PROGRAM_H

#include "device/driver.h"

struct th_scenario {
	const char *name;
	void (*run)(void);
};

#define TH_PROGRAM(...)                                                        \
	int main(int argc, char **argv)                                        \
	{                                                                      \
		static const struct th_scenario scenarios[] = { __VA_ARGS__ }; \
		return th_program_main(                                        \
			scenarios, sizeof(scenarios) / sizeof(scenarios[0]),   \
			argc, argv);                                           \
	}
int th_program_main(const struct th_scenario *scenarios, size_t count, int argc,
		    char **argv);

#define TH_CHECK(condition)                                                    \
	do {                                                                   \
		if (!(condition))                                              \
			th_program_fail(__FILE__, __LINE__, #condition, 0);    \
	} while (0)
#define TH_CU_IS(call, expected)                                               \
	do {                                                                   \
		CUresult th_got = (call);                                      \
		if (th_got != (expected))                                      \
			th_program_fail(__FILE__, __LINE__, #call,             \
					(int)th_got);                          \
	} while (0)
#define TH_CU(call) TH_CU_IS(call, CUDA_SUCCESS)
void th_program_fail(const char *file, int line, const char *what, int code)
	__attribute__((noreturn));

/* ---- the driver, as a program finds it ---- */

/* By dlopen() and dlsym(), as the runtime library does. A function that the
 * driver lacks is NULL. */
extern struct dv_driver th_cu;

/* Fills th_cu, initialises the driver, and makes the first GPU's primary
 * context current. */
void th_cuda_open(void);
/* Fills th_cu only; returns the driver's handle. */
void *th_cuda_load(void);
/* For another thread of the program. */
void th_cuda_enter(void);

/* ---- the test that started it ---- */

/* Says so and waits until the test says go on (th_preload_go()). */
void th_program_pause(void);

#endif /* TESTS_PRELOAD_PROGRAM_H */
