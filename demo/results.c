/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/results.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>

#include "base/status.h"

/* ---- judging ---- */

static void add(struct dm_problems *problems, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void add(struct dm_problems *problems, const char *format, ...)
{
	va_list args;

	if (problems->count == DM_MAX_PROBLEMS)
		return;
	va_start(args, format);
	vsnprintf(problems->texts[problems->count++],
		  sizeof(problems->texts[0]), format, args);
	va_end(args);
}

static void judge_model(const struct dm_results *results, uint32_t worker,
			uint32_t model, struct dm_problems *problems)
{
	const struct dm_worker_result *w = &results->workers[worker];
	const struct dm_model_result *m = &results->models[model];

	if (w->right[model] != m->expected_right)
		add(problems,
		    "worker %u: %s has %u of %u right, %u at training time",
		    worker + 1, m->name, w->right[model], results->images,
		    m->expected_right);
	if (w->summary.addresses[model] != m->address)
		add(problems,
		    "worker %u: %s lies at 0x%" PRIx64
		    ", in the controller at 0x%" PRIx64,
		    worker + 1, m->name, w->summary.addresses[model],
		    m->address);
}

/* Two that begin at one address would write over each other. */
static void judge_blocks(const struct dm_results *results,
			 struct dm_problems *problems)
{
	const struct dm_worker_result *w = results->workers;

	for (uint32_t i = 1; i < DM_WORKERS; i++)
		if (w[i].summary.first_block == w[0].summary.first_block)
			add(problems,
			    "workers 1 and %u allocate from the same "
			    "0x%" PRIx64,
			    i + 1, w[0].summary.first_block);
}

static void judge_worker(const struct dm_results *results, uint32_t worker,
			 struct dm_problems *problems)
{
	const struct dm_summary *s = &results->workers[worker].summary;

	if (s->weight_bytes != 0)
		add(problems, "worker %u copied %" PRIu64 " bytes of weights",
		    worker + 1, s->weight_bytes);
	if (!s->read_only)
		add(problems, "worker %u could write the weights", worker + 1);
	if (s->switches != results->switches)
		add(problems, "worker %u switched %u times, not %u", worker + 1,
		    s->switches, results->switches);
	for (uint32_t model = 0; model < DM_MODELS; model++)
		judge_model(results, worker, model, problems);
}

void dm_results_judge(const struct dm_results *results,
		      struct dm_problems *problems_out)
{
	uint64_t bytes = 0;

	problems_out->count = 0;
	for (uint32_t worker = 0; worker < DM_WORKERS; worker++)
		judge_worker(results, worker, problems_out);
	judge_blocks(results, problems_out);
	for (uint32_t model = 0; model < DM_MODELS; model++)
		bytes += results->models[model].bytes;
	if (results->weight_bytes != bytes)
		add(problems_out,
		    "the controller copied %" PRIu64
		    " bytes of weights; the models have %" PRIu64,
		    results->weight_bytes, bytes);
	if (results->labels_differ != 0)
		add(problems_out, "the workers differ in %u answers",
		    results->labels_differ);
}

/* ---- the table ---- */

#define LABEL "%-43s"
#define CELL "%-20s"

struct cell {
	char text[64];
};

static struct cell show_bytes(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	struct cell cell;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
		value /= 1024;
		unit++;
	}
	snprintf(cell.text, sizeof(cell.text), "%.*f %s", unit > 0, value,
		 units[unit]);
	return cell;
}

static struct cell show_time(uint64_t ns)
{
	struct cell cell;

	if (ns < 1000)
		snprintf(cell.text, sizeof(cell.text), "%" PRIu64 " ns", ns);
	else if (ns < 1000000)
		snprintf(cell.text, sizeof(cell.text), "%.1f us",
			 (double)ns / 1e3);
	else
		snprintf(cell.text, sizeof(cell.text), "%.1f ms",
			 (double)ns / 1e6);
	return cell;
}

/* @verdict: NULL: none. */
static void print_row(FILE *out, const char *label,
		      const struct cell cells[DM_WORKERS], const char *verdict)
{
	fprintf(out, LABEL, label);
	for (uint32_t worker = 0; worker + 1 < DM_WORKERS; worker++)
		fprintf(out, CELL, cells[worker].text);
	if (verdict != NULL)
		fprintf(out, CELL "%s\n", cells[DM_WORKERS - 1].text, verdict);
	else
		fprintf(out, "%s\n", cells[DM_WORKERS - 1].text);
}

static void print_workers(FILE *out)
{
	struct cell cells[DM_WORKERS];

	for (uint32_t i = 0; i < DM_WORKERS; i++)
		snprintf(cells[i].text, sizeof(cells[i].text), "worker %u",
			 i + 1);
	print_row(out, "", cells, NULL);
}

static void print_accuracy(const struct dm_results *results, uint32_t model,
			   FILE *out)
{
	const struct dm_model_result *m = &results->models[model];
	struct cell cells[DM_WORKERS];
	char label[64];
	bool same = true;

	snprintf(label, sizeof(label), "%s: right of %u, at training %u",
		 m->name, results->images, m->expected_right);
	for (uint32_t i = 0; i < DM_WORKERS; i++) {
		uint32_t right = results->workers[i].right[model];

		same = same && right == m->expected_right;
		snprintf(cells[i].text, sizeof(cells[i].text), "%u (%.2f %%)",
			 right, 100.0 * right / results->images);
	}
	print_row(out, label, cells, same ? "equal" : "DIFFERENT");
}

static void print_address(const struct dm_results *results, uint32_t model,
			  FILE *out)
{
	const struct dm_model_result *m = &results->models[model];
	struct cell cells[DM_WORKERS];
	char label[64];
	bool same = true;

	snprintf(label, sizeof(label), "%s: address of the weights", m->name);
	for (uint32_t i = 0; i < DM_WORKERS; i++) {
		uint64_t address = results->workers[i].summary.addresses[model];

		same = same && address == m->address;
		snprintf(cells[i].text, sizeof(cells[i].text), "0x%" PRIx64,
			 address);
	}
	print_row(out, label, cells, same ? "equal" : "DIFFERENT");
}

static void print_blocks(const struct dm_results *results, FILE *out)
{
	struct cell cells[DM_WORKERS];
	bool same = false;

	for (uint32_t i = 0; i < DM_WORKERS; i++) {
		uint64_t block = results->workers[i].summary.first_block;

		same = same ||
		       (i > 0 &&
			block == results->workers[0].summary.first_block);
		snprintf(cells[i].text, sizeof(cells[i].text), "0x%" PRIx64,
			 block);
	}
	print_row(out, "address of the first allocation", cells,
		  same ? "THE SAME" : "apart");
}

static void print_copies(const struct dm_results *results, FILE *out)
{
	struct cell weights[DM_WORKERS];
	struct cell inputs[DM_WORKERS];
	struct cell writes[DM_WORKERS];

	for (uint32_t i = 0; i < DM_WORKERS; i++) {
		const struct dm_summary *s = &results->workers[i].summary;

		weights[i] = show_bytes(s->weight_bytes);
		inputs[i] = show_bytes(s->input_bytes);
		snprintf(writes[i].text, sizeof(writes[i].text), "%s",
			 s->read_only ? "refused" : "POSSIBLE");
	}
	print_row(out, "weights copied", weights, NULL);
	print_row(out, "images copied", inputs, NULL);
	print_row(out, "a write to the weights", writes, NULL);
}

static void print_times(const struct dm_results *results, FILE *out)
{
	struct cell attach[DM_WORKERS];
	struct cell alloc[DM_WORKERS];
	struct cell submitted[DM_WORKERS];
	struct cell done[DM_WORKERS];

	for (uint32_t i = 0; i < DM_WORKERS; i++) {
		const struct dm_summary *s = &results->workers[i].summary;

		attach[i] = show_time(s->attach_ns);
		alloc[i] = show_time(s->alloc_ns);
		submitted[i] = show_time(s->submitted_ns);
		done[i] = show_time(s->done_ns);
	}
	print_row(out, "attach: receive to first allocation", attach, NULL);
	print_row(out, "one allocation (median)", alloc, NULL);
	print_row(out, "switch to first kernel submitted (median)", submitted,
		  NULL);
	print_row(out, "switch to first kernel done (median)", done, NULL);
}

static void print_head(const struct dm_results *r, FILE *out)
{
	fprintf(out, "GPU       %s, %s\n", r->gpu_name, r->gpu_uuid);
	fprintf(out, "pool      %s in segments of %s\n",
		show_bytes(r->pool_bytes).text,
		show_bytes(r->segment_bytes).text);
	fprintf(out, "regions   parameter %s, computation %s\n",
		show_bytes(r->parameter_bytes).text,
		show_bytes(r->computation_bytes).text);
	for (uint32_t i = 0; i < DM_MODELS; i++) {
		const struct dm_model_result *m = &r->models[i];

		fprintf(out,
			"model     %s: %u tensors, %s, layout %016" PRIx64
			", at 0x%" PRIx64 "\n",
			m->name, m->tensors, show_bytes(m->bytes).text, m->hash,
			m->address);
	}
	fprintf(out,
		"weights   %s copied to the GPU, once, by the controller\n",
		show_bytes(r->weight_bytes).text);
	fprintf(out, "switches  %u by each worker, %u images by each model\n\n",
		r->switches, r->images);
}

void dm_results_print(const struct dm_results *results,
		      const struct dm_problems *problems, FILE *out)
{
	print_head(results, out);
	print_workers(out);
	for (uint32_t i = 0; i < DM_MODELS; i++)
		print_accuracy(results, i, out);
	for (uint32_t i = 0; i < DM_MODELS; i++)
		print_address(results, i, out);
	print_blocks(results, out);
	print_copies(results, out);
	print_times(results, out);
	fputc('\n', out);
	if (results->simulated)
		fprintf(out, "This was the simulated GPU: the same work and "
			     "the same checks, but its times\nsay nothing "
			     "about a real GPU.\n");
	for (uint32_t i = 0; i < problems->count; i++)
		fprintf(out, "WRONG: %s\n", problems->texts[i]);
	if (problems->count == 0)
		fprintf(out, "All is as it must be: one copy of the weights, "
			     "used by both workers.\n");
}

/* ---- JSON ---- */

static json_t *model_json(const struct dm_model_result *m)
{
	char hash[17];

	snprintf(hash, sizeof(hash), "%016" PRIx64, m->hash);
	return json_pack("{s:s, s:i, s:i, s:I, s:s, s:I}", "name", m->name,
			 "tensors", (int)m->tensors, "expected_right",
			 (int)m->expected_right, "bytes", (json_int_t)m->bytes,
			 "hash", hash, "address", (json_int_t)m->address);
}

static json_t *worker_json(const struct dm_results *results, uint32_t worker)
{
	const struct dm_worker_result *w = &results->workers[worker];
	const struct dm_summary *s = &w->summary;
	json_t *models = json_array();

	for (uint32_t i = 0; i < DM_MODELS; i++)
		json_array_append_new(
			models, json_pack("{s:s, s:i, s:I}", "name",
					  results->models[i].name, "right",
					  (int)w->right[i], "address",
					  (json_int_t)s->addresses[i]));
	return json_pack(
		"{s:o, s:I, s:I, s:I, s:b, s:i, s:i, s:I, s:I, s:I, s:I}",
		"models", models, "first_block", (json_int_t)s->first_block,
		"weight_bytes_copied", (json_int_t)s->weight_bytes,
		"input_bytes_copied", (json_int_t)s->input_bytes,
		"weights_read_only", (int)s->read_only, "switches",
		(int)s->switches, "allocations", (int)s->allocs, "attach_ns",
		(json_int_t)s->attach_ns, "allocation_median_ns",
		(json_int_t)s->alloc_ns, "switch_submitted_median_ns",
		(json_int_t)s->submitted_ns, "switch_done_median_ns",
		(json_int_t)s->done_ns);
}

static json_t *head_json(const struct dm_results *r)
{
	return json_pack("{s:s, s:s, s:b, s:i, s:I, s:I, s:I, s:I, s:I, s:i, "
			 "s:i, s:i}",
			 "gpu", r->gpu_name, "gpu_uuid", r->gpu_uuid,
			 "simulated", r->simulated, "driver_version",
			 r->driver_version, "pool_bytes",
			 (json_int_t)r->pool_bytes, "segment_bytes",
			 (json_int_t)r->segment_bytes, "parameter_bytes",
			 (json_int_t)r->parameter_bytes, "computation_bytes",
			 (json_int_t)r->computation_bytes,
			 "weight_bytes_copied", (json_int_t)r->weight_bytes,
			 "images", (int)r->images, "switches", (int)r->switches,
			 "labels_differ", (int)r->labels_differ);
}

enum ps_status dm_results_write(const struct dm_results *results,
				const struct dm_problems *problems,
				const char *path)
{
	json_t *root = head_json(results);
	json_t *models = json_array();
	json_t *workers = json_array();
	json_t *texts = json_array();
	int written;

	for (uint32_t i = 0; i < DM_MODELS; i++)
		json_array_append_new(models, model_json(&results->models[i]));
	for (uint32_t i = 0; i < DM_WORKERS; i++)
		json_array_append_new(workers, worker_json(results, i));
	for (uint32_t i = 0; i < problems->count; i++)
		json_array_append_new(texts, json_string(problems->texts[i]));
	json_object_set_new(root, "models", models);
	json_object_set_new(root, "workers", workers);
	json_object_set_new(root, "problems", texts);
	json_object_set_new(root, "passed", json_boolean(!problems->count));
	written = json_dump_file(root, path, JSON_INDENT(2));
	json_decref(root);
	if (written != 0)
		return bs_fail_errno("cannot write the results to %s", path);
	return PS_OK;
}
