/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a failure is reported: one status for all layers, and a sentence for
 * the person who reads it, kept for the calling thread.
 *
 * Invariant: whoever finds the failure calls bs_fail() once; those above
 * return the status unchanged, or add to it with bs_fail_prefix().
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include "include/poolswitch.h"

/*
 * Keeps the text for ps_error_detail() and returns @status, so that a failing
 * function ends in "return bs_fail(PS_..., ...)". The text names the object,
 * the numbers and the remedy. Allocates nothing; keeps errno.
 */
enum ps_status bs_fail(enum ps_status status, const char *format, ...)
	__attribute__((format(printf, 2, 3), cold));

/* The same with strerror(errno) behind the text; PS_SYSTEM. */
enum ps_status bs_fail_errno(const char *format, ...)
	__attribute__((format(printf, 1, 2), cold));

/* Puts more context in front of the text of the failure under way. */
enum ps_status bs_fail_prefix(enum ps_status status, const char *format, ...)
	__attribute__((format(printf, 2, 3), cold));

/* The calling thread's text; "" when nothing failed yet. */
const char *bs_fail_text(void);

#endif /* BASE_STATUS_H */
