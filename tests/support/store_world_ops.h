/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the store asks the pretend world for: the two files of it share this. */
#ifndef TESTS_SUPPORT_STORE_WORLD_OPS_H
#define TESTS_SUPPORT_STORE_WORLD_OPS_H

#include "tests/support/store_world.h"

struct pd_store_ops ts_ops(void);
struct pd_model_record ts_record(const struct ts_world *world, uint32_t model);
uint32_t ts_readers(const struct pd_model_record *record);
/* By the journal, in the order of the addresses; how many. */
uint32_t ts_lies_in(const struct ts_world *world, uint32_t model,
		    uint32_t *segments_out);
/* What a model's files are: as ts_add() was told. */
void ts_files(const struct ts_world *world, uint32_t model,
	      unsigned long long *bytes_out, unsigned int *hash_out);
/* Whether its weights are in its segments. */
bool ts_is_whole(const struct ts_world *world, const struct ts_job *job);
/* Nobody can use another model in that segment. */
void ts_expect_not_read(struct ts_world *world, uint32_t n, uint32_t model);
/* By what the world has. */
uint64_t ts_host_bytes(const struct ts_world *world);

#endif /* TESTS_SUPPORT_STORE_WORLD_OPS_H */
