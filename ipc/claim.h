/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One pool on a GPU: who reserves it holds an abstract AF_UNIX name made from
 * the GPU's UUID. The kernel gives the name up when the holder closes it or
 * dies, however it dies, so no stale claim can be left behind.
 *
 * The name is one of a network namespace: containers with networks of their
 * own do not see each other's claims. A child that the holder forked keeps
 * the claim too, until it closes it, executes another program or ends.
 */
#ifndef IPC_CLAIM_H
#define IPC_CLAIM_H

#include "include/poolswitch.h"

struct ip_claim;

/*
 * @gpu_uuid: "GPU-..."; printable, at most 47 characters.
 * PS_ALREADY_RESERVED with the holder's pid; PS_FD_LIMIT; PS_HOST_MEMORY;
 * PS_INVALID_ARGUMENT; PS_SYSTEM.
 */
enum ps_status ip_claim_take(const char *gpu_uuid, struct ip_claim **claim_out);
void ip_claim_free(struct ip_claim *claim); /* NULL: ok */
/* The claim as a descriptor, the caller's: it lasts until that and all that
 * were made of it are closed. Frees the rest. */
int ip_claim_give(struct ip_claim *claim);

#endif /* IPC_CLAIM_H */
