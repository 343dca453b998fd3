/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The simulated GPU's controls (device/sim/control.h), for tests. */
#ifndef TESTS_SUPPORT_SIM_H
#define TESTS_SUPPORT_SIM_H

void th_sim_fail_nth(const char *symbol, unsigned int nth, int code);
unsigned long th_sim_calls(const char *symbol);
void th_sim_lose_device(void);
void th_sim_reset(void);
void th_sim_die(unsigned int milliseconds);

#endif /* TESTS_SUPPORT_SIM_H */
