/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/ticket.h"

#include "base/status.h"

#include <sodium.h>
#include <string.h>

/* docs/protocol.md shows these places. */
enum {
	AT_MAGIC = 0,
	AT_OWNER = 8,
	AT_EPOCHS = 16,
	AT_RUNS = 20,
	AT_OFFSET = 40,
	AT_BYTES = 45,
	AT_MAC = 50,
};

/* As much of it as there is room for. */
#define MAC_BYTES (IP_TICKET_BYTES - AT_MAC)
#define PLACE_BYTES 5
#define RUN_BYTES 4
#define NO_RUN UINT32_MAX

_Static_assert(MAC_BYTES <= crypto_generichash_BYTES &&
		       PD_KEY_BYTES >= crypto_generichash_KEYBYTES_MIN &&
		       PD_KEY_BYTES <= crypto_generichash_KEYBYTES_MAX,
	       "BLAKE2b's sizes");
_Static_assert(AT_RUNS + RUN_BYTES * IP_TICKET_RUNS == AT_OFFSET,
	       "room for the runs");

/* Another form would have another one. */
_Static_assert(sizeof(PS_TICKET_MAGIC) - 1 == AT_OWNER, "the magic's place");

static void put(uint8_t *at, size_t bytes, uint64_t value)
{
	for (size_t i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *at, size_t bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << (8 * i);
	return value;
}

/* sodium_init() chooses faster code and prepares random numbers: neither is
 * needed for 64 bytes. */
static void sign(const uint8_t key[PD_KEY_BYTES],
		 const uint8_t pool_id[IP_POOL_ID_BYTES],
		 const uint8_t ticket[IP_TICKET_BYTES], uint8_t mac[MAC_BYTES])
{
	uint8_t signed_bytes[AT_MAC + IP_POOL_ID_BYTES];
	uint8_t whole[crypto_generichash_BYTES];

	memcpy(signed_bytes, ticket, AT_MAC);
	memcpy(signed_bytes + AT_MAC, pool_id, IP_POOL_ID_BYTES);
	crypto_generichash(whole, sizeof(whole), signed_bytes,
			   sizeof(signed_bytes), key, PD_KEY_BYTES);
	memcpy(mac, whole, MAC_BYTES);
}

void pd_ticket_write(const uint8_t key[PD_KEY_BYTES],
		     const uint8_t pool_id[IP_POOL_ID_BYTES],
		     const struct pd_grant_of *grant,
		     uint8_t ticket_out[IP_TICKET_BYTES])
{
	memcpy(ticket_out + AT_MAGIC, PS_TICKET_MAGIC, AT_OWNER);
	put(ticket_out + AT_OWNER, 8, grant->owner);
	put(ticket_out + AT_EPOCHS, 4, grant->epochs);
	for (uint32_t i = 0; i < IP_TICKET_RUNS; i++) {
		const struct ip_run *run = &grant->run[i];
		uint8_t *at = ticket_out + AT_RUNS + RUN_BYTES * i;

		put(at, RUN_BYTES, NO_RUN);
		if (i < grant->run_count) {
			put(at, 2, run->first);
			put(at + 2, 2, run->count - 1);
		}
	}
	put(ticket_out + AT_OFFSET, PLACE_BYTES,
	    grant->offset / IP_TICKET_GRANULE);
	put(ticket_out + AT_BYTES, PLACE_BYTES,
	    grant->bytes / IP_TICKET_GRANULE);
	sign(key, pool_id, ticket_out, ticket_out + AT_MAC);
}

/* pre: we wrote it, so there is nothing to check. */
static void read_fields(const uint8_t ticket[IP_TICKET_BYTES],
			struct pd_grant_of *grant)
{
	memset(grant, 0, sizeof(*grant));
	grant->owner = get(ticket + AT_OWNER, 8);
	grant->epochs = (uint32_t)get(ticket + AT_EPOCHS, 4);
	for (uint32_t i = 0; i < IP_TICKET_RUNS; i++) {
		const uint8_t *at = ticket + AT_RUNS + RUN_BYTES * i;

		if (get(at, RUN_BYTES) == NO_RUN)
			break;
		grant->run[i].first = (uint32_t)get(at, 2);
		grant->run[i].count = (uint32_t)get(at + 2, 2) + 1;
		grant->run_count++;
	}
	grant->offset =
		get(ticket + AT_OFFSET, PLACE_BYTES) * IP_TICKET_GRANULE;
	grant->bytes = get(ticket + AT_BYTES, PLACE_BYTES) * IP_TICKET_GRANULE;
}

enum ps_status pd_ticket_read(const uint8_t key[PD_KEY_BYTES],
			      const uint8_t pool_id[IP_POOL_ID_BYTES],
			      const uint8_t ticket[IP_TICKET_BYTES],
			      struct pd_grant_of *grant_out)
{
	uint8_t mac[MAC_BYTES];

	sign(key, pool_id, ticket, mac);
	/* In a time that says nothing of where they differ. */
	if (memcmp(ticket + AT_MAGIC, PS_TICKET_MAGIC, AT_OWNER) != 0 ||
	    sodium_memcmp(ticket + AT_MAC, mac, MAC_BYTES) != 0)
		return bs_fail(PS_REFUSED, "the ticket was not issued by this "
					   "daemon for its pool: it is damaged "
					   "or of another pool");
	read_fields(ticket, grant_out);
	return PS_OK;
}
