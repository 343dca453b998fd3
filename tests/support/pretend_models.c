/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Two models, which lie where a test says and are as far as it says. */
#include "tests/support/pretend_models.h"

#include "lib/pool.h"
#include "model/manifest.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (TH_SEGMENT + TH_SEGMENT / 2)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

struct pretended {
	uint32_t number;
	const char *name;
	uint32_t slot; /* behind the board's */
	uint32_t serial;
	uint32_t place;
	uint32_t first; /* segment */
};

static struct pretended models[2] = {
	{ TH_ALPHA, "alpha", 1, 11, 1, 0 },
	{ TH_BETA, "beta/v2", 3, 12, 1, 2 },
};

static struct {
	struct ps_pool *pool;
	struct ip_use_page *use; /* the client's; NULL: not joined */
	struct ip_landed_page *landed;
	uint64_t board;
	int board_fd;
	int landed_fd;
	uint32_t yields;
	uint32_t last_seq;
	bool is_made;
	bool is_joined; /* over this connection */
} self;

static struct pretended *model_of(uint32_t number)
{
	for (size_t i = 0; i < 2; i++)
		if (models[i].number == number)
			return &models[i];
	fail_msg("model %u", number);
	return NULL;
}

/* ---- the board and the page ---- */

static void make_board(void)
{
	struct dv_device *device = self.pool->device;
	uint64_t handle;

	self.board =
		ip_models_base(self.pool->base, self.pool->window, TH_SEGMENT);
	th_assert_ok(dv_segment_create(device, IP_BOARD_BYTES, &handle));
	th_assert_ok(dv_segment_export(device, handle, &self.board_fd));
	th_assert_ok(dv_window_map(device, self.board, IP_BOARD_BYTES, handle));
	th_assert_ok(
		dv_window_set_access(device, self.board, IP_BOARD_BYTES, true));
	th_assert_ok(dv_segment_release(device, handle));
}

static void make_landed(void)
{
	char path[64];
	int fd = memfd_create("landed", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, sizeof(*self.landed)), 0);
	self.landed = mmap(NULL, sizeof(*self.landed), PROT_READ | PROT_WRITE,
			   MAP_SHARED, fd, 0);
	assert_ptr_not_equal(self.landed, MAP_FAILED);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	self.landed_fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(self.landed_fd >= 0);
	close(fd);
}

static void make(struct ps_pool *pool)
{
	if (self.is_made)
		return;
	self.is_made = true;
	self.pool = pool;
	th_assert_ok(ps_pool_map(pool, 0, TH_PARAMETERS * TH_SEGMENT));
	make_board();
	make_landed();
}

/* ---- requests ---- */

static void join(const struct ip_message *msg, struct ip_conn *asks,
		 bool answers)
{
	int none = memfd_create("none", MFD_CLOEXEC);
	bool lies = th_pretend_lies(TH_LIE_LANDED);
	struct ip_message answer;

	if (self.use != NULL)
		munmap(self.use, sizeof(*self.use));
	self.use = mmap(NULL, sizeof(*self.use), PROT_READ | PROT_WRITE,
			MAP_SHARED, msg->fds[0], 0);
	assert_ptr_not_equal(self.use, MAP_FAILED);
	ip_message_init(&answer, IP_BOARD, asks->minor);
	answer.body.board.seq = msg->body.number.seq;
	answer.body.board.models = IP_MODELS_MAX;
	answer.fds[answer.fd_count++] = self.board_fd;
	answer.fds[answer.fd_count++] = lies ? none : self.landed_fd;
	if (answers)
		(void)ip_conn_send(asks, &answer);
	close(none);
}

static void fill_manifest(const struct pretended *model,
			  struct md_tensor tensors[TH_MODEL_TENSORS],
			  struct md_manifest *manifest)
{
	static const char *const names[] = { "t0", "t1", "t2", "t3" };

	for (uint32_t i = 0; i < TH_MODEL_TENSORS; i++)
		tensors[i] = (struct md_tensor){
			.name = names[i],
			.dtype = MD_U8,
			.rank = 1,
			.shape = { BYTES / TH_MODEL_TENSORS },
			.offset = i * (BYTES / TH_MODEL_TENSORS),
			.bytes = BYTES / TH_MODEL_TENSORS,
		};
	*manifest = (struct md_manifest){ .tensors = tensors,
					  .count = TH_MODEL_TENSORS,
					  .bytes = BYTES };
	memset(manifest->hash, (int)model->number, sizeof(manifest->hash));
}

static int make_manifest(const struct pretended *model, size_t *size_out)
{
	struct md_tensor tensors[TH_MODEL_TENSORS];
	struct md_manifest manifest;
	void *bytes;
	int fd = memfd_create("manifest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	fill_manifest(model, tensors, &manifest);
	th_assert_ok(md_manifest_encode(&manifest, &bytes, size_out));
	assert_int_equal(write(fd, bytes, *size_out), *size_out);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
	free(bytes);
	return fd;
}

static void fill_model(const struct pretended *from, struct ip_model *model)
{
	model->model = from->number;
	model->serial = from->serial;
	model->tensors =
		TH_MODEL_TENSORS + (th_pretend_lies(TH_LIE_MANIFEST) ? 1 : 0);
	model->address = self.board + from->slot * TH_SEGMENT;
	if (th_pretend_lies(TH_LIE_ADDRESS))
		model->address = self.pool->base;
	model->bytes = BYTES;
	memset(model->hash, (int)from->number, sizeof(model->hash));
	memcpy(model->name, from->name, strlen(from->name));
}

static bool is_wanted(const struct ip_find *find, const struct pretended *model)
{
	if ((find->flags & IP_FIND_NAME) != 0)
		return strcmp(find->name, model->name) == 0;
	return find->hash[0] == model->number;
}

static void deny(struct ip_conn *asks, uint32_t seq, enum ps_status status)
{
	struct ip_message answer;

	ip_message_init(&answer, IP_DENY, asks->minor);
	ip_deny_set(&answer, seq, status, "pretend: not this model");
	(void)ip_conn_send(asks, &answer);
}

static void find(const struct ip_find *find, struct ip_conn *asks, bool answers)
{
	const struct pretended *model = &models[0];
	struct ip_message answer;
	size_t size;

	if (!is_wanted(find, model))
		model = &models[1];
	if (!is_wanted(find, model)) {
		deny(asks, find->seq, PS_NO_MODEL);
		return;
	}
	ip_message_init(&answer, IP_MODEL, asks->minor);
	answer.body.model.seq = find->seq;
	fill_model(model, &answer.body.model);
	answer.fds[answer.fd_count++] = make_manifest(model, &size);
	answer.body.model.manifest_bytes = size;
	if (answers)
		(void)ip_conn_send(asks, &answer);
	ip_message_done(&answer);
}

static void fill_place(const struct pretended *model, struct ip_message *answer,
		       int files)
{
	struct ip_place *place = &answer->body.place;

	place->count = TH_MODEL_SEGMENTS;
	if (th_pretend_lies(TH_LIE_PLACE_MANY))
		place->count++;
	if (th_pretend_lies(TH_LIE_PLACE_FEW))
		place->count--;
	for (uint32_t i = 0; i < place->count; i++) {
		uint32_t n = (model->first + i) % TH_PARAMETERS;

		place->segment[i] = n;
		answer->fds[answer->fd_count++] =
			files >= 0 ? files : self.pool->segments[n].fd;
	}
}

static void use(const struct ip_use_request *use, struct ip_conn *asks,
		bool answers)
{
	int files = th_pretend_lies(TH_LIE_PLACE_FILES)
			    ? memfd_create("none", MFD_CLOEXEC)
			    : -1;
	const struct pretended *model = model_of(use->model);
	struct ip_message answer;

	assert_int_equal(use->serial, model->serial);
	ip_message_init(&answer, IP_PLACE, asks->minor);
	answer.body.place.seq = use->seq;
	answer.body.place.place = model->place;
	answer.body.place.failed = self.landed->model[use->model].failed;
	answer.body.place.flags = IP_PLACE_SAME;
	if (use->place != model->place) {
		answer.body.place.flags = 0;
		fill_place(model, &answer, files);
	}
	__atomic_store_n(&self.use->model[use->model].word, IP_USE_BUSY,
			 __ATOMIC_SEQ_CST);
	if (answers)
		(void)ip_conn_send(asks, &answer);
	if (files >= 0)
		close(files);
}

static void did(struct ip_conn *asks, uint32_t seq)
{
	struct ip_message answer;

	ip_message_init(&answer, IP_DID, asks->minor);
	answer.body.number.seq = seq;
	(void)ip_conn_send(asks, &answer);
}

/* The numbers of another connection begin anew. */
static void note_joined(const struct ip_message *msg)
{
	uint32_t seq = msg->body.number.seq;

	if (seq <= self.last_seq)
		self.is_joined = false;
	self.last_seq = seq;
	assert_true(self.is_joined != (msg->type == IP_JOIN));
	self.is_joined = true;
}

void th_models_hear(const struct ip_message *msg, struct ip_conn *asks,
		    struct ps_pool *pool, bool answers)
{
	make(pool);
	note_joined(msg);
	switch (msg->type) {
	case IP_JOIN:
		join(msg, asks, answers);
		break;
	case IP_FIND:
		find(&msg->body.find, asks, answers);
		break;
	case IP_USE:
		use(&msg->body.use, asks, answers);
		break;
	case IP_DROPPED:
	case IP_COSTS:
		if (answers)
			did(asks, msg->body.number.seq);
		break;
	default:
		fail_msg("%s from the client", ip_type_name(msg->type));
	}
}

/* ---- orders ---- */

static uint64_t hear_yielded(struct ip_conn *events, uint32_t *model_out)
{
	struct ip_message msg;
	uint64_t state;

	th_assert_ok(ip_conn_receive(events, &msg));
	assert_int_equal(msg.type, IP_YIELDED);
	assert_int_equal(msg.body.yielded.seq, self.yields);
	state = msg.body.yielded.state;
	*model_out = msg.body.yielded.model;
	ip_message_done(&msg);
	return state;
}

static uint64_t yield(const struct pretended *model, uint32_t flags,
		      struct ip_conn *events)
{
	struct ip_message msg;
	uint32_t answered;

	ip_message_init(&msg, IP_YIELD, events->minor);
	msg.body.yield = (struct ip_yield){ .seq = ++self.yields,
					    .flags = flags,
					    .model = model->number,
					    .serial = model->serial,
					    .deadline_ms = 1000 };
	th_assert_ok(ip_conn_send(events, &msg));
	return hear_yielded(events, &answered);
}

static uint64_t obey_yield(const struct th_order_message *order,
			   struct ip_conn *events)
{
	uint32_t model;

	if (order->order == TH_ORDER_YIELD)
		return yield(model_of(order->a), order->b, events);
	assert_int_equal(order->order, TH_ORDER_YIELDED);
	assert_int_equal(hear_yielded(events, &model), IP_YIELDED_IDLE);
	return model;
}

static void place(struct pretended *model, uint32_t first)
{
	model->place++;
	model->first = first;
}

static void land(uint32_t number, uint32_t count)
{
	uint64_t at = self.board + number * IP_BOARD_STRIDE;

	th_assert_ok(dv_copy_in(self.pool->device, at, &count, sizeof(count)));
}

static void fill(uint32_t segment, uint32_t word)
{
	th_put(self.pool, ps_pool_pointer(self.pool, segment * TH_SEGMENT),
	       word);
}

static uint64_t obey_word(const struct th_order_message *order)
{
	uint32_t *word = &self.use->model[order->a].word;
	uint32_t idle = IP_USE_IDLE;

	if (order->order == TH_ORDER_WORD)
		return __atomic_load_n(word, __ATOMIC_SEQ_CST);
	return __atomic_compare_exchange_n(word, &idle, IP_USE_NONE, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

uint64_t th_models_obey(const struct th_order_message *order,
			struct ip_conn *events)
{
	switch ((enum th_order)order->order) {
	case TH_ORDER_WORD:
	case TH_ORDER_TAKE_BACK:
		return obey_word(order);
	case TH_ORDER_PLACE:
		place(model_of(order->a), order->b);
		break;
	case TH_ORDER_LAND:
		land(order->a, order->b);
		break;
	case TH_ORDER_SAY_LAND:
		self.landed->model[order->a].landed = order->b;
		break;
	case TH_ORDER_FAIL:
		self.landed->model[order->a].failed++;
		break;
	case TH_ORDER_REMOVE:
		model_of(order->a)->serial++;
		break;
	case TH_ORDER_FILL:
		fill(order->a, order->b);
		break;
	default:
		return obey_yield(order, events);
	}
	return 0;
}
