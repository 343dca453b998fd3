/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/models.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SPOILT 0xa5
#define ENTRY_BYTES 160u /* of a tensor in the header, at most */
#define PIECE_WORDS 4096u
#define REST_MS 2

/* ---- contents ---- */

static size_t weight_of(const struct th_model *model, uint32_t tensor)
{
	return 1 + (tensor * 5u + model->seed) % 7u;
}

size_t th_model_bytes(const struct th_model *model, uint32_t tensor)
{
	size_t sum = 0;

	for (uint32_t i = 0; i < model->tensors; i++)
		sum += weight_of(model, i);
	return 4 * (model->bytes / 4 * weight_of(model, tensor) / sum) + 4;
}

static uint32_t word_at(const struct th_model *model, uint32_t tensor,
			size_t index)
{
	uint64_t mixed = ((uint64_t)model->seed << 32 | tensor) *
				 UINT64_C(0x9e3779b97f4a7c15) +
			 index * UINT64_C(0xbf58476d1ce4e5b9);

	return (uint32_t)(mixed >> 32) | 1u;
}

/* ---- the file ---- */

static void write_all(FILE *file, const void *bytes, size_t count)
{
	if (fwrite(bytes, 1, count, file) != count)
		fail_msg("writing a model: %s", strerror(errno));
}

/* Padded with blanks, as the format allows. */
static void write_header(FILE *file, const struct th_model *model)
{
	size_t room = (size_t)model->tensors * ENTRY_BYTES + 2;
	char *text = malloc(room);
	uint64_t length = room;
	size_t begin = 0, used = 1;

	assert_non_null(text);
	memset(text, ' ', room);
	text[0] = '{';
	for (uint32_t i = 0; i < model->tensors; i++) {
		size_t bytes = th_model_bytes(model, i);

		used += (size_t)snprintf(
			text + used, ENTRY_BYTES,
			"%s\"layer.%u.weight\":{\"dtype\":\"F32\","
			"\"shape\":[%zu],\"data_offsets\":[%zu,%zu]}",
			i > 0 ? "," : "", i, bytes / 4, begin, begin + bytes);
		begin += bytes;
	}
	text[used] = '}';
	for (used++; used < room; used++)
		text[used] = ' ';
	write_all(file, &length, sizeof(length));
	write_all(file, text, room);
	free(text);
}

static void write_tensor(FILE *file, const struct th_model *model,
			 uint32_t tensor)
{
	static uint32_t words[PIECE_WORDS];
	size_t count = th_model_bytes(model, tensor) / 4;
	size_t piece;

	for (size_t at = 0; at < count; at += piece) {
		piece = count - at < PIECE_WORDS ? count - at : PIECE_WORDS;
		for (size_t i = 0; i < piece; i++)
			words[i] = word_at(model, tensor, at + i);
		write_all(file, words, piece * 4);
	}
}

const char *th_model_write(const struct th_model *model)
{
	static char path[300];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s.safetensors", th_temp_dir(),
		 model->name);
	file = fopen(path, "wbe");
	assert_non_null(file);
	write_header(file, model);
	for (uint32_t i = 0; i < model->tensors; i++)
		write_tensor(file, model, i);
	assert_int_equal(fclose(file), 0);
	return path;
}

/* ---- orders ---- */

enum ps_status th_model_try_add_file(const struct th_model *model,
				     const char *path)
{
	const struct ps_model_source source = {
		.struct_size = sizeof(source),
		.name = model->name,
		.path = path,
		.fd = -1,
		.flags = model->flags,
		.plan = model->plan,
		.groups = model->groups,
	};

	return ps_model_add(NULL, &source, TH_DAEMON_MS, NULL);
}

enum ps_status th_model_try_add(const struct th_model *model)
{
	return th_model_try_add_file(model, th_model_write(model));
}

void th_model_add(const struct th_model *model)
{
	th_assert_ok(th_model_try_add(model));
}

enum ps_status th_model_try_order(const struct th_model *model,
				  enum ps_model_action action)
{
	return ps_model_order(NULL, action, model->name, TH_DAEMON_MS);
}

void th_model_order(const struct th_model *model, enum ps_model_action action)
{
	th_assert_ok(th_model_try_order(model, action));
}

static void remove_one(const struct th_model *model)
{
	const uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);
	enum ps_status status = th_model_try_order(model, PS_MODEL_REMOVE);

	/* Its last client may be gone a moment ago only. */
	while (status == PS_BUSY && th_now_ns() < end) {
		th_rest_ms(REST_MS);
		status = th_model_try_order(model, PS_MODEL_REMOVE);
	}
	th_assert_ok(status);
}

void th_models_remove(const struct th_model *const *models, size_t count)
{
	for (size_t i = 0; i < count; i++)
		remove_one(models[i]);
}

/* ---- looking ---- */

static json_t *ask_models(void)
{
	json_error_t error;
	json_t *json;
	char *text;

	th_assert_ok(ps_daemon_ask(NULL, PS_ASK_MODELS, TH_DAEMON_MS, &text));
	json = json_loads(text, 0, &error);
	if (json == NULL)
		fail_msg("MODELS is no JSON: %s in %s", error.text, text);
	free(text);
	return json;
}

json_t *th_model_status(const struct th_model *model)
{
	json_t *all = ask_models();
	json_t *list = json_object_get(all, "models");
	json_t *entry, *found = NULL;
	size_t i;

	assert_true(json_is_array(list));
	for (i = 0; i < json_array_size(list) && found == NULL; i++) {
		entry = json_array_get(list, i);
		if (strcmp(json_string_value(json_object_get(entry, "name")),
			   model->name) == 0)
			found = json_incref(entry);
	}
	json_decref(all);
	return found;
}

int64_t th_model_number(const struct th_model *model, const char *field)
{
	json_t *status = th_model_status(model);
	int64_t number;

	assert_non_null(status);
	number = th_json_number(status, field);
	json_decref(status);
	return number;
}

bool th_model_is(const struct th_model *model, const char *state)
{
	json_t *status = th_model_status(model);
	const char *now;
	bool is_so;

	assert_non_null(status);
	now = json_string_value(json_object_get(status, "state"));
	is_so = now != NULL && strcmp(now, state) == 0;
	json_decref(status);
	return is_so;
}

void th_model_await(const struct th_model *model, const char *state)
{
	const uint64_t end = th_now_ns() + TH_DAEMON_MS * UINT64_C(1000000);

	while (!th_model_is(model, state)) {
		if (th_now_ns() > end)
			fail_msg("model %s is never %s", model->name, state);
		th_rest_ms(REST_MS);
	}
}

/* ---- in a client ---- */

struct ps_model *th_model_attach(struct ps_pool *pool,
				 const struct th_model *model)
{
	struct ps_model *attached;

	th_assert_ok(ps_model_attach(pool, model->name, NULL, &attached));
	return attached;
}

void th_model_use(struct ps_model *attached)
{
	th_assert_ok(ps_model_use(attached, PS_PRIORITY_DEFAULT, TH_DAEMON_MS));
}

void th_copy_init(struct th_copy *copy, const struct th_gpu *gpu,
		  const struct th_model *model)
{
	void *memory = NULL;

	copy->model = model;
	copy->gpu = gpu;
	copy->at = calloc(model->tensors + 1u, sizeof(*copy->at));
	assert_non_null(copy->at);
	for (uint32_t i = 0; i < model->tensors; i++)
		copy->at[i + 1] = copy->at[i] + th_model_bytes(model, i);
	th_cu(gpu->driver->cuMemHostAlloc(&memory, copy->at[model->tensors],
					  0));
	copy->bytes = memory;
	th_copy_spoil(copy);
}

void th_copy_done(struct th_copy *copy)
{
	th_cu(copy->gpu->driver->cuMemFreeHost(copy->bytes));
	free(copy->at);
}

void th_copy_spoil(struct th_copy *copy)
{
	memset(copy->bytes, SPOILT, copy->at[copy->model->tensors]);
}

static struct ps_tensor tensor_of(struct ps_model *attached, uint32_t i)
{
	char name[64];
	struct ps_tensor tensor;
	uint32_t number;

	snprintf(name, sizeof(name), "layer.%u.weight", i);
	th_assert_ok(ps_model_find_tensor(attached, name, &number));
	assert_int_equal(number, i);
	th_assert_ok(ps_model_get_tensor(attached, i, &tensor));
	return tensor;
}

void th_copy_submit(struct th_copy *copy, struct ps_model *attached,
		    CUstream stream)
{
	struct ps_tensor tensor;

	for (uint32_t i = 0; i < copy->model->tensors; i++) {
		tensor = tensor_of(attached, i);
		assert_int_equal(tensor.bytes, copy->at[i + 1] - copy->at[i]);
		th_assert_ok(ps_model_wait(attached, stream, i));
		th_cu(copy->gpu->driver->cuMemcpyDtoHAsync_v2(
			copy->bytes + copy->at[i],
			(CUdeviceptr)(uintptr_t)tensor.address, tensor.bytes,
			stream));
	}
}

bool th_copy_is_right(const struct th_copy *copy)
{
	uint32_t word;

	for (uint32_t i = 0; i < copy->model->tensors; i++) {
		size_t count = (copy->at[i + 1] - copy->at[i]) / 4;

		for (size_t k = 0; k < count; k++) {
			memcpy(&word, copy->bytes + copy->at[i] + 4 * k, 4);
			if (word == word_at(copy->model, i, k))
				continue;
			print_message("model %s tensor %u word %zu is %#x, "
				      "not %#x\n",
				      copy->model->name, i, k, word,
				      word_at(copy->model, i, k));
			return false;
		}
	}
	return true;
}

void th_model_run(struct ps_model *attached, const struct th_model *model,
		  const struct th_gpu *gpu, CUstream stream)
{
	struct th_copy copy;

	th_copy_init(&copy, gpu, model);
	th_model_use(attached);
	th_copy_submit(&copy, attached, stream);
	th_assert_ok(ps_model_release(attached, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	th_assert_ok(ps_model_check(attached));
	assert_true(th_copy_is_right(&copy));
	th_copy_done(&copy);
}
