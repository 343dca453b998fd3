/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Work that lasts as long as a test wants, and what the driver was asked.
 *
 *	th_gate_close(stream);   nothing behind this runs
 *	...
 *	th_gate_open();          all of it does
 */
#ifndef TESTS_PRELOAD_GATE_H
#define TESTS_PRELOAD_GATE_H

#include "tests/preload/program.h"

/* A stream that is ordered with no other. */
CUstream th_stream(void);

/* One gate at a time. */
void th_gate_close(CUstream stream);
void th_gate_open(void);

/* Runs @call in a thread with the program's context; whether it returns while
 * the gate is closed, which it is: the gate is opened if it does not. */
bool th_returns_at_once(void (*call)(void *arg), void *arg);

/* How often the driver itself was called, by this process; always 0 with a
 * driver that does not count. */
unsigned long th_driver_calls(const char *symbol);

#endif /* TESTS_PRELOAD_GATE_H */
