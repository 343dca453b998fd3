/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The 64 bytes of a ticket: what it names, and a keyed MAC (BLAKE2b, by
 * libsodium) over that. Pure functions.
 *
 * Invariant: a ticket that pd_ticket_read() accepts was written with this key.
 * That it is still good only the core can say.
 */
#ifndef POOLD_TICKET_H
#define POOLD_TICKET_H

#include "poold/core.h"

void pd_ticket_write(const uint8_t key[PD_KEY_BYTES],
		     const uint8_t pool_id[IP_POOL_ID_BYTES],
		     const struct pd_grant_of *grant,
		     uint8_t ticket_out[IP_TICKET_BYTES]);
/* PS_REFUSED: another magic, version, pool or MAC. The same text for all. */
enum ps_status pd_ticket_read(const uint8_t key[PD_KEY_BYTES],
			      const uint8_t pool_id[IP_POOL_ID_BYTES],
			      const uint8_t ticket[IP_TICKET_BYTES],
			      struct pd_grant_of *grant_out);

#endif /* POOLD_TICKET_H */
