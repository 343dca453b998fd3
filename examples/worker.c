/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A worker: receives the pool, reads the weights that the controller put
 * there, and allocates its computation memory from the range it is told.
 * The argument is the number of an open socket. */
#include <poolswitch.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void check(enum ps_status status)
{
	if (status == PS_OK)
		return;
	fprintf(stderr, "worker: %s\n", ps_error_detail());
	exit(1);
}

int main(int argc, char **argv)
{
	int controller = argc == 2 ? atoi(argv[1]) : -1;
	float weights[8], sum = 0;
	uint64_t share[2]; /* offset and size */
	struct ps_pool *pool;
	void *memory, *at;

	check(ps_recv_shared(controller, 0, PS_TIMEOUT_DEFAULT, &pool));
	if (read(controller, share, sizeof(share)) != sizeof(share))
		return 1;

	/* The weights are at the same address in every process ... */
	at = ps_pool_pointer(pool, 0);
	check(ps_pool_map(pool, 0, ps_pool_segment_size(pool)));
	check(ps_mem_read(pool, weights, at, sizeof(weights)));
	for (int i = 0; i < 8; i++)
		sum += weights[i];

	/* ... and cannot be written here. Computation memory can. */
	if (ps_mem_write(pool, at, weights, sizeof(weights)) != PS_READ_ONLY)
		return 1;
	check(ps_insert_shared(pool, share[1], share[0], PS_ANY_STREAM, 0));
	check(ps_mem_alloc(pool, sizeof(weights), &memory));
	check(ps_mem_write(pool, memory, weights, sizeof(weights)));
	printf("worker %d: weights at %p sum up to %.0f, memory at %p\n",
	       (int)getpid(), at, (double)sum, memory);
	check(ps_mem_free(pool, memory));
	check(ps_clear_shared(pool));
	ps_pool_close(pool);
	return 0;
}
