/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Random sequences of all that can happen to the store of models, against a
 * world that knows by itself what lies where and who reads it; the agent dies
 * at any step. After each action the validator runs; at the end of each
 * sequence everybody leaves, and every model can still be loaded whole.
 */
#include "poold/store/store.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "tests/support/harness.h"
#include "tests/support/store_world.h"

#define SEGMENTS 12u
#define BUDGET (24 * TS_UNIT)
#define NAMES 10u
#define SEQUENCES 20u
#define STEPS 300u

static struct ts_world world;
static uint64_t random_state;
/* In all sequences; else they show nothing. */
static uint64_t placed;
static uint64_t quick; /* without a message */
static uint64_t restarts;
static uint64_t kills;
static uint64_t evictions;
static uint64_t failures;
static uint64_t remakes;

static uint32_t roll(uint32_t limit)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * 0x2545f4914f6cdd1du >> 33) % limit);
}

static void compare(void)
{
	assert_string_equal(world.wrong, "");
	th_assert_ok(pd_store_check(world.store));
}

/* ---- the agent can die before each change of the journal ---- */

void __real_pd_journal_put_model(struct pd_journal *journal, uint32_t model,
				 const struct pd_model_record *record);
void __wrap_pd_journal_put_model(struct pd_journal *journal, uint32_t model,
				 const struct pd_model_record *record);
void __real_pd_journal_put_segment(struct pd_journal *journal, uint32_t number,
				   const struct pd_segment_record *record);
void __wrap_pd_journal_put_segment(struct pd_journal *journal, uint32_t number,
				   const struct pd_segment_record *record);

void __wrap_pd_journal_put_model(struct pd_journal *journal, uint32_t model,
				 const struct pd_model_record *record)
{
	ts_step(&world);
	__real_pd_journal_put_model(journal, model, record);
}

void __wrap_pd_journal_put_segment(struct pd_journal *journal, uint32_t number,
				   const struct pd_segment_record *record)
{
	ts_step(&world);
	__real_pd_journal_put_segment(journal, number, record);
}

/* ---- what can happen ---- */

static const char *name_of(uint32_t number)
{
	static char name[16];

	snprintf(name, sizeof(name), "model-%u", number);
	return name;
}

/* A model's files are always the same, as a rule. */
static void do_add(void)
{
	uint32_t number = roll(NAMES);
	uint64_t bytes = (number % 5 + 1) * TS_UNIT - number;
	uint32_t flags = number % 3 == 0 ? PS_MODEL_PUBLIC : 0;
	uint8_t hash = (uint8_t)(number + (roll(20) == 0));

	(void)ts_add(&world, name_of(number), 1 + number % 2, flags, bytes,
		     hash);
}

static uint32_t open_adds(void)
{
	struct pd_model_view view;
	uint32_t i, count = 0;

	for (i = 0; i < TS_MODELS; i++)
		count += pd_store_model(world.store, i, &view) &&
			 !view.record.is_known;
	return count;
}

static uint32_t any_attached(uint32_t client)
{
	uint32_t i, model = roll(TS_MODELS);

	for (i = 0; i < TS_MODELS; i++)
		if (world.client[client]
			    .view[(model + i) % TS_MODELS]
			    .is_attached)
			return (model + i) % TS_MODELS;
	return TS_NOBODY;
}

static bool waits_for(uint32_t client, uint32_t model)
{
	uint32_t i;

	for (i = 0; i < TS_ASKERS; i++)
		if (world.asked[i].is_open && world.asked[i].client == client &&
		    world.asked[i].model == model)
			return true;
	return false;
}

static void do_use(uint32_t client)
{
	uint32_t model = any_attached(client), i;
	if (model == TS_NOBODY || waits_for(client, model) ||
	    world.client[client].view[model].word == IP_USE_BUSY)
		return;
	/* As a rule it uses one at a time. */
	for (i = 0; i < TS_MODELS && roll(40) > 0; i++)
		ts_release(&world, client, i);
	if (ts_begin(&world, client, model)) {
		quick++;
		return;
	}
	(void)ts_use(&world, client, model, 90 + roll(20), roll(3000));
}

static void do_client(uint32_t client)
{
	uint32_t what = roll(100), model;

	if (!world.client[client].has_joined) {
		if (roll(4) > 0)
			ts_rejoin(&world, client);
		else
			ts_die(&world, client);
	} else if (what < 15) {
		(void)!ts_attach(&world, client, name_of(roll(NAMES)), &model);
	} else if (what < 65) {
		do_use(client);
	} else if (what < 92) {
		for (model = 0; model < TS_MODELS && roll(20) > 0; model++)
			ts_release(&world, client, model);
	} else if (what < 98) {
		model = any_attached(client);
		if (model != TS_NOBODY && !waits_for(client, model))
			ts_detach(&world, client, model);
	} else {
		ts_die(&world, client);
		world.client[client].uid = 1 + roll(2);
	}
}

static void do_order(void)
{
	static const uint32_t orders[] = {
		PS_MODEL_LOAD,  PS_MODEL_LOAD,   PS_MODEL_PREFETCH,
		PS_MODEL_EVICT, PS_MODEL_PIN,    PS_MODEL_UNPIN,
		PS_MODEL_UNPIN, PS_MODEL_REMOVE,
	};

	(void)ts_order(&world, roll(3), orders[roll(8)], name_of(roll(NAMES)),
		       roll(2000));
}

static void do_work(void)
{
	bool is_bad = roll(12) == 0;

	switch (roll(4)) {
	case 0:
		(void)ts_read_one(&world, is_bad ? PS_SYSTEM : PS_OK);
		break;
	case 1:
		remakes += ts_remake_one(&world, is_bad ? PS_AGAIN : PS_OK);
		break;
	default:
		(void)ts_gpu_one(&world, is_bad ? PS_DRIVER : PS_OK);
		break;
	}
}

static void do_give_away(void)
{
	if (roll(60) == 0)
		(void)pd_store_give_away(world.store, roll(2));
}

static void one_step(void)
{
	uint32_t what = roll(100);

	if (what < 4 && open_adds() < 4)
		do_add();
	else if (what < 50)
		do_client(roll(TS_CLIENTS));
	else if (what < 54)
		do_order();
	else if (what < 94)
		do_work();
	else if (what < 98)
		ts_wait(&world, roll(800));
	else if (what < 99)
		world.slips = roll(3);
	else
		do_give_away();
}

/* ---- the agent's deaths ---- */

static void count_up(void)
{
	struct pd_model_view view;
	uint32_t i;

	for (i = 0; i < TS_MODELS; i++) {
		if (!pd_store_model(world.store, i, &view))
			continue;
		evictions += view.evictions;
		failures += view.failures;
	}
}

static void restart(void)
{
	uint32_t i;

	restarts++;
	count_up();
	assert_true(ts_restart(&world, roll(4), roll(2) == 0));
	compare();
	for (i = 0; i < TS_CLIENTS; i++)
		if (roll(8) > 0)
			ts_rejoin(&world, i);
	compare();
}

/* Does one step, in which the agent may die. */
static void step_or_die(void)
{
	world.kill_at = 0;
	if (roll(300) == 0) {
		restart();
	} else if (roll(30) == 0) {
		world.kill_at = world.ops + 1 + roll(9);
		if (setjmp(world.killed) == 0) {
			one_step();
		} else {
			kills++;
			restart();
		}
	} else {
		one_step();
	}
	world.kill_at = 0;
}

/* ---- the end of a sequence ---- */

static void everybody_leaves(void)
{
	uint32_t c;

	for (c = 0; c < TS_CLIENTS; c++)
		ts_die(&world, c);
	ts_work(&world);
	ts_wait(&world, 60000);
	ts_work(&world);
	ts_wait(&world, 60000);
	compare();
}

/* Whatever happened before. */
static void each_can_be_loaded(void)
{
	struct pd_model_view view;
	uint64_t tag;
	uint32_t i;

	for (i = 0; i < TS_MODELS; i++) {
		if (!pd_store_model(world.store, i, &view))
			continue;
		assert_true(view.record.is_known);
		(void)ts_order(&world, 0, PS_MODEL_UNPIN, view.record.name, 0);
	}
	for (i = 0; i < TS_MODELS; i++) {
		if (!pd_store_model(world.store, i, &view))
			continue;
		tag = ts_order(&world, 0, PS_MODEL_LOAD, view.record.name,
			       1000);
		ts_work(&world);
		assert_int_equal(ts_answer(&world, tag), TS_DONE);
		assert_int_equal(ts_state(&world, i), PD_MODEL_RESIDENT);
		compare();
	}
}

static void each_can_be_removed(void)
{
	struct pd_model_view view;
	uint64_t tag;
	uint32_t i;

	for (i = 0; i < TS_MODELS; i++) {
		if (!pd_store_model(world.store, i, &view))
			continue;
		tag = ts_order(&world, 0, PS_MODEL_REMOVE, view.record.name,
			       1000);
		ts_work(&world);
		assert_int_equal(ts_answer(&world, tag), TS_DONE);
		assert_int_equal(world.model[i].counter, 0);
		compare();
	}
	assert_int_equal(world.armed_ms, 0);
}

/* All models there, and everybody attached to what is shown to him. */
static void begin(void)
{
	uint32_t i, client, model;

	for (i = 0; i < 4 * NAMES; i++) {
		do_add();
		ts_work(&world);
	}
	for (i = 0; i < NAMES; i++)
		for (client = 0; client < TS_CLIENTS; client++)
			(void)!ts_attach(&world, client, name_of(i), &model);
}

static void run_sequence(uint64_t seed)
{
	uint32_t i;

	random_state = seed * 0x9e3779b97f4a7c15u | 1;
	assert_true(ts_open(&world, SEGMENTS, BUDGET));
	for (i = 0; i < TS_CLIENTS; i++)
		world.client[i].uid = 1 + i % 2;
	begin();
	for (i = 0; i < STEPS; i++) {
		step_or_die();
		compare();
	}
	count_up();
	placed += world.places;
	everybody_leaves();
	each_can_be_loaded();
	each_can_be_removed();
	ts_close(&world);
}

static void test_store_random_sequences_agree_with_a_model(void **state)
{
	uint64_t sequences = (uint64_t)SEQUENCES * th_soak_factor(), seed;

	(void)state;
	for (seed = 1; seed <= sequences; seed++) {
		print_message("seed %llu\n", (unsigned long long)seed);
		run_sequence(seed);
	}
	print_message("%llu placed, %llu without asking, "
		      "%llu evictions, %llu failures, %llu remakes, "
		      "%llu restarts, %llu of them in a step\n",
		      (unsigned long long)placed, (unsigned long long)quick,
		      (unsigned long long)evictions,
		      (unsigned long long)failures, (unsigned long long)remakes,
		      (unsigned long long)restarts, (unsigned long long)kills);
	assert_true(placed > sequences * 10);
	assert_true(quick > sequences);
	assert_true(evictions > sequences * 3);
	assert_true(failures > sequences);
	assert_true(remakes > sequences);
	assert_true(kills > sequences / 2);
}

static const struct th_test tests[] = {
	TH_TEST(test_store_random_sequences_agree_with_a_model),
};

TH_MAIN("store_model", tests)
