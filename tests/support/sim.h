/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The simulated GPU's controls (device/sim/control.h), for tests. */
#ifndef TESTS_SUPPORT_SIM_H
#define TESTS_SUPPORT_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

void th_sim_fail_nth(const char *symbol, unsigned int nth, int code);
unsigned long th_sim_calls(const char *symbol);
void th_sim_lose_device(void);
void th_sim_reset(void);
void th_sim_die(unsigned int milliseconds);

/*
 * Forks a child that stands for what a process leaves behind on a real GPU
 * when it has forked: it has the process's GPU memory and files, and writes a
 * growing number to the word at @address until it is killed, also after the
 * process has died. @has_sockets: it keeps those too, or nobody who only
 * looks at sockets learns of it. Returns its pid; it ends by itself after a
 * minute.
 */
pid_t th_sim_haunt(uint64_t address, bool has_sockets);

#endif /* TESTS_SUPPORT_SIM_H */
