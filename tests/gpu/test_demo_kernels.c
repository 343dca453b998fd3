/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The demo's kernels and both models, against a naive reference on the host
 * that shares no code with them; and the whole demo. On the simulated GPU and
 * on a real one. Each test computes in a child: CUDA starts there.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "demo/data.h"
#include "demo/net.h"
#include "tests/support/pools.h"

#define LIMIT 1e-4f

static struct dm_gpu gpu;
static struct ps_pool *pool;

static const char *data_folder(void)
{
	static char folder[4096];

	snprintf(folder, sizeof(folder), "%s",
		 th_program("../../demo/poolswitch-demo"));
	*strrchr(folder, '/') = '\0';
	return folder;
}

static void begin(void)
{
	pool = th_reserve();
	th_assert_ok(dm_gpu_open(&gpu, ps_pool_gpu(pool), data_folder()));
	th_assert_ok(ps_insert_region(pool, PS_REGION_COMPUTATION,
				      PS_ANY_STREAM, 0));
	th_assert_ok(
		ps_insert_region(pool, PS_REGION_PARAMETER, PS_ANY_STREAM, 0));
}

static void end(void)
{
	th_assert_ok(ps_mem_drop_stream(pool, gpu.stream));
	th_assert_ok(ps_clear_shared(pool));
	ps_pool_close(pool);
	dm_gpu_close(&gpu);
}

/* Numbers between -1 and 1, the same in each run. */
static float *make_numbers(size_t count)
{
	float *numbers = malloc(count * sizeof(float));
	uint32_t state = 12345;

	assert_non_null(numbers);
	for (size_t i = 0; i < count; i++) {
		state = state * 1664525u + 1013904223u;
		numbers[i] = (float)(state >> 8) / (float)(1u << 23) - 1;
	}
	return numbers;
}

/* A copy in the pool. */
static CUdeviceptr put(const void *data, size_t bytes)
{
	void *block;

	th_assert_ok(ps_mem_alloc(pool, bytes, &block));
	th_assert_ok(ps_mem_write(pool, block, data, bytes));
	return (CUdeviceptr)(uintptr_t)block;
}

static void take(CUdeviceptr address)
{
	th_assert_ok(ps_mem_free(pool, (void *)(uintptr_t)address));
}

/* Launches one kernel with x, w, b (w and b may be NULL) and three numbers;
 * returns its @count outputs. */
static float *compute(enum dm_kernel kernel, const float *x, size_t x_count,
		      const float *w, size_t w_count, const float *b,
		      size_t b_count, uint32_t count, uint32_t numbers[3])
{
	float *y = calloc(count, sizeof(float));
	CUdeviceptr at[4] = { put(x, x_count * 4), 0, 0, put(y, count * 4u) };
	void *arguments[8];
	int n = 0;

	arguments[n++] = &at[0];
	if (w != NULL) {
		at[1] = put(w, w_count * 4);
		at[2] = put(b, b_count * 4);
		arguments[n++] = &at[1];
		arguments[n++] = &at[2];
	}
	arguments[n++] = &at[3];
	arguments[n++] = &count;
	for (int i = 0; i < 3 && n < 8; i++)
		arguments[n++] = &numbers[i];
	th_assert_ok(dm_gpu_launch(&gpu, kernel, count, arguments));
	th_assert_ok(dm_gpu_copy_out(&gpu, y, at[3], count * 4u));
	for (int i = 0; i < 4; i++)
		take(at[i]);
	return y;
}

/* Frees both. */
static void compare(float *got, float *wanted, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!(fabsf(got[i] - wanted[i]) <= LIMIT))
			fail_msg("output %zu of %zu: %g, %g wanted", i, count,
				 (double)got[i], (double)wanted[i]);
	free(got);
	free(wanted);
}

/* ---- the reference ---- */

static float *naive_dense(const float *x, const float *w, const float *b,
			  size_t images, size_t n_in, size_t n_out, bool relu)
{
	float *y = calloc(images * n_out, sizeof(float));

	for (size_t image = 0; image < images; image++) {
		float *row = &y[image * n_out];

		for (size_t in = 0; in < n_in; in++)
			for (size_t out = 0; out < n_out; out++)
				row[out] += x[image * n_in + in] *
					    w[in * n_out + out];
		for (size_t out = 0; out < n_out; out++) {
			row[out] += b[out];
			if (relu)
				row[out] = fmaxf(row[out], 0);
		}
	}
	return y;
}

/* Adds one input plane's part to an output plane, weight by weight. */
static void naive_plane(const float *x, const float *w, long size, float *y)
{
	for (long k = 0; k < 9; k++) {
		long dy = k / 3 - 1;
		long dx = k % 3 - 1;

		for (long row = 0; row < size; row++)
			for (long column = 0; column < size; column++)
				if (row + dy >= 0 && row + dy < size &&
				    column + dx >= 0 && column + dx < size)
					y[row * size + column] +=
						w[k] * x[(row + dy) * size +
							 column + dx];
	}
}

static float *naive_conv(const float *x, const float *w, const float *b,
			 size_t images, size_t n_in, size_t n_out, size_t size)
{
	size_t area = size * size;
	float *y = calloc(images * n_out * area, sizeof(float));

	for (size_t image = 0; image < images; image++) {
		for (size_t out = 0; out < n_out; out++) {
			float *plane = &y[(image * n_out + out) * area];

			for (size_t in = 0; in < n_in; in++)
				naive_plane(&x[(image * n_in + in) * area],
					    &w[(out * n_in + in) * 9],
					    (long)size, plane);
			for (size_t i = 0; i < area; i++)
				plane[i] = fmaxf(plane[i] + b[out], 0);
		}
	}
	return y;
}

static float *naive_pool(const float *x, size_t planes, size_t size)
{
	size_t half = size / 2;
	float *y = malloc(planes * half * half * sizeof(float));

	for (size_t i = 0; i < planes * half * half; i++)
		y[i] = -INFINITY;
	for (size_t plane = 0; plane < planes; plane++) {
		for (size_t i = 0; i < size * size; i++) {
			size_t to = (plane * half + i / size / 2) * half +
				    i % size / 2;

			y[to] = fmaxf(y[to], x[plane * size * size + i]);
		}
	}
	return y;
}

/* ---- kernels ---- */

static void play_dense(void *relu)
{
	enum { IMAGES = 5, IN = 70, OUT = 131 };
	float *numbers = make_numbers(IMAGES * IN + IN * OUT + OUT);
	const float *w = numbers + IMAGES * IN;
	const float *b = w + IN * OUT;
	float *got;
	float *wanted;

	begin();
	got = compute(DM_DENSE, numbers, IMAGES * IN, w, IN * OUT, b, OUT,
		      IMAGES * OUT, (uint32_t[]){ IN, OUT, relu != NULL });
	wanted = naive_dense(numbers, w, b, IMAGES, IN, OUT, relu != NULL);
	compare(got, wanted, IMAGES * OUT);
	free(numbers);
	end();
}

static void play_conv(void *unused)
{
	enum { IMAGES = 3, IN = 4, OUT = 7, SIZE = 8, AREA = SIZE * SIZE };
	float *numbers = make_numbers(IMAGES * IN * AREA + IN * OUT * 9 + OUT);
	const float *w = numbers + IMAGES * IN * AREA;
	const float *b = w + IN * OUT * 9;
	float *got;
	float *wanted;

	(void)unused;
	begin();
	got = compute(DM_CONV3X3, numbers, IMAGES * IN * AREA, w, IN * OUT * 9,
		      b, OUT, IMAGES * OUT * AREA,
		      (uint32_t[]){ IN, OUT, SIZE });
	wanted = naive_conv(numbers, w, b, IMAGES, IN, OUT, SIZE);
	compare(got, wanted, IMAGES * OUT * AREA);
	free(numbers);
	end();
}

static void play_pool(void *unused)
{
	enum { PLANES = 11, SIZE = 6, HALF = SIZE / 2 };
	float *numbers = make_numbers(PLANES * SIZE * SIZE);
	float *got;
	float *wanted;

	(void)unused;
	begin();
	got = compute(DM_MAXPOOL2, numbers, PLANES * SIZE * SIZE, NULL, 0, NULL,
		      0, PLANES * HALF * HALF, (uint32_t[]){ SIZE, 0, 0 });
	wanted = naive_pool(numbers, PLANES, SIZE);
	compare(got, wanted, PLANES * HALF * HALF);
	free(numbers);
	end();
}

static void play_argmax(void *unused)
{
	const float rows[3][4] = { { -3, -1, -2, -4 },
				   { 0, 5, 5, 1 },
				   { 1, 2, 3, 4 } };
	const uint32_t wanted[3] = { 1, 1, 3 };
	float *got;

	(void)unused;
	begin();
	got = compute(DM_ARGMAX, rows[0], 12, NULL, 0, NULL, 0, 3,
		      (uint32_t[]){ 4, 0, 0 });
	assert_memory_equal(got, wanted, sizeof(wanted));
	free(got);
	end();
}

/* ---- models ---- */

/* A layer's weight or bias, on the host. */
static float *tensor_of(const struct dm_model *model, const char *layer,
			const char *kind)
{
	const struct md_tensor *tensor;
	char name[64];
	float *data;

	snprintf(name, sizeof(name), "%s.%s", layer, kind);
	tensor = md_file_find(&model->file, name);
	assert_non_null(tensor);
	data = malloc(tensor->bytes);
	th_assert_ok(dm_model_read(
		model, (size_t)(tensor - model->file.tensors), data));
	return data;
}

/* One dense layer of a model; frees x. */
static float *dense_layer(const struct dm_model *model, const char *layer,
			  float *x, size_t n[3], bool relu)
{
	float *w = tensor_of(model, layer, "weight");
	float *b = tensor_of(model, layer, "bias");
	float *y;

	y = naive_dense(x, w, b, n[0], n[1], n[2], relu);
	free(w);
	free(b);
	free(x);
	return y;
}

/* Convolution and pool; frees x. */
static float *conv_layer(const struct dm_model *model, const char *layer,
			 float *x, size_t n[4])
{
	float *w = tensor_of(model, layer, "weight");
	float *b = tensor_of(model, layer, "bias");
	float *pooled;
	float *y;

	y = naive_conv(x, w, b, n[0], n[1], n[2], n[3]);
	pooled = naive_pool(y, n[0] * n[2], n[3]);
	free(w);
	free(b);
	free(x);
	free(y);
	return pooled;
}

static float *naive_mlp(const struct dm_model *model, float *x, size_t images)
{
	x = dense_layer(model, "fc1", x, (size_t[]){ images, 64, 256 }, true);
	x = dense_layer(model, "fc2", x, (size_t[]){ images, 256, 128 }, true);
	return dense_layer(model, "fc3", x, (size_t[]){ images, 128, 10 },
			   false);
}

static float *naive_cnn(const struct dm_model *model, float *x, size_t images)
{
	x = conv_layer(model, "conv1", x, (size_t[]){ images, 1, 16, 8 });
	x = conv_layer(model, "conv2", x, (size_t[]){ images, 16, 32, 4 });
	x = dense_layer(model, "fc1", x, (size_t[]){ images, 128, 64 }, true);
	return dense_layer(model, "fc2", x, (size_t[]){ images, 64, 10 },
			   false);
}

/* Puts the model into the pool and plans it. */
static CUdeviceptr put_model(uint32_t index, const struct dm_model *model,
			     struct dm_net *net)
{
	char *bytes = calloc(1, model->layout.bytes);
	struct dm_manifest manifest;
	CUdeviceptr base;

	for (size_t i = 0; i < model->layout.count; i++)
		th_assert_ok(dm_model_read(
			model, i, bytes + model->layout.tensors[i].offset));
	base = put(bytes, model->layout.bytes);
	free(bytes);
	th_assert_ok(dm_manifest_make(index, 0, &model->layout, &manifest));
	th_assert_ok(dm_net_plan(&manifest, base, net));
	return base;
}

/* All digits through a model on the GPU. */
static void classify(uint32_t index, const struct dm_model *model,
		     const struct dm_digits *digits, uint32_t *labels)
{
	struct dm_runner runner = { .gpu = &gpu, .pool = pool };
	struct dm_net net;
	CUdeviceptr base;

	begin();
	base = put_model(index, model, &net);
	th_assert_ok(dm_net_run(&runner, &net, digits->pixels, digits->count,
				labels));
	dm_samples_free(&runner.alloc_ns);
	take(base);
	end();
}

static void assert_best(const float *scores, const uint32_t *labels,
			uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		for (uint32_t k = 0; k < 10; k++)
			assert_true(scores[i * 10 + labels[i]] >=
				    scores[i * 10 + k]);
}

static void play_model(void *number)
{
	uint32_t index = *(uint32_t *)number;
	struct dm_digits digits;
	struct dm_model model;
	uint32_t *labels;
	float *scores;

	th_assert_ok(dm_digits_load(data_folder(), &digits));
	th_assert_ok(
		dm_model_open(data_folder(), dm_model_names[index], &model));
	labels = calloc(digits.count, sizeof(*labels));
	classify(index, &model, &digits, labels);
	scores = index == 0 ? naive_mlp(&model, digits.pixels, digits.count)
			    : naive_cnn(&model, digits.pixels, digits.count);
	digits.pixels = NULL;
	assert_best(scores, labels, digits.count);
	free(scores);
	free(labels);
	dm_model_close(&model);
	dm_digits_free(&digits);
}

/* ---- */

static void play(void (*scene)(void *argument), void *argument)
{
	assert_int_equal(th_wait(th_fork(scene, argument)), 0);
}

static void test_demo_kernels_dense_is_as_reference(void **state)
{
	(void)state;
	play(play_dense, NULL);
}

static void test_demo_kernels_dense_with_relu_is_as_reference(void **state)
{
	(void)state;
	play(play_dense, &gpu);
}

static void test_demo_kernels_conv_is_as_reference(void **state)
{
	(void)state;
	play(play_conv, NULL);
}

static void test_demo_kernels_pool_is_as_reference(void **state)
{
	(void)state;
	play(play_pool, NULL);
}

static void test_demo_kernels_argmax_takes_first_of_equals(void **state)
{
	(void)state;
	play(play_argmax, NULL);
}

static void test_demo_kernels_mlp_is_as_reference(void **state)
{
	(void)state;
	play(play_model, &(uint32_t){ 0 });
}

static void test_demo_kernels_cnn_is_as_reference(void **state)
{
	(void)state;
	play(play_model, &(uint32_t){ 1 });
}

static void test_demo_kernels_whole_demo_is_content(void **state)
{
	const char *const argv[] = { th_program("../../demo/poolswitch-demo"),
				     NULL };

	(void)state;
	assert_int_equal(th_wait(th_spawn(argv, -1)), 0);
}

static const struct th_test tests[] = {
	TH_TEST(test_demo_kernels_dense_is_as_reference),
	TH_TEST(test_demo_kernels_dense_with_relu_is_as_reference),
	TH_TEST(test_demo_kernels_conv_is_as_reference),
	TH_TEST(test_demo_kernels_pool_is_as_reference),
	TH_TEST(test_demo_kernels_argmax_takes_first_of_equals),
	TH_TEST(test_demo_kernels_mlp_is_as_reference),
	TH_TEST(test_demo_kernels_cnn_is_as_reference),
	TH_TEST(test_demo_kernels_whole_demo_is_content),
};

TH_GPU_MAIN("demo_kernels", tests, NULL)
