/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a test steers the simulated GPU from inside a process that uses it.
 * Look the functions up with dlsym() in the library that is loaded.
 */
#ifndef DEVICE_SIM_CONTROL_H
#define DEVICE_SIM_CONTROL_H

/*
 * The @nth next call (1: the very next) of @symbol, a driver function's
 * exported name, returns @code and does nothing. NULL: of any symbol. One
 * fault waits at a time for each symbol and one for any; 0 takes it back.
 */
void simFailNth(const char *symbol, unsigned int nth, int code);

/* Calls of @symbol so far, failed ones too; NULL: of all. */
unsigned long simCalls(const char *symbol);

/* The GPU fails, for every process that uses it: running work ends, and all
 * calls return CUDA_ERROR_ECC_UNCORRECTABLE until simReset(). */
void simLoseDevice(void);

/* Forgets faults, counts, a failed kernel and the loss of the device. */
void simReset(void);

/*
 * Ends this process as SIGKILL ends one that uses a real GPU: its sockets
 * close, its streams run on for @milliseconds, then it is gone.
 */
void simDie(unsigned int milliseconds);

/* The folder that is the GPU. Each process that has called cuInit() keeps a
 * file in it open, as it would one of /dev/nvidia*. */
const char *simFolder(void);

#endif /* DEVICE_SIM_CONTROL_H */
