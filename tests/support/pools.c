/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/pools.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ENDS (2 * TH_WORKERS + 2 * (TH_WORKERS + 1))

static void probe(void *arg)
{
	struct ps_pool *pool;
	struct ps_pool_config *config = th_config(PS_SHARE_VMM);
	enum ps_status status = ps_alloc_shared(config, &pool);

	(void)arg;
	if (status == PS_NO_DRIVER || status == PS_NO_DEVICE)
		_exit(77);
	if (status != PS_OK)
		fail_msg("%s", ps_error_detail());
	ps_pool_close(pool);
	ps_pool_config_free(config);
}

int th_gpu_main(const char *suite, const struct th_test *tests, size_t count,
		void (*warm_up)(void), int argc, char **argv)
{
	const char *driver = getenv("POOLSWITCH_DRIVER");
	bool real = driver == NULL || strcmp(driver, "sim") != 0;

	if (real && th_wait(th_fork(probe, NULL)) == 77) {
		printf("%s: no GPU here\n", suite);
		return getenv("TH_NO_SKIP") != NULL ? 1 : 77;
	}
	return th_main(suite, tests, count, warm_up, argc, argv);
}

/* ---- pools ---- */

void th_warm_up_cuda(void)
{
	struct ps_pool *pool = th_reserve();

	th_insert(pool, 0, 1);
	assert_int_equal(ps_mem_free(pool, th_alloc(pool, 1)), PS_OK);
	ps_pool_close(pool);
}

struct ps_pool_config *th_config(enum ps_share_mode mode)
{
	struct ps_pool_config *config;

	th_assert_ok(ps_pool_config_new(&config));
	ps_pool_config_set_size(config, TH_SEGMENTS * TH_SEGMENT);
	ps_pool_config_set_segment_size(config, TH_SEGMENT);
	ps_pool_config_set_parameter_size(config, TH_PARAMETERS * TH_SEGMENT);
	ps_pool_config_set_mode(config, mode);
	return config;
}

struct ps_pool *th_reserve_mode(enum ps_share_mode mode)
{
	struct ps_pool_config *config = th_config(mode);
	struct ps_pool *pool;

	th_assert_ok(ps_alloc_shared(config, &pool));
	ps_pool_config_free(config);
	return pool;
}

struct ps_pool *th_reserve(void)
{
	return th_reserve_mode(PS_SHARE_VMM);
}

void th_send(struct ps_pool *pool, int socket, unsigned int flags)
{
	th_assert_ok(ps_send_shared(pool, socket, flags, PS_TIMEOUT_DEFAULT));
}

struct ps_pool *th_receive(int socket)
{
	struct ps_pool *pool;

	th_assert_ok(ps_recv_shared(socket, 0, PS_TIMEOUT_DEFAULT, &pool));
	return pool;
}

void th_insert(struct ps_pool *pool, uint64_t first, uint64_t count)
{
	th_assert_ok(ps_insert_shared(pool, count * TH_SEGMENT,
				      first * TH_SEGMENT, PS_ANY_STREAM, 0));
}

void *th_alloc(struct ps_pool *pool, size_t size)
{
	void *ptr;

	th_assert_ok(ps_mem_alloc(pool, size, &ptr));
	return ptr;
}

struct ps_mem_stats th_stats(struct ps_pool *pool)
{
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };

	th_assert_ok(ps_mem_get_stats(pool, &stats));
	return stats;
}

void th_put(struct ps_pool *pool, void *at, uint32_t word)
{
	th_assert_ok(ps_mem_write(pool, at, &word, sizeof(word)));
}

uint32_t th_get(struct ps_pool *pool, const void *at)
{
	uint32_t word;

	th_assert_ok(ps_mem_read(pool, &word, at, sizeof(word)));
	return word;
}

void th_assert_detail(const char *part)
{
	if (strstr(ps_error_detail(), part) == NULL)
		fail_msg("\"%s\" is not in the detail: %s", part,
			 ps_error_detail());
}

/* ---- processes ---- */

/* All the socket ends of a play, and whose they are. */
struct ends {
	int link[TH_WORKERS][2]; /* controller, worker */
	int controller_test[2];  /* controller, test */
	int worker_test[TH_WORKERS][2];
};

static void make_ends(struct ends *ends, int type)
{
	th_socketpair(SOCK_STREAM, ends->controller_test);
	for (int i = 0; i < TH_WORKERS; i++) {
		th_socketpair(type, ends->link[i]);
		th_socketpair(SOCK_STREAM, ends->worker_test[i]);
	}
}

/* Closes all ends but those in @keep, which -1 ends. */
static void close_ends(const struct ends *ends, const int *keep)
{
	int all[ENDS];

	memcpy(all, ends, sizeof(all));
	for (size_t i = 0; i < ENDS; i++) {
		const int *k = keep;

		while (*k != -1 && *k != all[i])
			k++;
		if (*k == -1)
			close(all[i]);
	}
}

struct entrance {
	th_role *role;
	struct th_part part;
	const struct ends *ends;
};

static void enter(void *arg)
{
	const struct entrance *entrance = arg;
	const int *link = entrance->part.link;
	const int keep[] = { entrance->part.test, link[0],
			     link[1] == -1 ? link[0] : link[1], -1 };

	close_ends(entrance->ends, keep);
	entrance->role(&entrance->part);
}

static pid_t fork_role(th_role *role, struct th_part part,
		       const struct ends *ends)
{
	struct entrance entrance = { role, part, ends };

	return role == NULL ? -1 : th_fork(enter, &entrance);
}

void th_stage_open(struct th_stage *stage, const struct th_cast *cast)
{
	struct ends ends;

	make_ends(&ends, cast->type == 0 ? SOCK_STREAM : cast->type);
	stage->controller = fork_role(
		cast->controller,
		(struct th_part){ { ends.link[0][0], ends.link[1][0] },
				  ends.controller_test[0] },
		&ends);
	stage->controller_link = ends.controller_test[1];
	for (int i = 0; i < TH_WORKERS; i++) {
		stage->worker[i] =
			fork_role(cast->worker[i],
				  (struct th_part){ { ends.link[i][1], -1 },
						    ends.worker_test[i][0] },
				  &ends);
		stage->worker_link[i] = ends.worker_test[i][1];
	}
	close_ends(&ends,
		   (const int[]){ stage->controller_link, stage->worker_link[0],
				  stage->worker_link[1], -1 });
}

void th_stage_kill(pid_t *pid)
{
	th_kill(*pid);
	*pid = -1;
}

static void end_part(pid_t pid, int link)
{
	if (pid != -1)
		assert_int_equal(th_wait(pid), 0);
	close(link);
}

void th_stage_close(struct th_stage *stage)
{
	end_part(stage->controller, stage->controller_link);
	for (int i = 0; i < TH_WORKERS; i++)
		end_part(stage->worker[i], stage->worker_link[i]);
}

void th_play(th_role *controller, th_role *worker)
{
	const struct th_cast cast = { controller, { worker, NULL }, 0 };
	struct th_stage stage;

	th_stage_open(&stage, &cast);
	th_stage_close(&stage);
}

void th_tell(int socket)
{
	if (send(socket, "!", 1, MSG_NOSIGNAL) != 1)
		fail_msg("the other process is gone: %s", strerror(errno));
}

void th_await(int socket)
{
	char byte;

	if (recv(socket, &byte, 1, 0) != 1)
		fail_msg("the other process ended before it said so");
}
