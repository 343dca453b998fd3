/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A program on the pool that poolswitchd keeps. Start the daemon first; on a
 * machine without a GPU with POOLSWITCH_DRIVER=sim, and this program too. */
#include <poolswitch.h>
#include <stdio.h>
#include <stdlib.h>

static void check(enum ps_status status)
{
	if (status == PS_OK)
		return;
	fprintf(stderr, "attached: %s\n", ps_error_detail());
	exit(1);
}

int main(void)
{
	struct ps_attach_config *config;
	uint64_t free_bytes, total;
	struct ps_pool *pool;
	uint32_t word = 36, back;
	void *memory;

	check(ps_attach_config_new(&config));
	check(ps_attach_config_set_name(config, "example"));
	check(ps_attach(config, &pool));
	ps_attach_config_free(config);

	/* Segments are leased when they are needed, and idle ones go back. */
	check(ps_mem_alloc(pool, 3 << 20, &memory));
	check(ps_mem_write(pool, memory, &word, sizeof(word)));
	check(ps_mem_read(pool, &back, memory, sizeof(back)));
	check(ps_mem_get_info(pool, &free_bytes, &total));
	printf("attached to %s: wrote %u, read %u, %llu of %llu bytes free\n",
	       ps_pool_gpu(pool), word, back, (unsigned long long)free_bytes,
	       (unsigned long long)total);
	check(ps_mem_free(pool, memory));
	check(ps_detach(pool));
	return 0;
}
