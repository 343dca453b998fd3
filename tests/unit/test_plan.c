/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* How tensors are grouped to travel: the arithmetic against a simulation, the
 * best plan against all that there are, and the fixed ones. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "model/plan.h"
#include "tests/support/harness.h"

#define MOST 1000u
#define COUNT(list) ((uint32_t)(sizeof(list) / sizeof((list)[0])))

struct model {
	struct md_tensor tensors[MOST];
	uint32_t compute_ns[MOST];
	uint32_t count;
	struct md_wire wire;
};

static uint64_t random_state = 1;

/* xorshift64*. pre: limit is not 0. */
static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (random_state * 0x2545f4914f6cdd1du >> 16) % limit;
}

/* Sizes of all scales, some empty; computations and a wire of all kinds. */
static void make_model(struct model *model, uint32_t count)
{
	uint64_t at = 0;

	model->count = count;
	model->wire.bytes_per_ns = 1 + (double)random_below(60);
	model->wire.group_ns = (double)random_below(5000);
	for (uint32_t i = 0; i < count; i++) {
		struct md_tensor *tensor = &model->tensors[i];
		uint64_t scale = UINT64_C(1) << random_below(22);

		*tensor = (struct md_tensor){ .name = "", .offset = at };
		tensor->bytes = random_below(8) > 0 ? random_below(scale) : 0;
		at = (at + tensor->bytes + 255) / 256 * 256;
		scale = UINT64_C(1) << random_below(17);
		model->compute_ns[i] = (uint32_t)random_below(scale);
	}
}

static struct md_plan plan_of(const struct model *model,
			      enum ps_model_plan kind, uint32_t groups,
			      const uint32_t *compute_ns)
{
	struct md_plan plan;

	th_assert_ok(md_plan_make(kind, groups, model->tensors, model->count,
				  compute_ns, &model->wire, &plan));
	return plan;
}

/* The same arithmetic as it happens: groups land, one after the other; each
 * is computed when it has landed and the one before is done. */
static double simulate(const struct model *model, const uint32_t *end,
		       uint32_t groups, double haste)
{
	double done = 0;
	uint32_t at = 0;

	for (uint32_t k = 0; k < groups; k++) {
		const struct md_tensor *last = &model->tensors[end[k] - 1];
		double landed = (double)(last->offset + last->bytes) /
					model->wire.bytes_per_ns +
				(k + 1) * model->wire.group_ns;

		done = landed > done ? landed : done;
		for (; at < end[k]; at++)
			done += model->compute_ns[at] * haste;
	}
	return done;
}

static void assert_near(double a, double b)
{
	if (fabs(a - b) > 1e-9 * (fabs(a) + fabs(b)))
		fail_msg("%.17g is not %.17g", a, b);
}

/* ---- the arithmetic ---- */

static void test_plan_finish_is_what_happens(void **state)
{
	static struct model model;

	(void)state;
	for (unsigned int run = 0; run < 200; run++) {
		struct md_plan plan;

		make_model(&model, 1 + (uint32_t)random_below(300));
		plan = plan_of(&model, PS_PLAN_GROUPS,
			       1 + (uint32_t)random_below(model.count),
			       model.compute_ns);
		assert_near(plan.finish_ns,
			    simulate(&model, plan.end, plan.groups, 1));
		assert_near(plan.finish_ns,
			    md_plan_finish(model.tensors, model.count,
					   model.compute_ns, &model.wire,
					   plan.end, plan.groups));
		md_plan_done(&plan);
	}
}

/* Every part of what comes out, by hand: 100 bytes at 2 bytes a nanosecond,
 * 10 ns a group; 7 ns to compute, then 20. */
static void test_plan_finish_by_hand(void **state)
{
	const struct md_tensor two[] = {
		{ .name = "a", .offset = 256, .bytes = 100 },
		{ .name = "b", .offset = 512, .bytes = 44 },
	};
	const struct md_wire wire = { 2, 10 };
	const uint32_t compute_ns[] = { 7, 20 };
	const uint32_t one[] = { 2 }, each[] = { 1, 2 };

	(void)state;
	assert_near(md_plan_finish(two, 2, compute_ns, &wire, one, 1),
		    10 + 150 + 27);
	assert_near(md_plan_finish(two, 2, compute_ns, &wire, each, 2),
		    20 + 150 + 20);
	assert_near(md_plan_finish(two, 2, NULL, &wire, one, 1),
		    10 + 150 + 50 + 22);
}

/* ---- the best ---- */

/* Every way to group so many tensors is a number of count - 1 bits. */
static uint32_t spread(uint32_t way, uint32_t count, uint32_t *end)
{
	uint32_t groups = 0;

	for (uint32_t i = 1; i < count; i++)
		if (way >> (i - 1) & 1)
			end[groups++] = i;
	end[groups++] = count;
	return groups;
}

/* The least finish of all ways; of those that finish within @within, the least
 * one in haste. */
static double least_of_all(const struct model *model, double within,
			   double haste)
{
	double best = INFINITY;
	uint32_t end[16];

	for (uint32_t way = 0; way < 1u << (model->count - 1); way++) {
		uint32_t groups = spread(way, model->count, end);
		double finish = simulate(model, end, groups, haste);

		if (finish < best && simulate(model, end, groups, 1) <= within)
			best = finish;
	}
	return best;
}

static void test_plan_best_is_the_best_of_all(void **state)
{
	static struct model model;

	(void)state;
	for (unsigned int run = 0; run < 300 * th_soak_factor(); run++) {
		struct md_plan plan;

		make_model(&model, 1 + (uint32_t)random_below(10));
		plan = plan_of(&model, PS_PLAN_BEST, 0, model.compute_ns);
		assert_near(plan.finish_ns, least_of_all(&model, INFINITY, 1));
		md_plan_done(&plan);
	}
}

static void test_plan_best_in_haste_is_the_best_of_these(void **state)
{
	static struct model model;

	(void)state;
	for (unsigned int run = 0; run < 300 * th_soak_factor(); run++) {
		struct md_plan plan;
		double within;

		make_model(&model, 1 + (uint32_t)random_below(10));
		plan = plan_of(&model, PS_PLAN_BEST, 0, model.compute_ns);
		within = plan.finish_ns * (1 + 1e-9);
		assert_near(simulate(&model, plan.end, plan.groups, 0.5),
			    least_of_all(&model, within, 0.5));
		md_plan_done(&plan);
	}
}

static void assert_no_worse(const struct model *model, double finish,
			    enum ps_model_plan kind, uint32_t groups,
			    const uint32_t *compute_ns)
{
	struct md_plan plan = plan_of(model, kind, groups, compute_ns);

	if (finish > plan.finish_ns)
		fail_msg("%.17g ns is later than the %.17g ns of plan %d, %u "
			 "groups",
			 finish, plan.finish_ns, (int)kind, groups);
	md_plan_done(&plan);
}

/* With and without measured computations. */
static void test_plan_best_is_never_worse_than_a_fixed_one(void **state)
{
	static struct model model;

	(void)state;
	for (unsigned int run = 0; run < 200 * th_soak_factor(); run++) {
		const uint32_t *known = run % 2 ? model.compute_ns : NULL;
		struct md_plan plan;

		make_model(&model, 1 + (uint32_t)random_below(MOST));
		plan = plan_of(&model, PS_PLAN_BEST, 0, known);
		assert_no_worse(&model, plan.finish_ns, PS_PLAN_TENSOR, 0,
				known);
		assert_no_worse(&model, plan.finish_ns, PS_PLAN_LAYER, 0,
				known);
		assert_no_worse(&model, plan.finish_ns, PS_PLAN_ONE, 0, known);
		for (uint32_t groups = 1; groups < 300; groups *= 2)
			assert_no_worse(&model, plan.finish_ns, PS_PLAN_GROUPS,
					groups, known);
		md_plan_done(&plan);
	}
}

/* ---- every plan ---- */

static void assert_covers(const struct model *model, struct md_plan *plan)
{
	assert_true(plan->groups >= 1 && plan->groups <= model->count);
	for (uint32_t i = 1; i < plan->groups; i++)
		assert_true(plan->end[i] > plan->end[i - 1]);
	assert_true(plan->end[0] > 0);
	assert_int_equal(plan->end[plan->groups - 1], model->count);
	md_plan_done(plan);
}

static void test_plan_of_any_kind_covers_all(void **state)
{
	static struct model model;

	(void)state;
	for (unsigned int run = 0; run < 400; run++) {
		enum ps_model_plan kind = (enum ps_model_plan)(run % 5);
		struct md_plan plan;

		make_model(&model, 1 + (uint32_t)random_below(MOST));
		plan = plan_of(&model, kind,
			       kind != PS_PLAN_GROUPS
				       ? 0
				       : 1 + (uint32_t)random_below(2 * MOST),
			       run % 2 ? model.compute_ns : NULL);
		assert_covers(&model, &plan);
	}
}

/* Nothing costs anything: no wire, no computation. */
static void test_plan_of_empty_tensors_finishes_at_once(void **state)
{
	static struct model model;
	struct md_plan plan;

	(void)state;
	memset(&model, 0, sizeof(model));
	model.count = 5;
	model.wire = (struct md_wire){ 1, 0 };
	plan = plan_of(&model, PS_PLAN_BEST, 0, NULL);
	assert_true(plan.finish_ns == 0);
	assert_covers(&model, &plan);
}

static void test_plan_of_no_tensors_has_no_groups(void **state)
{
	const struct md_wire wire = { 1, 1 };
	struct md_plan plan;

	(void)state;
	for (int kind = 0; kind <= (int)PS_PLAN_GROUPS; kind++) {
		uint32_t groups = kind == (int)PS_PLAN_GROUPS;

		th_assert_ok(md_plan_make((enum ps_model_plan)kind, groups,
					  NULL, 0, NULL, &wire, &plan));
		assert_int_equal(plan.groups, 0);
		assert_true(plan.finish_ns == 0);
		md_plan_done(&plan);
	}
	md_plan_done(&plan);
	md_plan_done(NULL);
}

/* A load that goes on in the middle has its first tensor anywhere. */
static void test_plan_does_not_depend_on_where_it_begins(void **state)
{
	static struct model model;
	struct md_plan here, there;

	(void)state;
	make_model(&model, 100);
	here = plan_of(&model, PS_PLAN_BEST, 0, NULL);
	for (uint32_t i = 0; i < model.count; i++)
		model.tensors[i].offset += UINT64_C(1) << 40;
	there = plan_of(&model, PS_PLAN_BEST, 0, NULL);
	assert_int_equal(here.groups, there.groups);
	assert_memory_equal(here.end, there.end,
			    here.groups * sizeof(here.end[0]));
	md_plan_done(&here);
	md_plan_done(&there);
}

/* ---- fixed ---- */

static const struct md_tensor named[] = {
	{ .name = "stem", .offset = 0, .bytes = 256 },
	{ .name = "bias", .offset = 256, .bytes = 256 },
	{ .name = "a.0.weight", .offset = 512, .bytes = 1024 },
	{ .name = "a.0.bias", .offset = 1536, .bytes = 256 },
	{ .name = "a.1.weight", .offset = 1792, .bytes = 1024 },
	{ .name = "a.10.weight", .offset = 2816, .bytes = 1024 },
	{ .name = "a.0.late", .offset = 3840, .bytes = 256 },
};

static void assert_ends(enum ps_model_plan kind, uint32_t groups,
			const uint32_t *end, uint32_t count)
{
	const struct md_wire wire = { 1, 1 };
	struct md_plan plan;

	th_assert_ok(md_plan_make(kind, groups, named, COUNT(named), NULL,
				  &wire, &plan));
	assert_int_equal(plan.groups, count);
	assert_memory_equal(plan.end, end, count * sizeof(end[0]));
	md_plan_done(&plan);
}

static void test_plan_by_tensor_has_a_group_for_each(void **state)
{
	const uint32_t end[] = { 1, 2, 3, 4, 5, 6, 7 };

	(void)state;
	assert_ends(PS_PLAN_TENSOR, 0, end, COUNT(end));
}

static void test_plan_by_layer_keeps_neighbours_together(void **state)
{
	const uint32_t end[] = { 2, 4, 5, 6, 7 };

	(void)state;
	assert_ends(PS_PLAN_LAYER, 0, end, COUNT(end));
}

static void test_plan_of_one_has_one_group(void **state)
{
	const uint32_t end[] = { 7 };

	(void)state;
	assert_ends(PS_PLAN_ONE, 0, end, COUNT(end));
}

/* 4,096 bytes: shares of 1,365. */
static void test_plan_of_three_groups_is_alike_in_bytes(void **state)
{
	const uint32_t end[] = { 3, 5, 7 };

	(void)state;
	assert_ends(PS_PLAN_GROUPS, 3, end, COUNT(end));
}

static void test_plan_of_too_many_groups_has_one_for_each(void **state)
{
	const uint32_t end[] = { 1, 2, 3, 4, 5, 6, 7 };

	(void)state;
	assert_ends(PS_PLAN_GROUPS, 100, end, COUNT(end));
}

/* Large ones first would leave the last groups none. */
static void test_plan_of_many_groups_leaves_each_a_tensor(void **state)
{
	const uint32_t end[] = { 2, 3, 4, 5, 6, 7 };

	(void)state;
	assert_ends(PS_PLAN_GROUPS, 6, end, COUNT(end));
}

/* ---- wrong ---- */

static void refuse(enum ps_model_plan kind, uint32_t groups,
		   struct md_wire wire, const char *words)
{
	struct md_plan plan = { .groups = 12345 };

	th_assert_status(md_plan_make(kind, groups, named, COUNT(named), NULL,
				      &wire, &plan),
			 PS_INVALID_ARGUMENT);
	assert_non_null(strstr(bs_fail_text(), words));
	assert_int_equal(plan.groups, 12345);
}

static void test_plan_unknown_is_refused(void **state)
{
	const struct md_wire wire = { 1, 1 };

	(void)state;
	refuse((enum ps_model_plan)5, 0, wire, "no plan number 5");
	refuse((enum ps_model_plan) - 1, 0, wire, "no plan number -1");
}

static void test_plan_with_a_wrong_number_of_groups_is_refused(void **state)
{
	const struct md_wire wire = { 1, 1 };

	(void)state;
	refuse(PS_PLAN_GROUPS, 0, wire, "0 groups");
	refuse(PS_PLAN_BEST, 2, wire, "2 groups");
}

static void test_plan_for_no_wire_is_refused(void **state)
{
	const struct md_wire wires[] = {
		{ 0, 1 },   { -1, 1 }, { NAN, 1 },      { INFINITY, 1 },
		{ 1, NAN }, { 1, -1 }, { 1, INFINITY },
	};

	(void)state;
	for (uint32_t i = 0; i < COUNT(wires); i++)
		refuse(PS_PLAN_BEST, 0, wires[i], "no speed of a wire");
}

static const struct th_test tests[] = {
	TH_TEST(test_plan_finish_is_what_happens),
	TH_TEST(test_plan_finish_by_hand),
	TH_TEST(test_plan_best_is_the_best_of_all),
	TH_TEST(test_plan_best_in_haste_is_the_best_of_these),
	TH_TEST(test_plan_best_is_never_worse_than_a_fixed_one),
	TH_TEST(test_plan_of_any_kind_covers_all),
	TH_TEST(test_plan_of_empty_tensors_finishes_at_once),
	TH_TEST(test_plan_of_no_tensors_has_no_groups),
	TH_TEST(test_plan_does_not_depend_on_where_it_begins),
	TH_TEST(test_plan_by_tensor_has_a_group_for_each),
	TH_TEST(test_plan_by_layer_keeps_neighbours_together),
	TH_TEST(test_plan_of_one_has_one_group),
	TH_TEST(test_plan_of_three_groups_is_alike_in_bytes),
	TH_TEST(test_plan_of_too_many_groups_has_one_for_each),
	TH_TEST(test_plan_of_many_groups_leaves_each_a_tensor),
	TH_TEST(test_plan_unknown_is_refused),
	TH_TEST(test_plan_with_a_wrong_number_of_groups_is_refused),
	TH_TEST(test_plan_for_no_wire_is_refused),
};

TH_MAIN("plan", tests)
