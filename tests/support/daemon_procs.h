/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The processes of a daemon under test. For tests/support/daemon.c only. */
#ifndef TESTS_SUPPORT_DAEMON_PROCS_H
#define TESTS_SUPPORT_DAEMON_PROCS_H

/* Ends every poolswitchd that descends from this process, stopped first so
 * that none starts another, and reaps them. */
void th_procs_end(void);

/* Reaps those that have ended and are this process's children. */
void th_procs_reap(void);

#endif /* TESTS_SUPPORT_DAEMON_PROCS_H */
