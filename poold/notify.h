/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tells systemd how the daemon is: one datagram to the socket that
 * NOTIFY_SOCKET names. Without it nothing happens; what fails is logged at
 * most, since no client depends on it.
 */
#ifndef POOLD_NOTIFY_H
#define POOLD_NOTIFY_H

/* @text: assignments, a line each: "READY=1\nMAINPID=7". */
void pd_notify(const char *text);

#endif /* POOLD_NOTIFY_H */
