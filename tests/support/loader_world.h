/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * For the tests of poold/store/loader*.c: a small pool on the simulated GPU, a
 * loader, and models whose bytes are known. To be used in a child.
 */
#ifndef TESTS_SUPPORT_LOADER_WORLD_H
#define TESTS_SUPPORT_LOADER_WORLD_H

#include "poold/store/loader_parts.h"
#include "tests/support/gpu_pool.h"

#include <sys/mman.h>

/* Words behind each other in a model, none twice. */
#define LW_TENSORS_MAX 64u

struct lw {
	struct pd_gpu *gpu;
	struct pd_loader *loader;
	const struct ip_landed_page *page;
	int landed;
};

struct lw_model {
	struct md_tensor tensors[LW_TENSORS_MAX];
	uint32_t segment[SEGMENTS];
	uint8_t *memory;
	struct pd_load_model load;
};

static inline void lw_start_loader(struct lw *world, int board)
{
	th_assert_ok(pd_loader_new(world->gpu, board, world->landed,
				   &world->loader));
}

static inline void lw_make_page(struct lw *world)
{
	void *page;

	world->landed = memfd_create("landed", MFD_CLOEXEC);
	assert_int_equal(ftruncate(world->landed, sizeof(*world->page)), 0);
	page = mmap(NULL, sizeof(*world->page), PROT_READ, MAP_SHARED,
		    world->landed, 0);
	assert_true(page != MAP_FAILED);
	world->page = page;
}

static inline struct lw lw_new(void)
{
	struct pd_pool_record pool;
	struct lw world = { .gpu = create_small(&pool) };

	lw_make_page(&world);
	lw_start_loader(&world, -1);
	return world;
}

static inline void lw_free(struct lw *world)
{
	pd_loader_free(world->loader);
	pd_gpu_close(world->gpu);
	munmap((void *)(uintptr_t)world->page, sizeof(*world->page));
	close(world->landed);
}

/* The word of a model at a byte of it. */
static inline uint32_t lw_word(uint32_t number, uint64_t at)
{
	return (number + 1) * 0x01000193u + (uint32_t)(at / 4);
}

static inline void lw_fill(struct lw_model *model)
{
	const uint64_t bytes = model->load.bytes;

	model->memory = malloc(bytes);
	for (uint64_t at = 0; at < bytes; at += 4)
		*(uint32_t *)(void *)(model->memory + at) =
			lw_word(model->load.model, at);
	model->load.memory = model->memory;
}

/* @count tensors, alike, over so many bytes, from segment @first on and
 * backwards: its segments are not neighbours. */
static inline struct lw_model *lw_model_new(uint32_t number, uint32_t count,
					    uint64_t bytes, uint32_t first)
{
	struct lw_model *model = calloc(1, sizeof(*model));

	assert_true(count <= LW_TENSORS_MAX && bytes % (256 * count) == 0);
	model->load = (struct pd_load_model){
		.model = number,
		.serial = number + 100,
		.tensors = model->tensors,
		.count = count,
		.bytes = bytes,
		.segment = model->segment,
		.segments = (uint32_t)((bytes + SEGMENT - 1) / SEGMENT),
		.plan = PS_PLAN_TENSOR,
	};
	for (uint32_t i = 0; i < count; i++)
		model->tensors[i] = (struct md_tensor){
			.name = "t",
			.offset = bytes / count * i,
			.bytes = bytes / count,
		};
	for (uint32_t i = 0; i < model->load.segments; i++)
		model->segment[i] = first - i;
	lw_fill(model);
	return model;
}

static inline void lw_model_free(struct lw_model *model)
{
	free(model->memory);
	free(model);
}

/* Waits for the next thing done. */
static inline struct pd_load_done lw_done(struct lw *world)
{
	struct pollfd event = { .fd = pd_loader_event(world->loader),
				.events = POLLIN };
	struct pd_load_done done;

	while (!pd_loader_take(world->loader, &done))
		assert_int_equal(poll(&event, 1, 10000), 1);
	return done;
}

static inline struct pd_load_done lw_load(struct lw *world,
					  const struct lw_model *model)
{
	struct pd_load_done done;

	pd_loader_copy(world->loader, &model->load);
	done = lw_done(world);
	assert_int_equal(done.job, PD_LOAD_COPY);
	assert_int_equal(done.model, model->load.model);
	assert_int_equal(done.serial, model->load.serial);
	return done;
}

static inline void lw_reset(struct lw *world, uint32_t model)
{
	struct pd_load_done done;

	pd_loader_reset(world->loader, model, 7);
	done = lw_done(world);
	assert_int_equal(done.job, PD_LOAD_RESET);
	assert_int_equal(done.model, model);
	assert_int_equal(done.serial, 7);
	th_assert_ok(done.status);
}

static inline uint32_t lw_counter(struct lw *world, uint32_t model)
{
	uint32_t counter;

	th_assert_ok(dv_copy_out(pd_gpu_device(world->gpu), &counter,
				 pd_board_counter(world->loader, model),
				 sizeof(counter)));
	return counter;
}

static inline uint32_t lw_landed(const struct lw *world, uint32_t model)
{
	return __atomic_load_n(&world->page->model[model].landed,
			       __ATOMIC_ACQUIRE);
}

static inline uint32_t lw_failed(const struct lw *world, uint32_t model)
{
	return __atomic_load_n(&world->page->model[model].failed,
			       __ATOMIC_ACQUIRE);
}

/* Whether the model's bytes @from to @to are in its segments, all of them. */
static inline bool lw_is_there(struct lw *world, const struct lw_model *model,
			       uint64_t from, uint64_t to)
{
	uint32_t *words = malloc(SEGMENT);
	bool is_there = true;

	for (uint64_t at = from; at < to && is_there; at += 4) {
		if (at == from || at % SEGMENT == 0)
			th_assert_ok(dv_copy_out(
				pd_gpu_device(world->gpu), words,
				pd_gpu_segment_address(
					world->gpu,
					model->segment[at / SEGMENT]),
				SEGMENT));
		is_there = words[at % SEGMENT / 4] ==
			   lw_word(model->load.model, at);
	}
	free(words);
	return is_there;
}

#endif /* TESTS_SUPPORT_LOADER_WORLD_H */
