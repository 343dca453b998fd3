/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the processes of the attach benchmark say to each other. */
#ifndef BENCH_ATTACH_H
#define BENCH_ATTACH_H

#include "bench/bench.h"

#define BN_ATTACH_TIMES 4

/* A child's answer: one sample of each time, in ns; what they are is the
 * role's, named in attach.c. */
struct bn_attach_answer {
	uint64_t ns[BN_ATTACH_TIMES];
	uint64_t pool_bytes;
	uint64_t segment_bytes;
};

/* For the roles that get bare segments: so many descriptors follow. */
struct bn_attach_segments {
	uint64_t count;
	uint64_t bytes; /* of each */
};

/* The program's exit status when it was started for a role. */
int bn_attach_role(const struct bn_options *options);

#endif /* BENCH_ATTACH_H */
