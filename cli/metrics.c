/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "cli/metrics.h"

#include "cli/exit.h"
#include "cli/text.h"

#include <string.h>
#include <sysexits.h>

/* One number of the status, or one a client. */
struct metric {
	const char *name;
	const char *type;
	const char *help;
	const char *path;
};

/* Several numbers that differ in a label, or in how often a word occurs. */
struct choice {
	const char *name;
	const char *help;
	const char *label;
	const char *path; /* of the object, or of the text */
	const char *const *values;
};

#define GAUGE "gauge"
#define COUNTER "counter"

static const struct metric numbers[] = {
	{ "poolswitch_uptime_seconds", GAUGE,
	  "Seconds since the daemon's agent started", "uptime" },
	{ "poolswitch_gpu_free_bytes", GAUGE,
	  "Memory of the GPU that is free outside the pool", "gpu.free" },
	{ "poolswitch_pool_bytes", GAUGE, "Size of the pool", "pool.bytes" },
	{ "poolswitch_segment_bytes", GAUGE, "Size of one segment",
	  "pool.segment_bytes" },
	{ "poolswitch_parameter_bytes", GAUGE, "Size of the parameter region",
	  "regions.parameter.bytes" },
	{ "poolswitch_guaranteed_bytes", GAUGE,
	  "Computation region that reservations keep for their owners",
	  "regions.computation.guaranteed" },
	{ "poolswitch_grants_total", COUNTER, "Requests for segments granted",
	  "counters.grants" },
	{ "poolswitch_denials_total", COUNTER, "Requests for segments denied",
	  "counters.denials" },
	{ "poolswitch_recalls_total", COUNTER,
	  "Times clients were asked for idle segments", "counters.recalls" },
	{ "poolswitch_reclaims_total", COUNTER,
	  "Dead clients whose segments were taken back", "counters.reclaims" },
	{ "poolswitch_scrubs_total", COUNTER, "Segments filled with zeros",
	  "counters.scrubs" },
	{ "poolswitch_remakes_total", COUNTER,
	  "Segments destroyed and created anew", "counters.remakes" },
	{ "poolswitch_attached_total", COUNTER, "Clients that attached",
	  "counters.attached" },
	{ "poolswitch_resumed_total", COUNTER,
	  "Clients that connected again and were recognised",
	  "counters.resumed" },
	{ "poolswitch_refused_total", COUNTER,
	  "Connections refused, or ended for a bad message",
	  "counters.refused" },
	{ "poolswitch_throttled_total", COUNTER,
	  "Times a client was left waiting by the limit of messages",
	  "counters.throttled" },
	{ "poolswitch_stuck_total", COUNTER,
	  "Connections ended because the client did not read",
	  "counters.stuck" },
	{ "poolswitch_keeper_starts_total", COUNTER,
	  "Keepers that this agent started", "counters.keeper_starts" },
	{ "poolswitch_messages_total", COUNTER, "Messages received",
	  "counters.messages" },
};

static const char *const states[] = { "serving", "draining", "lost", NULL };
static const char *const uses[] = {
	"leased",   "parked",      "outside", "clean", "dirty",
	"remaking", "quarantined", "other",   NULL,
};
static const char *const presences[] = { "here", "away", "dead", NULL };

static const struct choice state = { "poolswitch_state",
				     "1 for the state that the daemon is in",
				     "state", "state", states };
static const struct choice use = {
	"poolswitch_computation_bytes",
	"Computation region by what it is used for; the values add up to it",
	"use", "regions.computation", uses
};
static const struct choice presence = { "poolswitch_clients",
					"Clients by whether they are there",
					"presence", "clients", presences };

static const struct metric of_clients[] = {
	{ "poolswitch_client_leased_bytes", GAUGE, "Leased and in use",
	  "leased" },
	{ "poolswitch_client_parked_bytes", GAUGE, "Mapped by it, not in use",
	  "parked" },
	{ "poolswitch_client_outside_bytes", GAUGE,
	  "Room for what it has from the driver", "outside" },
	{ "poolswitch_client_opened_bytes", GAUGE,
	  "Of other clients, open by tickets", "opened" },
	{ "poolswitch_client_quarantined_bytes", GAUGE,
	  "Held back until its end is certain", "quarantined" },
	{ "poolswitch_client_live_bytes", GAUGE, "In blocks, as it says",
	  "live" },
	{ "poolswitch_client_cached_bytes", GAUGE,
	  "Free in its allocator, as it says", "cached" },
	{ "poolswitch_client_passed_bytes", GAUGE,
	  "Asked of the driver instead of the pool, as it says", "passed" },
	{ "poolswitch_client_blocks", GAUGE, "Live blocks, as it says",
	  "blocks" },
	{ "poolswitch_client_reservation_bytes", GAUGE, "Guaranteed to it",
	  "reservation" },
	{ "poolswitch_client_limit_bytes", GAUGE, "At most", "limit" },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- making ---- */

/* A new metric in @metrics; its samples, which belong to it. */
static json_t *add_metric(json_t *metrics, const char *name, const char *type,
			  const char *help)
{
	json_t *samples = json_array();

	json_array_append_new(metrics, json_pack("{s:s, s:s, s:s, s:O}", "name",
						 name, "type", type, "help",
						 help, "samples", samples));
	json_decref(samples);
	return samples;
}

/* @labels: taken over. */
static void add_sample(json_t *samples, json_t *labels, json_t *value)
{
	json_array_append_new(samples, json_pack("{s:o, s:o}", "labels", labels,
						 "value", value));
}

static json_t *value_at(const json_t *object, const char *path)
{
	const json_t *value = cl_json_at(object, path);

	if (json_is_real(value))
		return json_real(json_real_value(value));
	return json_integer((json_int_t)cl_json_number(object, path));
}

static void add_numbers(json_t *metrics, const json_t *status)
{
	const struct metric *metric;
	json_t *samples;
	size_t i;

	for (i = 0; i < COUNT(numbers); i++) {
		metric = &numbers[i];
		/* An older daemon does not count it. */
		if (!cl_json_at(status, metric->path))
			continue;
		samples = add_metric(metrics, metric->name, metric->type,
				     metric->help);
		add_sample(samples, json_object(),
			   value_at(status, metric->path));
	}
}

/* How often the clients' field @key is @value. */
static uint64_t count_clients(const json_t *clients, const char *key,
			      const char *value)
{
	const json_t *client;
	uint64_t count = 0;
	size_t i;

	json_array_foreach(clients, i, client) count +=
		strcmp(cl_json_text(client, key), value) == 0;
	return count;
}

static void add_choice(json_t *metrics, const json_t *status,
		       const struct choice *choice)
{
	const json_t *where = cl_json_at(status, choice->path);
	const char *const *value;
	json_t *samples;
	uint64_t n;

	samples = add_metric(metrics, choice->name, GAUGE, choice->help);
	for (value = choice->values; *value; value++) {
		if (json_is_array(where))
			n = count_clients(where, choice->label, *value);
		else if (json_is_object(where))
			n = cl_json_number(where, *value);
		else
			n = strcmp(cl_json_text(status, choice->path),
				   *value) == 0;
		add_sample(samples, json_pack("{s:s}", choice->label, *value),
			   json_integer((json_int_t)n));
	}
}

/* Labels of a client; ids are the daemon's, so no two are alike. */
static json_t *client_labels(const json_t *client)
{
	char pid[24], uid[24], name[65];

	snprintf(pid, sizeof(pid), "%llu",
		 (unsigned long long)cl_json_number(client, "pid"));
	snprintf(uid, sizeof(uid), "%llu",
		 (unsigned long long)cl_json_number(client, "uid"));
	cl_plain(cl_json_text(client, "name"), name, sizeof(name));
	return json_pack("{s:s, s:s, s:s, s:s}", "id",
			 cl_json_text(client, "id"), "name", name, "pid", pid,
			 "uid", uid);
}

static void add_clients(json_t *metrics, const json_t *clients)
{
	const struct metric *metric;
	const json_t *client;
	json_t *samples;
	size_t i, j;

	for (i = 0; i < COUNT(of_clients); i++) {
		metric = &of_clients[i];
		samples = add_metric(metrics, metric->name, metric->type,
				     metric->help);
		json_array_foreach(clients, j, client)
			add_sample(samples, client_labels(client),
				   value_at(client, metric->path));
	}
}

static json_t *info_labels(const json_t *status)
{
	return json_pack("{s:s, s:s, s:s}", "gpu",
			 cl_json_text(status, "gpu.uuid"), "protocol",
			 cl_json_text(status, "protocol"), "version",
			 cl_json_text(status, "version"));
}

json_t *cl_metrics_of(const json_t *status)
{
	json_t *metrics = json_array();
	json_t *samples;

	samples = add_metric(metrics, "poolswitch_up", GAUGE,
			     "1 when the daemon answers");
	add_sample(samples, json_object(), json_integer(status != NULL));
	if (!status)
		return metrics;
	samples = add_metric(metrics, "poolswitch_info", GAUGE,
			     "Versions, and the GPU; always 1");
	add_sample(samples, info_labels(status), json_integer(1));
	add_choice(metrics, status, &state);
	add_numbers(metrics, status);
	add_choice(metrics, status, &use);
	add_choice(metrics, status, &presence);
	add_clients(metrics, cl_json_at(status, "clients"));
	return metrics;
}

/* ---- printing ---- */

static void print_label(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n') {
			fputs("\\n", out);
			continue;
		}
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void print_labels(FILE *out, json_t *labels)
{
	const char *before = "{";
	const char *key;
	json_t *value;

	json_object_foreach(labels, key, value)
	{
		fprintf(out, "%s%s=\"", before, key);
		print_label(out, json_string_value(value));
		fputc('"', out);
		before = ",";
	}
	if (json_object_size(labels) > 0)
		fputc('}', out);
}

static void print_sample(FILE *out, const char *name, const json_t *sample)
{
	const json_t *value = json_object_get(sample, "value");

	fputs(name, out);
	print_labels(out, json_object_get(sample, "labels"));
	if (json_is_real(value))
		fprintf(out, " %.3f\n", json_real_value(value));
	else
		fprintf(out, " %lld\n", (long long)json_integer_value(value));
}

void cl_metrics_print(FILE *out, const json_t *metrics)
{
	const json_t *metric, *sample;
	const char *name;
	size_t i, j;

	json_array_foreach(metrics, i, metric)
	{
		name = cl_json_text(metric, "name");
		fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name,
			cl_json_text(metric, "help"), name,
			cl_json_text(metric, "type"));
		json_array_foreach(json_object_get(metric, "samples"), j,
				   sample) print_sample(out, name, sample);
	}
}

static int run(const struct cl_options *options)
{
	json_t *status, *metrics;
	int code;

	if (options->listen)
		return cl_metrics_serve(options);
	code = cl_ask(options, PS_ASK_STATUS, &status);
	if (code != EX_OK)
		return code;
	metrics = cl_metrics_of(status);
	if (options->is_json)
		cl_json_print(stdout, metrics);
	else
		cl_metrics_print(stdout, metrics);
	json_decref(metrics);
	json_decref(status);
	return cl_end(EX_OK);
}

const struct cl_command cl_metrics = {
	.name = "metrics",
	.summary = "the daemon's numbers for Prometheus",
	.text = "Prints the daemon's numbers in the text format of Prometheus, "
		"or serves them over HTTP on a loopback address.",
	.takes = CL_TAKES_LISTEN,
	.run = run,
};
