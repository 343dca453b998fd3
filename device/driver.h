/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The CUDA driver as a table of functions. The library is opened once a
 * process and never closed: threads of its own run in it.
 *
 * POOLSWITCH_DRIVER chooses: unset or "real" is the system's libcuda.so.1,
 * "sim" the simulated one. One never stands in for the other silently.
 */
#ifndef DEVICE_DRIVER_H
#define DEVICE_DRIVER_H

#include "device/cuda_abi.h"
#include "include/poolswitch.h"

struct dv_driver {
#define SYMBOL(need, type, name, params) type(*name) params;
#include "device/symbols.def"
#undef SYMBOL
	int version;       /* cuDriverGetVersion: 13000 is CUDA 13.0 */
	bool simulated;    /* by device/sim/ */
	const char *files; /* dv_file_prefix() */
};

/*
 * The table, loaded by the first call that succeeds; it lives as long as the
 * process. PS_NO_DRIVER, PS_UNSUPPORTED (WSL2, a driver older than 525).
 *
 * POOLSWITCH_WITHOUT names optional functions, separated by commas, that are
 * treated as if the driver lacked them: for tests.
 */
enum ps_status dv_driver_get(const struct dv_driver **driver_out);

/*
 * The same from @library, which somebody else opened and keeps open: @find is
 * dlsym() or does what it does. Whether it is the simulated one is seen from
 * the library; POOLSWITCH_DRIVER is not asked. Any thread may call it and no
 * lock is held around @find; the first table that is complete is everybody's.
 * PS_UNSUPPORTED, PS_OUT_OF_MEMORY.
 */
enum ps_status dv_driver_use(void *library,
			     void *(*find)(void *library, const char *name));

/* The table when it is loaded already, else NULL. */
const struct dv_driver *dv_driver_loaded(void);

#endif /* DEVICE_DRIVER_H */
