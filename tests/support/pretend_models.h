/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The models of the pretend daemon (tests/support/pretend_daemon.h). */
#ifndef TESTS_SUPPORT_PRETEND_MODELS_H
#define TESTS_SUPPORT_PRETEND_MODELS_H

#include "ipc/conn.h"
#include "tests/support/pretend_daemon.h"

extern bool (*const th_pretend_lies)(enum th_lie lie);

/* A request about models, on @asks; without @answers it is not answered. */
void th_models_hear(const struct ip_message *msg, struct ip_conn *asks,
		    struct ps_pool *pool, bool answers);
/* An order about models, over @events. */
uint64_t th_models_obey(const struct th_order_message *order,
			struct ip_conn *events);

#endif /* TESTS_SUPPORT_PRETEND_MODELS_H */
