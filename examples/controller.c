/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A controller: reserves the GPU's memory, puts weights into it once, and
 * shares it with two workers. The argument is the path of the worker. */
#include <poolswitch.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(enum ps_status status)
{
	if (status == PS_OK)
		return;
	fprintf(stderr, "controller: %s\n", ps_error_detail());
	exit(1);
}

/* Starts a worker and returns our end of a socket to it. */
static int start_worker(const char *path)
{
	char number[16];
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0)
		exit(1);
	snprintf(number, sizeof(number), "%d", ends[1]);
	if (fork() == 0)
		_exit(execl(path, path, number, (char *)NULL));
	close(ends[1]);
	return ends[0];
}

int main(int argc, char **argv)
{
	const float weights[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	uint64_t at, size, share[2]; /* a worker's offset and size */
	struct ps_pool *pool;
	int failed = argc != 2, status;

	check(ps_alloc_shared(NULL, &pool));
	check(ps_pool_map(pool, 0, ps_pool_segment_size(pool)));
	check(ps_mem_write(pool, ps_pool_pointer(pool, 0), weights, 32));
	check(ps_pool_region(pool, PS_REGION_COMPUTATION, &at, &size));
	for (int i = 0; i < 2 && !failed; i++) {
		int worker = start_worker(argv[1]);

		share[1] = size / 2 & ~(ps_pool_segment_size(pool) - 1);
		share[0] = at + (i == 0 ? 0 : share[1]);
		check(ps_send_shared(pool, worker, 0, PS_TIMEOUT_DEFAULT));
		failed = write(worker, share, sizeof(share)) < 0;
		close(worker);
	}
	while (wait(&status) > 0)
		failed |= status != 0;
	ps_pool_close(pool);
	return failed;
}
