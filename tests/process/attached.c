/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * attached NAME MIB: a client of the daemon with one block of so many MiB.
 * Says "ready", stays until its standard input ends, and leaves.
 */
#include "include/poolswitch.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void check(enum ps_status status)
{
	if (status != PS_OK)
		errx(1, "%s", ps_error_detail());
}

int main(int argc, char **argv)
{
	struct ps_attach_config *config;
	struct ps_pool *pool;
	void *block;
	char byte;

	if (argc != 3)
		errx(2, "usage: attached NAME MIB");
	check(ps_attach_config_new(&config));
	check(ps_attach_config_set_name(config, argv[1]));
	ps_attach_config_set_reservation(config, 4 << 20);
	check(ps_attach(config, &pool));
	ps_attach_config_free(config);
	check(ps_mem_alloc(pool, strtoull(argv[2], NULL, 10) << 20, &block));
	printf("ready\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	check(ps_mem_free(pool, block));
	check(ps_detach(pool));
	return 0;
}
