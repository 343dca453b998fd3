/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A client of the daemon in bench/grant. */
#include "bench/grant.h"

#include "bench/gpu.h"
#include "bench/sample.h"
#include "include/poolswitch.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCKS_MAX 4096u
#define PATIENCE_NS UINT64_C(10000000000)

struct client {
	struct ps_pool *pool;
	int socket;
	void *block[BLOCKS_MAX];
	uint32_t blocks;
};

static bool take(struct client *client, uint64_t bytes,
		 struct bn_grant_answer *answer)
{
	answer->begin_ns = bn_now_ns();
	if (ps_mem_alloc(client->pool, bytes, &client->block[0]) != PS_OK)
		return false;
	answer->end_ns = bn_now_ns();
	client->blocks = 1;
	return true;
}

static bool take_at_last(struct client *client, uint64_t bytes,
			 struct bn_grant_answer *answer)
{
	uint64_t end = bn_now_ns() + PATIENCE_NS;

	while (!take(client, bytes, answer))
		if (bn_now_ns() > end)
			return false;
	return true;
}

static bool free_all(struct client *client)
{
	bool ok = true;

	while (client->blocks > 0)
		ok = ps_mem_free(client->pool,
				 client->block[--client->blocks]) == PS_OK &&
		     ok;
	return ok;
}

static bool give_back(struct client *client)
{
	uint64_t released;

	return free_all(client) &&
	       ps_mem_trim(client->pool, 0, &released) == PS_OK;
}

static bool take_most(struct client *client, uint64_t bytes,
		      struct bn_grant_answer *answer)
{
	while (client->blocks < BLOCKS_MAX &&
	       ps_mem_alloc(client->pool, bytes,
			    &client->block[client->blocks]) == PS_OK)
		client->blocks++;
	answer->count = client->blocks;
	return client->blocks > 0;
}

static bool take_bare(uint64_t bytes, struct bn_grant_answer *answer)
{
	struct dv_device *device = bn_gpu_device();
	uint64_t address;

	answer->begin_ns = bn_now_ns();
	if (dv_legacy_alloc(device, bytes, &address) != PS_OK)
		return false;
	answer->end_ns = bn_now_ns();
	if (dv_legacy_free(device, address) != PS_OK)
		return false;
	answer->free_ns = bn_now_ns() - answer->end_ns;
	return true;
}

static void rest(uint32_t us)
{
	const struct timespec time = { us / 1000000,
				       (long)(us % 1000000) * 1000 };

	if (us > 0)
		nanosleep(&time, NULL);
}

static bool cycle(struct client *client, const struct bn_grant_job *job,
		  struct bn_grant_answer *answer)
{
	struct bn_grant_answer one = { 0 };
	struct bn_samples samples;
	bool ok = bn_samples_init(&samples, job->count);
	uint64_t begin = bn_now_ns();

	for (uint32_t i = 0; ok && i < job->count; i++) {
		rest(job->rest_us);
		ok = take(client, job->bytes, &one);
		if (ok)
			bn_samples_add(&samples, one.end_ns - one.begin_ns);
		ok = ok && give_back(client);
	}
	answer->begin_ns = begin;
	answer->end_ns = bn_now_ns();
	answer->median_ns = bn_samples_at(&samples, 0.5);
	answer->p99_ns = bn_samples_at(&samples, 0.99);
	answer->count = samples.count;
	bn_samples_done(&samples);
	return ok;
}

/* Nobody waits for it; it ends with the other end of the socket. */
static bool storm(struct client *client, const struct bn_grant_job *job)
{
	struct pollfd entry = { .fd = client->socket, .events = POLLIN };
	struct bn_grant_answer answer;

	while (poll(&entry, 1, 0) == 0)
		if (!take(client, job->bytes, &answer) || !give_back(client))
			return false;
	return true;
}

static bool work(struct client *client, const struct bn_grant_job *job,
		 struct bn_grant_answer *answer)
{
	switch (job->what) {
	case BN_GRANT_TAKE:
		return take(client, job->bytes, answer);
	case BN_GRANT_TAKE_AT_LAST:
		return take_at_last(client, job->bytes, answer);
	case BN_GRANT_FREE:
		return free_all(client);
	case BN_GRANT_RETURN:
		return give_back(client);
	case BN_GRANT_TAKE_MOST:
		return take_most(client, job->bytes, answer);
	case BN_GRANT_SWAP:
		return give_back(client) && take(client, job->bytes, answer);
	case BN_GRANT_BARE:
		return take_bare(job->bytes, answer);
	case BN_GRANT_CYCLE:
		return cycle(client, job, answer);
	default:
		return false;
	}
}

static bool serve(struct client *client)
{
	struct bn_grant_answer answer;
	struct bn_grant_job job;

	while (bn_recv(client->socket, &job, sizeof(job))) {
		if (job.what == BN_GRANT_STORM)
			return storm(client, &job);
		memset(&answer, 0, sizeof(answer));
		if (!work(client, &job, &answer)) {
			bn_complain("job %u", job.what);
			return false;
		}
		if (!bn_send(client->socket, &answer, sizeof(answer)))
			return false;
	}
	return true;
}

int bn_grant_role(const struct bn_options *options)
{
	static struct client client;
	const char ready = 0;
	bool ok;
	int link;

	if (!bn_role_is(options, "client", &client.socket, &link)) {
		fprintf(stderr, "bench: unknown role \"%s\"\n", options->role);
		return EXIT_FAILURE;
	}
	ok = bn_gpu_open(NULL, NULL) && ps_attach(NULL, &client.pool) == PS_OK;
	if (!ok) {
		bn_complain("attaching");
		return EXIT_FAILURE;
	}
	ok = bn_send(client.socket, &ready, sizeof(ready)) && serve(&client);
	ps_pool_close(client.pool);
	bn_gpu_close();
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- the other end ---- */

bool bn_grant_ask(const struct bn_peer *client, const struct bn_grant_job *job)
{
	return bn_send(client->socket, job, sizeof(*job));
}

bool bn_grant_hear(const struct bn_peer *client,
		   struct bn_grant_answer *answer_out)
{
	return bn_recv(client->socket, answer_out, sizeof(*answer_out));
}

bool bn_grant_do(const struct bn_peer *client, const struct bn_grant_job *job,
		 struct bn_grant_answer *answer_out)
{
	return bn_grant_ask(client, job) && bn_grant_hear(client, answer_out);
}
