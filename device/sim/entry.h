/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The way into the simulated driver. Every exported function begins with
 * ENTER or ENTER_CONTEXT, which counts the call and can make it fail.
 */
#ifndef DEVICE_SIM_ENTRY_H
#define DEVICE_SIM_ENTRY_H

#include "device/cuda_abi.h"

#include <stdbool.h>

#define SIM_EXPORT __attribute__((visibility("default")))

#define SYMBOL(need, type, name, params) SIM_EXPORT type name params;
#include "device/symbols.def"
#undef SYMBOL

enum sim_symbol {
#define SYMBOL(need, type, name, params) SIM_##name,
#include "device/symbols.def"
#undef SYMBOL
	SIM_SYMBOLS
};

enum sim_condition {
	SIM_ALWAYS,      /* before cuInit() too */
	SIM_INITIALIZED, /* after cuInit(), in the process that called it */
	SIM_IN_CONTEXT   /* with a live current context without an error */
};

CUresult sim_enter(enum sim_symbol symbol, enum sim_condition condition);

#define ENTER_IF(name, condition)                                              \
	do {                                                                   \
		CUresult entered_ = sim_enter(SIM_##name, condition);          \
		if (entered_ != CUDA_SUCCESS)                                  \
			return entered_;                                       \
	} while (0)
#define ENTER(name) ENTER_IF(name, SIM_INITIALIZED)
#define ENTER_CONTEXT(name) ENTER_IF(name, SIM_IN_CONTEXT)

bool sim_is_initialized(void); /* and not in a forked child */
/* Why calls that need a context fail, if they do. */
CUresult sim_current_state(void);

/* A number with an optional K, M, G or T; @otherwise when it is not set. */
uint64_t sim_setting(const char *name, uint64_t otherwise);
/* "16G"; what cannot be read is 0. */
uint64_t sim_number(const char *text);

#endif /* DEVICE_SIM_ENTRY_H */
