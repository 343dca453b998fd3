/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* ps_model_attach(), _detach() and what a model is; see lib/model.h. */
#include "lib/model.h"

#include "base/status.h"
#include "lib/process.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(PS_TENSOR_RANK_MAX >= MD_MAX_RANK, "a shape has no room");
_Static_assert(PS_MODEL_HASH_BYTES == MD_HASH_BYTES, "a hash has no room");

/* ---- what to ask for ---- */

static enum ps_status check_name(const char *name, struct ip_find *find)
{
	size_t length = strnlen(name, IP_MODEL_NAME_BYTES);

	if (length < IP_MODEL_NAME_BYTES)
		memcpy(find->name, name, length);
	if (length < IP_MODEL_NAME_BYTES && ip_model_name_is_ok(find->name))
		return PS_OK;
	return bs_fail(PS_INVALID_ARGUMENT,
		       "a model's name is 1 to %u letters, digits and "
		       "-_.:/@+; this one has %zu bytes",
		       PS_MODEL_NAME_MAX, strlen(name));
}

static enum ps_status fill_find(const char *name, const unsigned char *hash,
				struct ip_find *find)
{
	if (name == NULL && hash == NULL)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a model is asked for by its name, its hash, or "
			       "both");
	if (hash != NULL) {
		find->flags |= IP_FIND_HASH;
		memcpy(find->hash, hash, sizeof(find->hash));
	}
	if (name == NULL)
		return PS_OK;
	find->flags |= IP_FIND_NAME;
	return check_name(name, find);
}

/* ---- what came; with requests ---- */

static enum ps_status refuse_model(const struct ps_model *model,
				   const char *what)
{
	return bs_fail(PS_PROTOCOL, "MODEL from pid %d: %s of model %s",
		       (int)model->models->lease->client.conn.peer_pid, what,
		       model->name);
}

/* Behind the board's slot, in front of the window's end. */
static enum ps_status check_place(const struct ps_model *model)
{
	const struct ps_pool *pool = model->models->lease->pool;
	uint64_t unit = pool->layout.segment_size;
	uint64_t first = model->models->board + unit;
	uint64_t end = pool->base + pool->window / unit * unit;

	if (model->address < first || model->address > end ||
	    (model->address - pool->base) % unit != 0 || model->bytes == 0 ||
	    model->bytes > end - model->address ||
	    model->number >= IP_MODELS_MAX)
		return refuse_model(model, "the address, number or size");
	return PS_OK;
}

/* Copied: what is read cannot be changed, and no page of it be missing. */
static enum ps_status read_manifest(struct ps_model *model, int fd,
				    uint64_t bytes)
{
	uint64_t done = 0;
	ssize_t got = 1;

	model->manifest_bytes = malloc(bytes);
	if (model->manifest_bytes == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for the %" PRIu64
			       " bytes that describe model %s",
			       bytes, model->name);
	while (done < bytes && got > 0) {
		got = pread(fd, (char *)model->manifest_bytes + done,
			    bytes - done, (off_t)done);
		done += got > 0 ? (uint64_t)got : 0;
	}
	if (got < 0)
		return bs_fail_errno("reading what describes model %s",
				     model->name);
	if (done < bytes)
		return refuse_model(model, "the manifest's length");
	return md_manifest_decode(model->manifest_bytes, bytes,
				  &model->manifest);
}

static enum ps_status check_manifest(const struct ps_model *model,
				     const struct ip_model *found)
{
	const struct md_manifest *manifest = &model->manifest;

	if (manifest->count != found->tensors ||
	    manifest->bytes != found->bytes ||
	    memcmp(manifest->hash, found->hash, sizeof(found->hash)) != 0)
		return refuse_model(model, "the manifest");
	return PS_OK;
}

static int compare_names(const void *a, const void *b, void *arg)
{
	const struct md_tensor *tensors = arg;

	return strcmp(tensors[*(const uint32_t *)a].name,
		      tensors[*(const uint32_t *)b].name);
}

static enum ps_status sort_names(struct ps_model *model)
{
	size_t count = model->manifest.count;

	model->by_name = calloc(count, sizeof(*model->by_name));
	if (model->by_name == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for the %zu names of model %s",
			       count, model->name);
	for (size_t i = 0; i < count; i++)
		model->by_name[i] = (uint32_t)i;
	qsort_r(model->by_name, count, sizeof(*model->by_name), compare_names,
		model->manifest.tensors);
	return PS_OK;
}

static enum ps_status new_model(struct lb_models *models,
				const struct ip_model *found, int manifest,
				struct ps_model **model_out)
{
	struct ps_model *model = calloc(1, sizeof(*model));
	enum ps_status status;

	if (model == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a model");
	model->magic = LB_MODEL_MAGIC;
	model->models = models;
	model->number = found->model;
	model->serial = found->serial;
	model->address = found->address;
	model->bytes = found->bytes;
	model->times = 1;
	memcpy(model->name, found->name, sizeof(model->name));
	status = check_place(model);
	if (status == PS_OK)
		status = read_manifest(model, manifest, found->manifest_bytes);
	if (status == PS_OK)
		status = check_manifest(model, found);
	if (status == PS_OK)
		status = sort_names(model);
	if (status == PS_OK)
		*model_out = model;
	else
		lb_model_free(model);
	return status;
}

/* A run that is left lost its fence with the device. */
void lb_model_free(struct ps_model *model)
{
	struct lb_run *run, *next;

	if (model == NULL)
		return;
	for (run = model->runs; run != NULL; run = next) {
		next = run->next;
		if (!lb_is_forked())
			dv_fence_free(model->models->lease->pool->device,
				      run->fence);
		free(run);
	}
	md_manifest_done(&model->manifest);
	free(model->manifest_bytes);
	free(model->by_name);
	model->magic = 0;
	free(model);
}

/* ---- attaching; with requests ---- */

static struct ps_model *find_known(const struct lb_models *models,
				   const struct ip_model *found)
{
	struct ps_model *model = models->first;

	while (model != NULL && (model->number != found->model ||
				 model->serial != found->serial))
		model = model->next;
	return model;
}

struct dropping {
	uint32_t number;
	uint32_t serial;
	enum ps_status denial;
};

static enum ps_status drop_once(struct lb_lease *lease, void *arg)
{
	struct dropping *dropping = arg;
	enum ps_status status = ip_client_drop_model(
		&lease->client, dropping->number, dropping->serial);

	return lb_model_heard(lease, status, &dropping->denial);
}

/* A daemon that does not hear it learns it by JOIN, after which the model is
 * not asked for again. */
static void say_dropped(struct lb_lease *lease, uint32_t number,
			uint32_t serial)
{
	struct dropping dropping = { .number = number, .serial = serial };

	(void)lb_session_ask(lease, drop_once, &dropping);
}

static void link_model(struct ps_model *model)
{
	struct lb_models *models = model->models;

	bs_lock_take(&models->lock);
	model->next = models->first;
	models->first = model;
	bs_lock_drop(&models->lock);
}

static enum ps_status take_found(struct lb_lease *lease,
				 const struct lb_finding *finding,
				 struct ps_model **model_out)
{
	const struct ip_model *found = &finding->model;
	struct ps_model *model = find_known(lease->models, found);
	enum ps_status status;

	if (model != NULL) {
		model->times++;
		*model_out = model;
		return PS_OK;
	}
	status = new_model(lease->models, found, finding->manifest, &model);
	if (status != PS_OK)
		return status;
	link_model(model);
	*model_out = model;
	return PS_OK;
}

static enum ps_status attach(struct lb_lease *lease, struct lb_finding *finding,
			     struct ps_model **model_out)
{
	enum ps_status status = lb_models_start(lease);

	if (status == PS_OK)
		status = lb_session_ask(lease, lb_model_find, finding);
	if (status == PS_OK)
		status = finding->denial;
	if (status != PS_OK)
		return status;
	status = take_found(lease, finding, model_out);
	close(finding->manifest);
	/* What is not understood is not kept from others. */
	if (status != PS_OK)
		lb_session_close(lease);
	return status;
}

enum ps_status ps_model_attach(struct ps_pool *pool, const char *name,
			       const unsigned char *hash,
			       struct ps_model **model_out)
{
	struct lb_finding finding = { .manifest = -1 };
	struct ps_pool *p = NULL;
	enum ps_status status = lb_lease_enter(pool, "keeps models", &p);

	if (status == PS_OK)
		status = lb_lease_check(p);
	if (status == PS_OK)
		status = fill_find(name, hash, &finding.find);
	if (status != PS_OK)
		return status;
	bs_lock_take(&p->lease->requests);
	status = attach(p->lease, &finding, model_out);
	bs_lock_drop(&p->lease->requests);
	return status;
}

/* ---- detaching ---- */

/* With requests and the turn: nobody else looks at it from now on. */
static void unlink_model(struct ps_model *model)
{
	struct ps_model **at = &model->models->first;

	bs_lock_take(&model->models->lock);
	while (*at != model)
		at = &(*at)->next;
	*at = model->next;
	(void)lb_model_turn_word(model, IP_USE_IDLE, IP_USE_NONE);
	bs_lock_drop(&model->models->lock);
}

static enum ps_status detach_last(struct ps_model *model)
{
	struct lb_lease *lease = model->models->lease;
	enum ps_status status;

	lb_turn_take(lease->pool);
	status = lb_model_unmap(model);
	if (status == PS_OK)
		unlink_model(model);
	lb_turn_give(lease->pool);
	if (status != PS_OK)
		return status;
	say_dropped(lease, model->number, model->serial);
	lb_model_free(model);
	return PS_OK;
}

static enum ps_status refuse_used(const struct ps_model *model)
{
	return bs_fail(PS_BUSY,
		       "model %s is in use here: let each ps_model_use() have "
		       "its ps_model_release() before detaching",
		       model->name);
}

/* PS_AGAIN: runs are left. */
static enum ps_status detach_once(struct ps_model *model)
{
	bool is_held, is_used;

	if (model->times > 1) {
		model->times--;
		return PS_OK;
	}
	bs_lock_take(&model->models->lock);
	is_held = model->is_held;
	is_used = model->uses > 0;
	bs_lock_drop(&model->models->lock);
	if (is_used)
		return refuse_used(model);
	return is_held ? PS_AGAIN : detach_last(model);
}

enum ps_status ps_model_detach(struct ps_model *model)
{
	enum ps_status status = model == NULL ? PS_OK : lb_model_enter(model);
	struct lb_lease *lease;

	if (model == NULL || (status != PS_OK && status != PS_DEVICE_LOST))
		return status;
	lease = model->models->lease;
	do {
		bs_lock_take(&lease->requests);
		status = detach_once(model);
		bs_lock_drop(&lease->requests);
		if (status == PS_AGAIN)
			lb_model_reap(model, true);
	} while (status == PS_AGAIN);
	return status;
}

/* ---- what it is ---- */

/* Host memory, which a forked child may look at too. */
static enum ps_status look(const struct ps_model *model)
{
	if (model != NULL && model->magic == LB_MODEL_MAGIC)
		return PS_OK;
	return bs_fail(PS_INVALID_ARGUMENT, "%p is no attached model",
		       (const void *)model);
}

enum ps_status ps_model_get_info(const struct ps_model *model,
				 struct ps_model_info *info)
{
	struct ps_model_info all = { 0 };
	enum ps_status status = look(model);
	size_t size = info->struct_size;

	if (status != PS_OK)
		return status;
	if (size < sizeof(all))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "struct_size is %zu and must be at least %zu: "
			       "set it to sizeof(struct ps_model_info)",
			       size, sizeof(all));
	all.struct_size = size;
	all.name = model->name;
	memcpy(all.hash, model->manifest.hash, sizeof(all.hash));
	all.address = (void *)(uintptr_t)model->address;
	all.bytes = model->bytes;
	all.tensors = (uint32_t)model->manifest.count;
	memcpy(info, &all, sizeof(all));
	return PS_OK;
}

enum ps_status ps_model_get_tensor(const struct ps_model *model,
				   uint32_t number,
				   struct ps_tensor *tensor_out)
{
	const struct md_tensor *from;
	enum ps_status status = look(model);

	if (status != PS_OK)
		return status;
	if (number >= model->manifest.count)
		return bs_fail(PS_OUT_OF_RANGE,
			       "tensor %" PRIu32 " of model %s, which has %zu",
			       number, model->name, model->manifest.count);
	from = &model->manifest.tensors[number];
	*tensor_out = (struct ps_tensor){
		.name = from->name,
		.dtype = md_dtype_name(from->dtype),
		.address = (void *)(uintptr_t)(model->address + from->offset),
		.offset = from->offset,
		.bytes = from->bytes,
		.rank = from->rank,
	};
	memcpy(tensor_out->shape, from->shape,
	       from->rank * sizeof(from->shape[0]));
	return PS_OK;
}

static int compare_name(const struct ps_model *model, const char *name,
			size_t at)
{
	uint32_t number = model->by_name[at];

	return strcmp(name, model->manifest.tensors[number].name);
}

enum ps_status ps_model_find_tensor(const struct ps_model *model,
				    const char *name, uint32_t *number_out)
{
	enum ps_status status = look(model);
	size_t low = 0, high, middle;

	if (status != PS_OK)
		return status;
	high = model->manifest.count;
	while (low < high) {
		middle = low + (high - low) / 2;
		if (compare_name(model, name, middle) > 0)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == model->manifest.count || compare_name(model, name, low) != 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "model %s has no tensor \"%s\" among its %zu",
			       model->name, name, model->manifest.count);
	*number_out = model->by_name[low];
	return PS_OK;
}
