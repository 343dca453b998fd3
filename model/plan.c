/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The finish of a plan is the latest, over its groups, of when the group has
 * landed and all from its first tensor on has still to be computed: a group
 * that is waited for is followed by nothing but computation.
 *
 * So a plan finishes in time T when each group ends where this sum is at most
 * T. For a T the plan is found by making every group as large as it may be:
 * who is further with as many groups has less left to compute, and may go
 * further again. The best T is found by halving.
 */
#include "model/plan.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

/* How fast everything might be computed instead. */
#define HASTE 0.5

/* Of a list of tensors, in nanoseconds. */
struct sums {
	uint32_t count;
	double group;    /* what a group costs */
	double *landed;  /* of each tensor: of the bytes up to its end */
	double *pending; /* the computation of it and all behind it */
};

/* ---- the arithmetic ---- */

static double travel(const struct md_tensor *tensor, const struct md_wire *wire)
{
	return (double)tensor->bytes / wire->bytes_per_ns;
}

/* All bytes up to the end of one. */
static double travel_to(const struct md_tensor *tensors, uint32_t last,
			const struct md_wire *wire)
{
	uint64_t end = tensors[last].offset + tensors[last].bytes;

	return (double)(end - tensors[0].offset) / wire->bytes_per_ns;
}

static double compute(const struct md_tensor *tensors, uint32_t number,
		      const uint32_t *compute_ns, const struct md_wire *wire)
{
	return compute_ns != NULL ? (double)compute_ns[number]
				  : travel(&tensors[number], wire);
}

double md_plan_finish(const struct md_tensor *tensors, uint32_t count,
		      const uint32_t *compute_ns, const struct md_wire *wire,
		      const uint32_t *end, uint32_t groups)
{
	double pending = 0, finish = 0;
	uint32_t at = count;

	for (uint32_t k = groups; k > 0; k--) {
		uint32_t start = k > 1 ? end[k - 2] : 0;
		double this;

		while (at > start)
			pending += compute(tensors, --at, compute_ns, wire);
		this = k * wire->group_ns + pending +
		       travel_to(tensors, end[k - 1] - 1, wire);
		finish = this > finish ? this : finish;
	}
	return finish;
}

static enum ps_status init_sums(const struct md_tensor *tensors, uint32_t count,
				const uint32_t *compute_ns,
				const struct md_wire *wire,
				struct sums *sums_out)
{
	struct sums sums = { .count = count, .group = wire->group_ns };
	double rest = 0;

	sums.landed = calloc(2 * (size_t)count + 1, sizeof(sums.landed[0]));
	if (sums.landed == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for a plan of %u tensors",
			       count);
	sums.pending = sums.landed + count;
	for (uint32_t i = count; i-- > 0;) {
		rest += compute(tensors, i, compute_ns, wire);
		sums.pending[i] = rest;
		sums.landed[i] = travel_to(tensors, i, wire);
	}
	*sums_out = sums;
	return PS_OK;
}

static void free_sums(struct sums *sums)
{
	free(sums->landed);
}

/* When all would be computed if nothing but this group were waited for. @k
 * counts from 1; @haste: of the computation. */
static double finish_of(const struct sums *sums, uint32_t k, uint32_t start,
			uint32_t last, double haste)
{
	return k * sums->group + sums->pending[start] * haste +
	       sums->landed[last];
}

static double finish_of_all(const struct sums *sums, const uint32_t *end,
			    uint32_t groups, double haste)
{
	uint32_t start = 0;
	double finish = 0;

	for (uint32_t k = 1; k <= groups; k++) {
		double this = finish_of(sums, k, start, end[k - 1] - 1, haste);

		finish = this > finish ? this : finish;
		start = end[k - 1];
	}
	return finish;
}

/* ---- the best ---- */

/* A plan that finishes within both; false: there is none. */
static bool find_within(const struct sums *sums, double finish, double hasty,
			uint32_t *end, uint32_t *groups_out)
{
	uint32_t groups = 0;
	uint32_t start = 0;

	while (start < sums->count) {
		uint32_t next = start;

		groups++;
		while (next < sums->count &&
		       finish_of(sums, groups, start, next, 1) <= finish &&
		       finish_of(sums, groups, start, next, HASTE) <= hasty)
			next++;
		if (next == start)
			return false;
		end[groups - 1] = next;
		start = next;
	}
	*groups_out = groups;
	return true;
}

/*
 * The least for which there is a plan, of @haste's two, while the other one
 * stays at most at @other. pre: there is one with @most.
 */
static double least(const struct sums *sums, double most, double other,
		    double haste, uint32_t *end)
{
	double none = 0;

	for (;;) {
		double middle = none + (most - none) / 2;
		bool is_hasty = haste < 1;
		uint32_t groups;

		/* A millionth of it is less than can be measured. */
		if (most - none <= most * 1e-6)
			return most;
		if (find_within(sums, is_hasty ? other : middle,
				is_hasty ? middle : other, end, &groups))
			most = finish_of_all(sums, end, groups, haste);
		else
			none = middle;
	}
}

static void plan_best(const struct sums *sums, struct md_plan *plan)
{
	double finish, hasty;
	bool is_found;

	finish = finish_of(sums, 1, 0, sums->count - 1, 1);
	finish = least(sums, finish, INFINITY, 1, plan->end);
	is_found =
		find_within(sums, finish, INFINITY, plan->end, &plan->groups);
	hasty = finish_of_all(sums, plan->end, plan->groups, HASTE);
	hasty = least(sums, hasty, finish, HASTE, plan->end);
	is_found = is_found &&
		   find_within(sums, finish, hasty, plan->end, &plan->groups);
	assert(is_found);
	(void)is_found;
}

/* ---- fixed ---- */

/* Up to its last point: the module that it is of. */
static size_t module_length(const char *name)
{
	const char *point = strrchr(name, '.');

	return point != NULL ? (size_t)(point - name) : 0;
}

static bool is_same_module(const char *a, const char *b)
{
	size_t length = module_length(a);

	return length == module_length(b) && memcmp(a, b, length) == 0;
}

static void plan_layers(const struct md_tensor *tensors, uint32_t count,
			struct md_plan *plan)
{
	for (uint32_t i = 1; i <= count; i++)
		if (i == count ||
		    !is_same_module(tensors[i - 1].name, tensors[i].name))
			plan->end[plan->groups++] = i;
}

/* Each ends where it is nearest to its share; a tensor each at least. */
static void plan_alike(const struct sums *sums, uint32_t groups,
		       struct md_plan *plan)
{
	double all = sums->landed[sums->count - 1];
	uint32_t end = 0;

	for (uint32_t k = 1; k < groups; k++) {
		uint32_t most = sums->count - (groups - k);
		double share = all / groups * k;

		for (end++; end < most; end++)
			if (sums->landed[end] - share >
			    share - sums->landed[end - 1])
				break;
		plan->end[k - 1] = end;
	}
	plan->end[groups - 1] = sums->count;
	plan->groups = groups;
}

/* ---- any ---- */

static enum ps_status check(enum ps_model_plan kind, uint32_t groups,
			    const struct md_wire *wire)
{
	bool is_counted = kind == PS_PLAN_GROUPS;

	if ((unsigned int)kind > PS_PLAN_GROUPS)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "there is no plan number %d", (int)kind);
	if (is_counted != (groups > 0))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%u groups: a number of 1 or more goes with "
			       "PS_PLAN_GROUPS, 0 with any other plan",
			       groups);
	if (!(wire->bytes_per_ns > 0) || !(wire->group_ns >= 0) ||
	    !isfinite(wire->bytes_per_ns) || !isfinite(wire->group_ns))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%g bytes a nanosecond and %g ns a group are "
			       "no speed of a wire",
			       wire->bytes_per_ns, wire->group_ns);
	return PS_OK;
}

/* pre: there are tensors, and room for an end of each. */
static void group(enum ps_model_plan kind, uint32_t groups,
		  const struct md_tensor *tensors, const struct sums *sums,
		  struct md_plan *plan)
{
	switch (kind) {
	case PS_PLAN_BEST:
		plan_best(sums, plan);
		break;
	case PS_PLAN_LAYER:
		plan_layers(tensors, sums->count, plan);
		break;
	case PS_PLAN_TENSOR:
		plan_alike(sums, sums->count, plan);
		break;
	case PS_PLAN_ONE:
		plan_alike(sums, 1, plan);
		break;
	case PS_PLAN_GROUPS:
		plan_alike(sums, groups < sums->count ? groups : sums->count,
			   plan);
		break;
	}
}

enum ps_status md_plan_make(enum ps_model_plan kind, uint32_t groups,
			    const struct md_tensor *tensors, uint32_t count,
			    const uint32_t *compute_ns,
			    const struct md_wire *wire,
			    struct md_plan *plan_out)
{
	struct md_plan plan = { 0 };
	enum ps_status status = check(kind, groups, wire);
	struct sums sums = { 0 };

	if (status != PS_OK)
		return status;
	status = init_sums(tensors, count, compute_ns, wire, &sums);
	if (status != PS_OK)
		return status;
	plan.end = calloc((size_t)count + 1, sizeof(plan.end[0]));
	if (plan.end == NULL) {
		status = bs_fail(PS_HOST_MEMORY,
				 "no host memory for a plan of %u tensors",
				 count);
		goto done_sums;
	}
	if (count > 0)
		group(kind, groups, tensors, &sums, &plan);
	plan.finish_ns = finish_of_all(&sums, plan.end, plan.groups, 1);
	*plan_out = plan;
done_sums:
	free_sums(&sums);
	return status;
}

void md_plan_done(struct md_plan *plan)
{
	if (plan == NULL)
		return;
	free(plan->end);
	*plan = (struct md_plan){ 0 };
}
