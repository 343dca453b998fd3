/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The daemon's log: standard error, a line an event, "poolswitchd agent: text
 * name value name value", lower case; with systemd's priority prefix ("<4>")
 * when JOURNAL_STREAM says that it reads. Never blocks for long and never
 * fails: what cannot be written is counted and said later.
 */
#ifndef POOLD_LOG_H
#define POOLD_LOG_H

#include <stdbool.h>

enum pd_level { PD_ERROR = 3, PD_WARNING = 4, PD_NOTICE = 5, PD_DEBUG = 7 };

/* @half: a literal, "keeper" or "agent"; before this call the lines begin with
 * "poolswitchd:". Looks at JOURNAL_STREAM. @is_verbose: PD_DEBUG too. */
void pd_log_open(const char *half, bool is_verbose);
void pd_log(enum pd_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif /* POOLD_LOG_H */
