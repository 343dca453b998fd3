/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How long until poolswitchd has given a client memory?
 *   start     from executing the daemon to its being ready: the whole GPU
 *   grant     ps_mem_alloc() of 1 GiB that the client does not hold: parked
 *             (it has it mapped still), clean (it has to be mapped), and
 *             memory that must be scrubbed first. Beside it what programs do
 *             today, cuMemAlloc() and cuMemFree() of as much; in random order
 *   killed    one client has everything and is killed, another asks for 1 GiB
 *             all the time: from the dead one's pidfd to its allocation
 *   agent     the agent is killed: from there to the next allocation
 *   crowd     one client takes and returns a segment; many do it at once
 *   nuisance  the same client beside some that never pause, and beside one
 *             that is stopped
 */

#include "bench/grant.h"

#include "bench/sample.h"
#include "include/poolswitch.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)
#define NS_PER_US 1e3
#define NS_PER_MS 1e6
/* For clients' contexts and what the bare driver allocates. */
#define HEADROOM "24G"
/* Of 16 GiB; the simulated GPU's memory is this machine's. */
#define SIM_HEADROOM "12G"
#define CROWD 16u
#define SIM_CROWD 256u
#define QUICK_CROWD 4u
#define STORMS 4u
/* At which scrubbing is expected to go, and what may come to it. */
#define SCRUB_BYTES_PER_NS 3000.0
#define SCRUB_EXTRA_NS 5e6

struct setting {
	struct bn_run *run;
	struct bn_random random;
	struct bn_daemon daemon;
	unsigned int samples;
	unsigned int starts;
	unsigned int crowd;
	unsigned int cycles;
	uint64_t segment; /* bytes */
};

static struct bn_figure put(const struct setting *setting, const char *name,
			    const char *metric, double value, const char *unit,
			    uint64_t samples)
{
	const struct bn_figure figure = { .name = name,
					  .metric = metric,
					  .value = value,
					  .unit = unit,
					  .samples = samples };

	bn_figure(setting->run, &figure);
	return figure;
}

static const char *headroom_of(const struct setting *setting)
{
	return setting->run->simulated ? SIM_HEADROOM : HEADROOM;
}

/* ---- clients ---- */

static bool client_start(struct bn_peer *client)
{
	char ready;

	return bn_peer_start("client", -1, client) &&
	       bn_recv(client->socket, &ready, sizeof(ready));
}

static bool client_do(const struct bn_peer *client, enum bn_grant_what what,
		      uint64_t bytes, struct bn_grant_answer *answer_out)
{
	const struct bn_grant_job job = { .what = what, .bytes = bytes };

	return bn_grant_do(client, &job, answer_out);
}

static int open_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* ---- start ---- */

static bool run_start(struct setting *setting)
{
	struct bn_figure figure;
	struct bn_samples samples;
	struct bn_daemon daemon;
	bool ok;

	bn_title("start: the whole GPU less the default headroom");
	ok = bn_samples_init(&samples, setting->starts);
	for (unsigned int i = 0; ok && i < setting->starts; i++) {
		ok = bn_daemon_start(NULL, &daemon);
		if (ok)
			bn_samples_add(&samples, daemon.ready_ns);
		ok = ok && bn_daemon_stop(&daemon);
	}
	if (!ok)
		return false;
	figure = put(setting, "poolswitchd, start", "ready",
		     (double)bn_samples_at(&samples, 0.5) / NS_PER_MS, "ms",
		     samples.count);
	bn_target_most(setting->run, &figure, 1500);
	put(setting, "poolswitchd, start", "ready, largest",
	    (double)bn_samples_at(&samples, 1) / NS_PER_MS, "ms",
	    samples.count);
	bn_samples_done(&samples);
	return true;
}

/* ---- grant ---- */

enum kind { PARKED, CLEAN, SCRUB, BARE, KINDS };

static const char *const kind_names[KINDS] = {
	"grant of 1 GiB, parked",
	"grant of 1 GiB, clean, not mapped here",
	"grant of 1 GiB, to be scrubbed first",
	"cuMemAlloc and cuMemFree, 1 GiB",
};

struct grants {
	struct bn_samples of[KINDS];
	struct bn_samples bare_free;
};

static bool take_parked(const struct bn_peer *client,
			struct bn_grant_answer *answer)
{
	return client_do(client, BN_GRANT_TAKE, GIB, answer) &&
	       client_do(client, BN_GRANT_FREE, 0, answer) &&
	       bn_daemon_wait("parked", GIB, UINT64_MAX) &&
	       client_do(client, BN_GRANT_TAKE, GIB, answer);
}

static bool take_clean(const struct bn_peer *client,
		       struct bn_grant_answer *answer)
{
	return bn_daemon_wait("dirty", 0, 0) &&
	       client_do(client, BN_GRANT_TAKE, GIB, answer);
}

/* All there is is given back at the same time. */
static bool take_dirty(const struct bn_peer *client,
		       struct bn_grant_answer *answer)
{
	return client_do(client, BN_GRANT_TAKE_MOST, GIB, answer) &&
	       client_do(client, BN_GRANT_SWAP, GIB, answer);
}

static bool take_once(const struct bn_peer *client, enum kind kind,
		      struct grants *grants)
{
	struct bn_grant_answer answer, last;
	bool ok = false;

	if (kind == PARKED)
		ok = take_parked(client, &answer);
	else if (kind == CLEAN)
		ok = take_clean(client, &answer);
	else if (kind == SCRUB)
		ok = take_dirty(client, &answer);
	else
		ok = client_do(client, BN_GRANT_BARE, GIB, &answer);
	if (!ok)
		return false;
	bn_samples_add(&grants->of[kind], answer.end_ns - answer.begin_ns);
	if (kind == BARE)
		bn_samples_add(&grants->bare_free, answer.free_ns);
	return client_do(client, BN_GRANT_RETURN, 0, &last) &&
	       bn_daemon_wait("dirty", 0, 0);
}

static void shuffle(struct bn_random *random, enum kind order[KINDS])
{
	enum kind kept;
	uint32_t other;

	for (uint32_t i = KINDS - 1; i > 0; i--) {
		other = bn_random_below(random, i + 1);
		kept = order[i];
		order[i] = order[other];
		order[other] = kept;
	}
}

static bool collect_grants(struct setting *setting,
			   const struct bn_peer *client, struct grants *grants)
{
	enum kind order[KINDS] = { PARKED, CLEAN, SCRUB, BARE };

	for (unsigned int i = 0; i < setting->samples; i++) {
		shuffle(&setting->random, order);
		for (unsigned int k = 0; k < KINDS; k++)
			if (!take_once(client, order[k], grants))
				return false;
	}
	return true;
}

static double us_at(struct bn_samples *samples, double share)
{
	return (double)bn_samples_at(samples, share) / NS_PER_US;
}

static void put_grants(struct setting *setting, struct grants *grants)
{
	static const double bounds_us[] = {
		50, 1000,
		(SCRUB_EXTRA_NS + (double)GIB / SCRUB_BYTES_PER_NS) / NS_PER_US
	};
	struct bn_figure figure;
	double bare = us_at(&grants->of[BARE], 0.5);

	for (unsigned int k = 0; k < KINDS; k++) {
		struct bn_samples *of = &grants->of[k];

		figure = put(setting, kind_names[k], "median", us_at(of, 0.5),
			     "us", of->count);
		if (k != BARE)
			bn_target_most(setting->run, &figure, bounds_us[k]);
		put(setting, kind_names[k], "largest", us_at(of, 1), "us",
		    of->count);
		if (k == BARE)
			continue;
		figure.metric = "faster, by median";
		figure.value = bare / figure.value;
		figure.unit = "times";
		figure.baseline = kind_names[BARE];
		bn_figure(setting->run, &figure);
	}
	put(setting, kind_names[BARE], "then free, median",
	    us_at(&grants->bare_free, 0.5), "us", grants->bare_free.count);
}

static bool grants_init(struct grants *grants, unsigned int room)
{
	bool ok = bn_samples_init(&grants->bare_free, room);

	for (unsigned int k = 0; k < KINDS; k++)
		ok = bn_samples_init(&grants->of[k], room) && ok;
	return ok;
}

static void grants_done(struct grants *grants)
{
	bn_samples_done(&grants->bare_free);
	for (unsigned int k = 0; k < KINDS; k++)
		bn_samples_done(&grants->of[k]);
}

static bool run_grant(struct setting *setting)
{
	struct bn_peer client;
	struct grants grants;
	bool ok;

	bn_title("grant: 1 GiB");
	if (!grants_init(&grants, setting->samples) || !client_start(&client))
		return false;
	ok = collect_grants(setting, &client, &grants);
	ok = bn_peer_join(&client) && ok;
	if (ok)
		put_grants(setting, &grants);
	grants_done(&grants);
	return ok;
}

/* ---- killed ---- */

/* When the client's pidfd is readable; 0: it was not in time. */
static uint64_t kill_client(struct bn_peer *client)
{
	struct pollfd entry = { .fd = open_pidfd(client->pid),
				.events = POLLIN };
	uint64_t fence_ns = 0;

	kill(client->pid, SIGKILL);
	if (poll(&entry, 1, 10000) == 1)
		fence_ns = bn_now_ns();
	close(entry.fd);
	bn_peer_join(client);
	return fence_ns;
}

static bool kill_once(const struct bn_peer *waiter, struct bn_samples *samples)
{
	const struct bn_grant_job job = { .what = BN_GRANT_TAKE_AT_LAST,
					  .bytes = GIB };
	struct bn_grant_answer answer;
	struct bn_peer victim;
	uint64_t fence_ns;

	if (!client_start(&victim) ||
	    !client_do(&victim, BN_GRANT_TAKE_MOST, GIB, &answer) ||
	    !client_do(&victim, BN_GRANT_TAKE_MOST, 2 * MIB, &answer) ||
	    !bn_grant_ask(waiter, &job))
		return false;
	fence_ns = kill_client(&victim);
	if (fence_ns == 0 || !bn_grant_hear(waiter, &answer))
		return false;
	/* It may be served before this process has seen the pidfd. */
	bn_samples_add(samples,
		       answer.end_ns > fence_ns ? answer.end_ns - fence_ns : 0);
	return client_do(waiter, BN_GRANT_RETURN, 0, &answer) &&
	       bn_daemon_wait("dirty", 0, 0) &&
	       bn_daemon_wait("quarantined", 0, 0);
}

static bool run_killed(struct setting *setting)
{
	struct bn_figure figure;
	struct bn_samples samples;
	struct bn_peer waiter;
	bool ok;

	bn_title("killed: from the fence to another's allocation");
	if (!bn_samples_init(&samples, setting->starts) ||
	    !client_start(&waiter))
		return false;
	ok = true;
	for (unsigned int i = 0; ok && i < setting->starts; i++)
		ok = kill_once(&waiter, &samples);
	ok = bn_peer_join(&waiter) && ok;
	if (ok) {
		figure = put(setting, "client killed", "reused after the fence",
			     us_at(&samples, 0.5) / 1000, "ms", samples.count);
		bn_target_most(setting->run, &figure, 5);
		put(setting, "client killed", "reused, largest",
		    us_at(&samples, 1) / 1000, "ms", samples.count);
	}
	bn_samples_done(&samples);
	return ok;
}

/* ---- agent ---- */

static bool kill_agent(const struct bn_peer *client, struct bn_samples *samples)
{
	struct bn_grant_answer answer;
	uint64_t agent, begin;

	if (!bn_daemon_number("version", "agent_pid", &agent))
		return false;
	begin = bn_now_ns();
	kill((pid_t)agent, SIGKILL);
	if (!client_do(client, BN_GRANT_TAKE, GIB, &answer))
		return false;
	bn_samples_add(samples, answer.end_ns - begin);
	return client_do(client, BN_GRANT_RETURN, 0, &answer) &&
	       bn_daemon_wait("dirty", 0, 0);
}

static bool run_agent(struct setting *setting)
{
	struct bn_figure figure;
	struct bn_samples samples;
	struct bn_peer client;
	bool ok;

	bn_title("agent: killed");
	if (!bn_samples_init(&samples, setting->starts) ||
	    !client_start(&client))
		return false;
	ok = true;
	for (unsigned int i = 0; ok && i < setting->starts; i++)
		ok = kill_agent(&client, &samples);
	ok = bn_peer_join(&client) && ok;
	if (ok) {
		figure = put(setting, "agent killed", "next grant",
			     us_at(&samples, 0.5) / 1000, "ms", samples.count);
		bn_target_most(setting->run, &figure, 1500);
		put(setting, "agent killed", "next grant, largest",
		    us_at(&samples, 1) / 1000, "ms", samples.count);
	}
	bn_samples_done(&samples);
	return ok;
}

/* ---- crowd ---- */

struct crowd {
	struct bn_peer client[SIM_CROWD];
	unsigned int count;
};

static bool crowd_open(struct crowd *crowd, unsigned int count)
{
	for (crowd->count = 0; crowd->count < count; crowd->count++)
		if (!client_start(&crowd->client[crowd->count]))
			return false;
	return true;
}

static bool crowd_close(struct crowd *crowd)
{
	bool ok = true;

	while (crowd->count > 0)
		ok = bn_peer_join(&crowd->client[--crowd->count]) && ok;
	return ok;
}

/* All at once; the time that each of their grants took, all in all. */
static bool crowd_work(struct setting *setting, struct crowd *crowd,
		       double *ns_out)
{
	const struct bn_grant_job job = { .what = BN_GRANT_CYCLE,
					  .bytes = setting->segment,
					  .count = setting->cycles };
	uint64_t begin = UINT64_MAX, end = 0, count = 0;
	struct bn_grant_answer answer;

	for (unsigned int i = 0; i < crowd->count; i++)
		if (!bn_grant_ask(&crowd->client[i], &job))
			return false;
	for (unsigned int i = 0; i < crowd->count; i++) {
		if (!bn_grant_hear(&crowd->client[i], &answer))
			return false;
		begin = answer.begin_ns < begin ? answer.begin_ns : begin;
		end = answer.end_ns > end ? answer.end_ns : end;
		count += answer.count;
	}
	*ns_out = (double)(end - begin) / (double)count;
	return true;
}

static bool measure_crowd(struct setting *setting, unsigned int count,
			  const char *name, double *ns_out)
{
	static struct crowd crowd;
	bool ok = crowd_open(&crowd, count) &&
		  crowd_work(setting, &crowd, ns_out);

	ok = crowd_close(&crowd) && ok;
	if (ok)
		put(setting, name, "taken and returned", *ns_out / NS_PER_US,
		    "us", (uint64_t)count * setting->cycles);
	return ok && bn_daemon_wait("dirty", 0, 0);
}

static bool run_crowd(struct setting *setting)
{
	struct bn_figure figure;
	double alone, together;
	char name[BN_NAME_BYTES];

	bn_title("crowd: segments taken and returned, the daemon's time each");
	if (!measure_crowd(setting, 1, "1 client", &alone))
		return false;
	snprintf(name, sizeof(name), "%u clients at once", setting->crowd);
	if (!measure_crowd(setting, setting->crowd, name, &together))
		return false;
	figure = put(setting, name, "of that with 1 client", together / alone,
		     "times", (uint64_t)setting->crowd * setting->cycles);
	bn_target_most(setting->run, &figure, 2);
	return true;
}

/* ---- nuisance ---- */

static bool measure_one(struct setting *setting, const struct bn_peer *client,
			const char *name, double *ns_out)
{
	const struct bn_grant_job job = { .what = BN_GRANT_CYCLE,
					  .bytes = setting->segment,
					  .count = setting->cycles,
					  .rest_us = 1000 };
	struct bn_grant_answer answer;

	if (!bn_grant_do(client, &job, &answer))
		return false;
	put(setting, name, "taken, median",
	    (double)answer.median_ns / NS_PER_US, "us", answer.count);
	put(setting, name, "taken, p99", (double)answer.p99_ns / NS_PER_US,
	    "us", answer.count);
	*ns_out = (double)answer.median_ns;
	return true;
}

static bool beside_storm(struct setting *setting, const struct bn_peer *client,
			 double *ns_out)
{
	const struct bn_grant_job storm = { .what = BN_GRANT_STORM,
					    .bytes = setting->segment };
	static struct crowd crowd;
	bool ok = crowd_open(&crowd, STORMS);

	for (unsigned int i = 0; ok && i < STORMS; i++)
		ok = bn_grant_ask(&crowd.client[i], &storm);
	ok = ok &&
	     measure_one(setting, client, "beside 4 that never pause", ns_out);
	return crowd_close(&crowd) && ok;
}

static bool beside_stopped(struct setting *setting,
			   const struct bn_peer *client, double *ns_out)
{
	struct bn_grant_answer answer;
	struct bn_peer other;
	bool ok;

	if (!client_start(&other))
		return false;
	ok = client_do(&other, BN_GRANT_TAKE, setting->segment, &answer);
	kill(other.pid, SIGSTOP);
	ok = ok &&
	     measure_one(setting, client, "beside one that is stopped", ns_out);
	kill(other.pid, SIGCONT);
	return bn_peer_join(&other) && ok;
}

static void put_ratio(struct setting *setting, const char *name, double ratio)
{
	put(setting, name, "of that alone", ratio, "times", setting->cycles);
}

static bool run_nuisance(struct setting *setting)
{
	double alone, storm, stopped;
	struct bn_peer client;
	bool ok;

	bn_title("nuisance: one client's grants of a segment");
	if (!client_start(&client))
		return false;
	ok = measure_one(setting, &client, "alone", &alone) &&
	     beside_storm(setting, &client, &storm) &&
	     beside_stopped(setting, &client, &stopped);
	if (ok) {
		put_ratio(setting, "beside 4 that never pause", storm / alone);
		put_ratio(setting, "beside one that is stopped",
			  stopped / alone);
	}
	return bn_peer_join(&client) && ok;
}

/* ---- */

static bool run_served(struct setting *setting)
{
	bool ok = bn_daemon_start(headroom_of(setting), &setting->daemon);

	if (!ok)
		return false;
	ok = bn_daemon_number("pool", "segment_bytes", &setting->segment) &&
	     run_grant(setting) && run_killed(setting) && run_agent(setting) &&
	     run_crowd(setting) && run_nuisance(setting);
	return bn_daemon_stop(&setting->daemon) && ok;
}

static bool measure(struct bn_run *run)
{
	struct setting setting = { .run = run,
				   .samples = 50,
				   .starts = 20,
				   .crowd = run->simulated ? SIM_CROWD : CROWD,
				   .cycles = 200 };

	if (run->options.quick) {
		setting.samples = setting.starts = 2;
		setting.crowd = QUICK_CROWD;
		setting.cycles = 10;
	}
	bn_random_seed(&setting.random, run->options.seed);
	return run_start(&setting) && run_served(&setting);
}

int main(int argc, char **argv)
{
	return bn_main(argc, argv, "grant",
		       "How long until poolswitchd has given a client memory?",
		       measure, bn_grant_role);
}
