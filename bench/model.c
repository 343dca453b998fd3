/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How long until a model that is not on the GPU has answered?
 *
 * Two models of layers that are all alike, in a parameter region that has room
 * for one: each switch brings the other one back, byte for byte, which is
 * counted. A layer is a kernel that reads the last word of its last tensor and
 * is busy as long as its layer travels. The time runs from ps_model_use() to
 * the host's knowing that the last layer is done; the words' sum is checked.
 *
 *   ready      it is there and in use: the layers alone
 *   resident   it is there: ps_model_use() and the waits besides
 *   cold       it has to be brought, in the groups that are planned
 *   graph      the same, layers and waits captured once and launched
 *   layers     cold, a group a layer
 *   one copy   cold, nothing computes before everything has landed
 *
 * The bound is the largest over layers of when it has landed, at the copy rate
 * that was measured here, and what remains to be computed from there.
 */

#include "bench/grant.h"

#include "base/status.h"
#include "bench/gpu.h"
#include "bench/model_file.h"
#include "bench/sample.h"
#include "include/poolswitch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)
#define NS_PER_MS 1e6
#define PATIENCE_MS 30000
#define COPIES 8
#define WARM_SAMPLES 2u
#define COPY_ROUNDS 5u

/* What the project promises: of a captured switch, of one to what is there, and
 * of the rate at which a large model travels. */
#define GRAPH_OF_BOUND 1.03
#define RESIDENT_NS 150e3
#define RATE_SHARE 0.97

static const struct bn_model_size middle = { "256 MiB", 32, 2 * MIB };
static const struct bn_model_size large = { "16 GiB", 32, 128 * MIB };
static const struct bn_model_size quick = { "16 MiB", 16, MIB / 4 };

struct subject {
	struct ps_model *model;
	uint32_t salt;
	void *graph;
	uint64_t *address; /* of each layer's last word */
};

/* The two models, in one plan. */
struct pair {
	struct subject subject[2];
	unsigned int turn; /* who was used last */
};

struct setting {
	struct bn_run *run;
	const struct bn_model_size *size;
	unsigned int samples;
	char file[2][96];
	struct bn_daemon daemon;
	struct ps_pool *pool;
	void *stream;
	void *sum; /* a word of the GPU's */
	double bytes_per_ns;
	uint64_t layer_ns;
	uint64_t ready_ns; /* the median; 0: not measured yet */
};

static void put(const struct setting *setting, const char *name,
		const char *metric, double value, const char *unit,
		uint64_t samples)
{
	char full[BN_NAME_BYTES];
	const struct bn_figure figure = { .name = full,
					  .metric = metric,
					  .value = value,
					  .unit = unit,
					  .samples = samples };

	snprintf(full, sizeof(full), "%s, %s", setting->size->text, name);
	bn_figure(setting->run, &figure);
}

static void judge(const struct setting *setting, const char *name,
		  const char *metric, double value, const char *unit,
		  uint64_t samples, double most)
{
	char full[BN_NAME_BYTES];
	const struct bn_figure figure = { .name = full,
					  .metric = metric,
					  .value = value,
					  .unit = unit,
					  .samples = samples };

	snprintf(full, sizeof(full), "%s, %s", setting->size->text, name);
	bn_figure(setting->run, &figure);
	bn_target_most(setting->run, &figure, most);
}

/* ---- the wire, as this process has it ---- */

static bool time_copies(const struct setting *setting, uint64_t to,
			const void *memory, uint64_t bytes, uint64_t *ns_out)
{
	struct dv_device *dev = bn_gpu_device();
	struct dv_fence *from = NULL;
	struct dv_fence *until = NULL;
	bool ok = dv_fence_record_timed(dev, setting->stream, &from) == PS_OK;

	for (int i = 0; i < COPIES && ok; i++)
		ok = dv_copy_in_async(dev, to, memory, bytes,
				      setting->stream) == PS_OK;
	ok = ok && dv_fence_record_timed(dev, setting->stream, &until) == PS_OK;
	ok = bn_stream_wait(setting->stream) && ok &&
	     dv_fence_elapsed(dev, from, until, ns_out) == PS_OK;
	dv_fence_free(dev, from);
	dv_fence_free(dev, until);
	return ok;
}

/* *rate_out: of the fastest, in bytes a nanosecond. */
static bool time_rounds(const struct setting *setting, const void *memory,
			uint64_t bytes, double *rate_out)
{
	uint64_t ns, best = UINT64_MAX;
	bool ok = true;
	void *to;

	if (ps_mem_alloc(setting->pool, bytes, &to) != PS_OK)
		return false;
	for (unsigned int i = 0; i < COPY_ROUNDS && ok; i++) {
		ok = time_copies(setting, (uint64_t)(uintptr_t)to, memory,
				 bytes, &ns);
		best = ns < best ? ns : best;
	}
	*rate_out = (double)(COPIES * bytes) / (double)(best ? best : 1);
	return ps_mem_free(setting->pool, to) == PS_OK && ok;
}

static bool measure_wire(struct setting *setting)
{
	const uint64_t bytes = setting->run->options.quick ? MIB : 64 * MIB;
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	bool ok;

	if (memory == MAP_FAILED)
		return false;
	ok = dv_host_register(bn_gpu_device(), memory, bytes, false) == PS_OK;
	ok = ok && time_rounds(setting, memory, bytes, &setting->bytes_per_ns);
	if (ok)
		ok = dv_host_unregister(bn_gpu_device(), memory) == PS_OK;
	munmap(memory, bytes);
	setting->layer_ns =
		(uint64_t)((double)bn_model_bytes(setting->size) /
			   setting->size->layers / setting->bytes_per_ns);
	return ok;
}

/* When all is done at best, in ns: a layer computes as long as it travels. */
static double bound_ns(const struct setting *setting)
{
	return (double)(setting->size->layers + 1) * (double)setting->layer_ns;
}

static double wire_ns(const struct setting *setting)
{
	return (double)bn_model_bytes(setting->size) / setting->bytes_per_ns;
}

/* ---- the models ---- */

static bool add_model(const struct setting *setting, unsigned int which,
		      const char *name, enum ps_model_plan plan)
{
	const struct ps_model_source source = {
		.struct_size = sizeof(source),
		.name = name,
		.path = setting->file[which],
		.fd = -1,
		.plan = plan,
	};

	return ps_model_add(NULL, &source, -1, NULL) == PS_OK;
}

static bool find_words(const struct setting *setting, struct subject *subject)
{
	const uint32_t layers = setting->size->layers;
	struct ps_tensor tensor;

	subject->address = calloc(layers, sizeof(*subject->address));
	for (uint32_t i = 0; subject->address && i < layers; i++) {
		if (ps_model_get_tensor(subject->model,
					(i + 1) * BN_MODEL_TENSORS - 1,
					&tensor) != PS_OK)
			return false;
		subject->address[i] = (uint64_t)(uintptr_t)tensor.address +
				      tensor.bytes - sizeof(uint32_t);
	}
	return subject->address != NULL;
}

/* A layer computes when its last tensor is there. */
static bool tell_costs(const struct setting *setting,
		       const struct subject *subject)
{
	const uint32_t count = setting->size->layers * BN_MODEL_TENSORS;
	uint32_t *costs = calloc(count, sizeof(*costs));
	bool ok = costs != NULL;

	for (uint32_t i = 0; ok && i < setting->size->layers; i++)
		costs[(i + 1) * BN_MODEL_TENSORS - 1] =
			(uint32_t)setting->layer_ns;
	ok = ok && ps_model_set_costs(subject->model, costs, count) == PS_OK;
	free(costs);
	return ok;
}

static bool run_layers(const struct setting *setting,
		       const struct subject *subject, bool waits)
{
	bool ok = true;

	for (uint32_t i = 0; ok && i < setting->size->layers; i++) {
		if (waits)
			ok = ps_model_wait(subject->model, setting->stream,
					   (i + 1) * BN_MODEL_TENSORS - 1) ==
			     PS_OK;
		ok = ok && bn_layer_launch(setting->stream, subject->address[i],
					   (uint64_t)(uintptr_t)setting->sum,
					   setting->layer_ns);
	}
	return ok;
}

static bool capture(const struct setting *setting, struct subject *subject)
{
	bool ok = bn_graph_begin(setting->stream);

	ok = ok && run_layers(setting, subject, true);
	return bn_graph_end(setting->stream, &subject->graph) && ok;
}

static bool open_pair(const struct setting *setting, const char *kind,
		      enum ps_model_plan plan, struct pair *pair_out)
{
	bool ok = true;
	char name[64];

	memset(pair_out, 0, sizeof(*pair_out));
	for (unsigned int i = 0; i < 2 && ok; i++) {
		struct subject *subject = &pair_out->subject[i];

		subject->salt = i;
		snprintf(name, sizeof(name), "%s-%u", kind, i);
		ok = add_model(setting, i, name, plan) &&
		     ps_model_attach(setting->pool, name, NULL,
				     &subject->model) == PS_OK &&
		     find_words(setting, subject) &&
		     tell_costs(setting, subject) && capture(setting, subject);
	}
	return ok;
}

static bool close_pair(struct pair *pair, const char *kind)
{
	bool ok = true;
	char name[64];

	for (unsigned int i = 0; i < 2; i++) {
		bn_graph_free(pair->subject[i].graph);
		ok = ps_model_detach(pair->subject[i].model) == PS_OK && ok;
		free(pair->subject[i].address);
		snprintf(name, sizeof(name), "%s-%u", kind, i);
		ok = ps_model_order(NULL, PS_MODEL_REMOVE, name, PATIENCE_MS) ==
			     PS_OK &&
		     ok;
	}
	return ok;
}

/* ---- one switch ---- */

enum how { READY, RESIDENT, COLD, GRAPH };

static bool check_sum(const struct setting *setting,
		      const struct subject *subject)
{
	const uint64_t at = (uint64_t)(uintptr_t)setting->sum;
	const uint32_t none = 0;
	uint32_t want = 0, sum;

	for (uint32_t i = 0; i < setting->size->layers; i++)
		want += bn_model_word((i + 1) * BN_MODEL_TENSORS - 1,
				      subject->salt);
	if (dv_copy_out(bn_gpu_device(), &sum, at, sizeof(sum)) != PS_OK ||
	    dv_copy_in(bn_gpu_device(), at, &none, sizeof(none)) != PS_OK)
		return false;
	if (sum != want)
		bs_fail(PS_LOAD_FAILED, "the layers read %u, not %u", sum,
			want);
	return sum == want && ps_model_check(subject->model) == PS_OK;
}

static bool one_run(const struct setting *setting, struct subject *subject,
		    enum how how, uint64_t *ns_out)
{
	const uint64_t begin = bn_now_ns();
	bool ok = how == READY ||
		  ps_model_use(subject->model, PS_PRIORITY_DEFAULT,
			       PATIENCE_MS) == PS_OK;

	if (ok && how == GRAPH)
		ok = bn_graph_launch(subject->graph, setting->stream);
	else
		ok = ok && run_layers(setting, subject, how != READY);
	ok = bn_stream_wait(setting->stream) && ok;
	*ns_out = bn_now_ns() - begin;
	if (ok && how != READY)
		ok = ps_model_release(subject->model, PS_STREAM_DONE) == PS_OK;
	return ok && check_sum(setting, subject);
}

/* A sum over all loads of the daemon. */
static bool ask_sum(const char *field, uint64_t *sum_out)
{
	char quoted[32];
	const char *at;
	char *text;

	if (ps_daemon_ask(NULL, PS_ASK_MODELS, PATIENCE_MS, &text) != PS_OK)
		return false;
	snprintf(quoted, sizeof(quoted), "\"%s\":", field);
	at = strstr(text, quoted);
	if (at != NULL)
		*sum_out = strtoull(at + strlen(quoted), NULL, 10);
	free(text);
	return at != NULL;
}

static bool loaded_bytes(uint64_t *bytes_out)
{
	return ask_sum("loaded_bytes", bytes_out);
}

/* The daemon counts a load a moment after its last byte is used. */
static bool check_loaded(uint64_t before, uint64_t bytes)
{
	const uint64_t end = bn_now_ns() + PATIENCE_MS * UINT64_C(1000000);
	uint64_t now = before;

	while (now - before < bytes && bn_now_ns() < end)
		if (!loaded_bytes(&now))
			return false;
	if (now - before != bytes)
		bs_fail(PS_LOAD_FAILED, "%llu bytes travelled, not %llu",
			(unsigned long long)(now - before),
			(unsigned long long)bytes);
	return now - before == bytes;
}

static bool one_sample(const struct setting *setting, struct pair *pair,
		       enum how how, uint64_t *ns_out)
{
	const bool is_cold = how == COLD || how == GRAPH;
	uint64_t before;

	if (!loaded_bytes(&before))
		return false;
	if (is_cold)
		pair->turn = !pair->turn;
	return one_run(setting, &pair->subject[pair->turn], how, ns_out) &&
	       check_loaded(before,
			    is_cold ? bn_model_bytes(setting->size) : 0);
}

static bool run_samples(const struct setting *setting, struct pair *pair,
			enum how how, struct bn_samples *samples)
{
	uint64_t ns;

	/* The first ones map what was not mapped. */
	for (unsigned int i = 0; i < WARM_SAMPLES; i++)
		if (!one_sample(setting, pair, how, &ns))
			return false;
	for (unsigned int i = 0; i < setting->samples; i++) {
		if (!one_sample(setting, pair, how, &ns))
			return false;
		bn_samples_add(samples, ns);
	}
	return true;
}

/* ---- the cases ---- */

static void report(struct setting *setting, const char *name, enum how how,
		   struct bn_samples *samples)
{
	const uint64_t n = samples->count;
	const double p50 = (double)bn_samples_at(samples, 0.5);
	const double ready = (double)setting->ready_ns;
	const double extra = p50 > ready ? p50 - ready : 0;

	put(setting, name, "p50", p50 / NS_PER_MS, "ms", n);
	put(setting, name, "p99",
	    (double)bn_samples_at(samples, 0.99) / NS_PER_MS, "ms", n);
	if (how == READY)
		setting->ready_ns = (uint64_t)p50;
	if (how == RESIDENT)
		judge(setting, name, "more than ready", extra * 1e-3, "us", n,
		      RESIDENT_NS * 1e-3);
	if (how != COLD && how != GRAPH)
		return;
	put(setting, name, "more than ready", extra * 1e-3, "us", n);
	if (how == GRAPH)
		judge(setting, name, "of the bound", p50 / bound_ns(setting),
		      "x", n, GRAPH_OF_BOUND);
	else
		put(setting, name, "of the bound", p50 / bound_ns(setting), "x",
		    n);
}

/* By the GPU's clock, of all loads of a case. */
static void report_rate(struct setting *setting, const char *name, uint64_t ns)
{
	const double bytes = (double)bn_model_bytes(setting->size) *
			     (setting->samples + WARM_SAMPLES);
	const double share =
		bytes / (double)(ns ? ns : 1) / setting->bytes_per_ns;
	char full[BN_NAME_BYTES];
	const struct bn_figure figure = { .name = full,
					  .metric = "of the copy rate",
					  .value = share,
					  .unit = "x",
					  .samples = setting->samples };

	snprintf(full, sizeof(full), "%s, %s", setting->size->text, name);
	bn_figure(setting->run, &figure);
	if (setting->size == &large)
		bn_target_least(setting->run, &figure, RATE_SHARE);
}

static bool run_case(struct setting *setting, struct pair *pair,
		     const char *name, enum how how)
{
	struct subject *subject = &pair->subject[pair->turn];
	struct bn_samples samples;
	uint64_t before = 0, after = 0;
	bool ok = bn_samples_init(&samples, setting->samples) &&
		  ask_sum("loaded_ns", &before);

	if (how == READY)
		ok = ok &&
		     ps_model_use(subject->model, PS_PRIORITY_DEFAULT,
				  PATIENCE_MS) == PS_OK &&
		     ps_model_wait(subject->model, setting->stream,
				   setting->size->layers * BN_MODEL_TENSORS -
					   1) == PS_OK;
	ok = ok && run_samples(setting, pair, how, &samples) &&
	     ask_sum("loaded_ns", &after);
	if (ok && how == READY)
		ok = ps_model_release(subject->model, PS_STREAM_DONE) == PS_OK;
	if (ok)
		report(setting, name, how, &samples);
	if (ok && how == COLD)
		report_rate(setting, name, after - before);
	bn_samples_done(&samples);
	return ok;
}

/* The first one is brought, and that is counted, before anything is timed. */
static bool bring(const char *kind)
{
	char name[64];

	snprintf(name, sizeof(name), "%s-0", kind);
	return ps_model_order(NULL, PS_MODEL_LOAD, name, PATIENCE_MS) == PS_OK;
}

static bool run_best(struct setting *setting)
{
	static const char kind[] = "best";
	struct pair pair;
	bool ok = open_pair(setting, kind, PS_PLAN_BEST, &pair) && bring(kind);

	ok = ok && run_case(setting, &pair, "ready", READY) &&
	     run_case(setting, &pair, "resident", RESIDENT) &&
	     run_case(setting, &pair, "cold", COLD) &&
	     run_case(setting, &pair, "graph", GRAPH);
	return ok && close_pair(&pair, kind);
}

static bool run_fixed(struct setting *setting, const char *kind,
		      const char *name, enum ps_model_plan plan)
{
	struct pair pair;
	bool ok = open_pair(setting, kind, plan, &pair) && bring(kind);

	ok = ok && run_case(setting, &pair, name, COLD);
	return ok && close_pair(&pair, kind);
}

/* ---- the whole ---- */

static bool make_files(struct setting *setting)
{
	bool ok = true;

	for (uint32_t i = 0; i < 2 && ok; i++) {
		snprintf(setting->file[i], sizeof(setting->file[i]),
			 "/dev/shm/poolswitch-bench-%d-%u.safetensors",
			 (int)getpid(), i);
		ok = bn_model_write(setting->file[i], setting->size, i);
	}
	return ok;
}

static bool open_setting(struct setting *setting)
{
	char parameter[32], computation[32], host[32];
	const char *const options[] = {
		"--parameter",   parameter, "--size", computation,
		"--host-memory", host,      NULL
	};
	const uint64_t bytes = bn_model_bytes(setting->size);

	/* One model, and as much again for the rest. */
	snprintf(parameter, sizeof(parameter), "%llu",
		 (unsigned long long)bytes);
	snprintf(computation, sizeof(computation), "%llu",
		 (unsigned long long)(2 * bytes + 256 * MIB));
	/* Both models, however small the machine is. */
	snprintf(host, sizeof(host), "%llu",
		 (unsigned long long)(4 * bytes + 256 * MIB));
	return make_files(setting) &&
	       bn_daemon_start_with(options, &setting->daemon) &&
	       bn_gpu_open(NULL, NULL) && bn_layer_load() &&
	       bn_stream_new(&setting->stream) &&
	       ps_attach(NULL, &setting->pool) == PS_OK &&
	       ps_mem_alloc(setting->pool, 256, &setting->sum) == PS_OK &&
	       dv_fill(bn_gpu_device(), (uint64_t)(uintptr_t)setting->sum, 0,
		       256, setting->stream) == PS_OK &&
	       bn_stream_wait(setting->stream) && measure_wire(setting);
}

static bool close_setting(struct setting *setting)
{
	bool ok = true;

	if (setting->sum != NULL)
		ok = ps_mem_free(setting->pool, setting->sum) == PS_OK;
	if (setting->pool != NULL)
		ok = ps_detach(setting->pool) == PS_OK && ok;
	bn_stream_free(setting->stream);
	bn_gpu_close();
	ok = bn_daemon_stop(&setting->daemon) && ok;
	for (int i = 0; i < 2; i++)
		if (setting->file[i][0] != '\0')
			unlink(setting->file[i]);
	return ok;
}

static bool run_plans(struct setting *setting)
{
	const uint64_t bytes = bn_model_bytes(setting->size);

	bn_title("%s in %u layers", setting->size->text, setting->size->layers);
	put(setting, "wire", "copy rate", setting->bytes_per_ns, "GB/s",
	    COPY_ROUNDS);
	put(setting, "wire", "of the whole", wire_ns(setting) / NS_PER_MS, "ms",
	    COPY_ROUNDS);
	put(setting, "bound", "at best", bound_ns(setting) / NS_PER_MS, "ms",
	    1);
	/* The large one's copies would fill the host. */
	return run_best(setting) &&
	       (bytes >= bn_model_bytes(&large) ||
		(run_fixed(setting, "layers", "cold, a group a layer",
			   PS_PLAN_LAYER) &&
		 run_fixed(setting, "one", "cold, one copy", PS_PLAN_ONE)));
}

static bool run_size(struct bn_run *run, const struct bn_model_size *size,
		     unsigned int samples)
{
	struct setting setting = { .run = run,
				   .size = size,
				   .samples = samples };
	bool ok = open_setting(&setting);

	ok = ok && run_plans(&setting);
	if (!ok)
		bn_complain("%s", size->text);
	return close_setting(&setting) && ok;
}

static bool measure(struct bn_run *run)
{
	if (run->options.quick || run->simulated)
		return run_size(run, &quick, 5);
	return run_size(run, &middle, 1000) && run_size(run, &large, 50);
}

int main(int argc, char **argv)
{
	return bn_main(argc, argv, "model",
		       "How long until a model that is not on the GPU has "
		       "answered.",
		       measure, NULL);
}
