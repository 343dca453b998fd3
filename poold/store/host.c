/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The threads that make host copies. Each copy has a leader, which reads the
 * headers and gets the memory, and helpers from then on. All of them take
 * chunk after chunk, read it, hash it; the last one to end finishes the copy.
 *
 * Invariants
 *   A job is its threads': it is freed by the last of them. It is on the list
 *   until it is finished or stopped; who takes it off decides whether it is
 *   published.
 *   After a failure or a stop no chunk is begun.
 *   A chunk's hash is of the bytes in the copy, behind the read of them.
 */
#include "poold/store/host_parts.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/status.h"
#include "model/hash.h"

/* More hardly read faster. */
#define THREADS_MAX 16u
#define STACK_BYTES (512u << 10)

/* For those that are stuck, at the end. */
#define FREE_WAIT_S 1

#define WAKE_TRIES 100

struct job {
	struct job *next; /* guarded by the lock */
	struct pd_hosts *hosts;

	/* Immutable. */
	uint32_t model;
	uint32_t serial;
	uint64_t room;
	bool has_want;
	uint8_t want[MD_HASH_BYTES];

	/* The leader's; immutable once there are helpers. */
	struct pd_host_files files;
	uint64_t chunks;
	uint8_t *hashes; /* each its chunk's; of who has the chunk */
	struct pd_host_made made;

	_Atomic(uint64_t) chunk; /* the next that nobody has */
	_Atomic(uint64_t) done;  /* bytes read */
	_Atomic(uint64_t) all;   /* of so many; 0: not known yet */
	_Atomic(bool) is_stopped;

	/* Guarded by the lock. */
	unsigned int crew; /* threads */
	unsigned int helpers;
};

/* What is unmapped and closed on a thread. */
struct discard {
	struct pd_hosts *hosts;
	void *memory;
	uint64_t bytes;
	int copy;
};

struct pd_hosts {
	int event;
	_Atomic(unsigned int) refs; /* the caller's, and each thread's */

	/* Guarded by lock. */
	struct bs_lock lock;
	pthread_cond_t idle;  /* no thread is left */
	struct job *jobs;     /* that are being made */
	struct job *ready;    /* made, in order */
	unsigned int spare;   /* helpers that may start */
	unsigned int threads; /* of all kinds */
};

/* ---- threads ---- */

static void unref(struct pd_hosts *hosts)
{
	if (atomic_fetch_sub(&hosts->refs, 1) > 1)
		return;
	pthread_cond_destroy(&hosts->idle);
	bs_lock_done(&hosts->lock);
	free(hosts);
}

static int start_detached(void *(*run)(void *arg), void *arg)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int error = pthread_attr_init(&attributes);

	if (error != 0)
		return error;
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attributes, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return error;
}

/* The thread touches nothing of ours behind it. */
static void thread_ends(struct pd_hosts *hosts)
{
	bs_lock_take(&hosts->lock);
	hosts->threads--;
	if (hosts->threads == 0)
		pthread_cond_signal(&hosts->idle);
	bs_lock_drop(&hosts->lock);
	unref(hosts);
}

/* 0 or an errno. The thread ends with thread_ends(). */
static int start_thread(struct pd_hosts *hosts, void *(*run)(void *arg),
			void *arg)
{
	int error;

	bs_lock_take(&hosts->lock);
	hosts->threads++;
	bs_lock_drop(&hosts->lock);
	atomic_fetch_add(&hosts->refs, 1);
	error = start_detached(run, arg);
	if (error != 0)
		thread_ends(hosts);
	return error;
}

/* ---- a job's end ---- */

/* Gives up what was made; the words stay. */
static void clear_made(struct pd_host_made *made)
{
	pd_host_layout_done(&made->layout);
	pd_host_unmap(made->memory, made->bytes);
	if (made->copy >= 0)
		close(made->copy);
	if (made->manifest >= 0)
		close(made->manifest);
	made->memory = NULL;
	made->copy = -1;
	made->manifest = -1;
	made->bytes = 0;
	made->tensors = 0;
}

/* pre: no thread has it, it is on no list. */
static void free_job(struct job *job)
{
	clear_made(&job->made);
	pd_host_files_done(&job->files);
	free(job->hashes);
	free(job);
}

/* Takes it off a list; false: it is not there. pre: the lock is held. */
static bool unlink_locked(struct job **list, const struct job *job)
{
	for (; *list != NULL; list = &(*list)->next) {
		if (*list != job)
			continue;
		*list = job->next;
		return true;
	}
	return false;
}

/* A write that fails is made again: without it the loop would never look. When
 * none gets through, the keeper starts another agent. */
static void wake_loop(const struct pd_hosts *hosts)
{
	const uint64_t one = 1;

	for (int i = 0; i < WAKE_TRIES; i++)
		if (write(hosts->event, &one, sizeof(one)) == sizeof(one))
			return;
	abort();
}

static void publish(struct job *job)
{
	struct pd_hosts *hosts = job->hosts;
	struct job **last = &hosts->ready;
	bool is_wanted;

	bs_lock_take(&hosts->lock);
	is_wanted = unlink_locked(&hosts->jobs, job);
	if (is_wanted) {
		while (*last != NULL)
			last = &(*last)->next;
		job->next = NULL;
		*last = job;
		wake_loop(hosts);
	}
	bs_lock_drop(&hosts->lock);
	if (!is_wanted)
		free_job(job);
}

/* Keeps the first failure, with the calling thread's text. */
static void note_failure(struct job *job, enum ps_status status)
{
	bs_lock_take(&job->hosts->lock);
	if (job->made.status == PS_OK) {
		job->made.status = status;
		strncpy(job->made.text, bs_fail_text(),
			sizeof(job->made.text) - 1);
	}
	bs_lock_drop(&job->hosts->lock);
	atomic_store(&job->is_stopped, true);
}

/* pre: every chunk is filled and hashed. */
static enum ps_status make_manifest(struct job *job)
{
	struct md_manifest manifest = {
		.tensors = job->files.tensors,
		.count = job->files.count,
		.bytes = job->files.bytes,
	};
	struct pd_host_made *made = &job->made;
	enum ps_status status;

	md_hash_model(manifest.tensors, manifest.count, manifest.bytes,
		      job->hashes, manifest.hash);
	if (job->has_want &&
	    memcmp(manifest.hash, job->want, MD_HASH_BYTES) != 0)
		return bs_fail(PS_MODEL_MISMATCH,
			       "the files have other contents than when the "
			       "model was added: remove it and add it again");
	status = pd_host_manifest_make(&manifest, &made->manifest);
	if (status == PS_OK)
		status = pd_host_layout_map(made->manifest, &made->layout);
	made->tensors = (uint32_t)manifest.count;
	memcpy(made->hash, manifest.hash, MD_HASH_BYTES);
	return status;
}

/* pre: of its threads only the caller is left. */
static void finish(struct job *job)
{
	enum ps_status status = PS_OK;

	if (!atomic_load(&job->is_stopped))
		status = pd_host_files_check(&job->files);
	if (!atomic_load(&job->is_stopped) && status == PS_OK)
		status = make_manifest(job);
	if (status != PS_OK)
		note_failure(job, status);
	if (job->made.status != PS_OK)
		clear_made(&job->made);
	/* Here, and not on the loop's thread: a close may take long. */
	pd_host_files_done(&job->files);
	publish(job);
}

/* ---- its threads ---- */

static enum ps_status fill_chunk(struct job *job, uint64_t chunk)
{
	uint64_t start = chunk * MD_CHUNK_BYTES;
	uint64_t bytes = job->files.bytes - start;
	uint8_t *memory = (uint8_t *)job->made.memory + start;
	enum ps_status status;

	if (bytes > MD_CHUNK_BYTES)
		bytes = MD_CHUNK_BYTES;
	status = pd_host_files_fill(&job->files, start, bytes, memory,
				    &job->done, &job->is_stopped);
	if (status == PS_OK)
		md_hash_chunk(memory, (size_t)bytes,
			      job->hashes + chunk * MD_HASH_BYTES);
	return status;
}

static void fill(struct job *job)
{
	while (!atomic_load(&job->is_stopped)) {
		uint64_t chunk = atomic_fetch_add(&job->chunk, 1);
		enum ps_status status;

		if (chunk >= job->chunks)
			return;
		status = fill_chunk(job, chunk);
		if (status != PS_OK)
			note_failure(job, status);
	}
}

static void leave(struct job *job, bool is_helper)
{
	struct pd_hosts *hosts = job->hosts;
	bool is_last;

	bs_lock_take(&hosts->lock);
	hosts->spare += is_helper;
	is_last = --job->crew == 0;
	bs_lock_drop(&hosts->lock);
	if (is_last)
		finish(job);
	thread_ends(hosts);
}

static void *help(void *arg)
{
	struct job *job = arg;

	fill(job);
	leave(job, true);
	return NULL;
}

/* Whether there is one more for the job. */
static bool claim_helper(struct job *job)
{
	struct pd_hosts *hosts = job->hosts;
	bool is_there;

	bs_lock_take(&hosts->lock);
	is_there = hosts->spare > 0 && job->crew < job->chunks;
	hosts->spare -= is_there;
	job->crew += is_there;
	bs_lock_drop(&hosts->lock);
	return is_there;
}

/* As many as there are: with none the leader does it all. */
static void call_helpers(struct job *job)
{
	while (claim_helper(job)) {
		if (start_thread(job->hosts, help, job) == 0)
			continue;
		bs_lock_take(&job->hosts->lock);
		job->hosts->spare++;
		job->crew--;
		bs_lock_drop(&job->hosts->lock);
		return;
	}
}

static enum ps_status prepare(struct job *job)
{
	struct pd_host_made *made = &job->made;
	enum ps_status status = pd_host_files_read(&job->files);

	if (status != PS_OK)
		return status;
	made->host_bytes = pd_host_bytes(job->files.bytes);
	if (made->host_bytes > job->room)
		return bs_fail(PS_HOST_MEMORY,
			       "a copy in host memory takes %" PRIu64
			       " bytes; %" PRIu64 " are left of the budget",
			       made->host_bytes, job->room);
	status = pd_host_memory_make(job->files.bytes, &made->copy,
				     &made->memory);
	if (status != PS_OK)
		return status;
	made->bytes = job->files.bytes;
	job->chunks = md_chunks(job->files.bytes);
	job->hashes = calloc((size_t)job->chunks, MD_HASH_BYTES);
	if (job->hashes == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for %" PRIu64 " hashes",
			       job->chunks);
	atomic_store(&job->all, job->files.data);
	return PS_OK;
}

static void *lead(void *arg)
{
	struct job *job = arg;
	enum ps_status status = prepare(job);

	if (status != PS_OK) {
		note_failure(job, status);
	} else {
		call_helpers(job);
		fill(job);
	}
	leave(job, false);
	return NULL;
}

/* ---- for the loop ---- */

/* Of which the process may use so many. */
static unsigned int count_processors(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) != 0)
		return 1;
	return (unsigned int)CPU_COUNT(&set);
}

static enum ps_status init_hosts(struct pd_hosts *hosts)
{
	pthread_condattr_t attributes;

	hosts->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hosts->event < 0)
		return errno == EMFILE
			       ? bs_fail(PS_FD_LIMIT, "no descriptor is left "
						      "for an eventfd")
			       : bs_fail_errno("an eventfd");
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&hosts->idle, &attributes);
	pthread_condattr_destroy(&attributes);
	bs_lock_init(&hosts->lock, BS_RANK_HOSTS);
	atomic_init(&hosts->refs, 1);
	return PS_OK;
}

enum ps_status pd_hosts_new(unsigned int threads, struct pd_hosts **hosts_out)
{
	struct pd_hosts *hosts = calloc(1, sizeof(*hosts));
	enum ps_status status;

	if (hosts == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory to read models with");
	if (threads == 0)
		threads = count_processors();
	/* The leader reads, too. */
	hosts->spare = (threads < THREADS_MAX ? threads : THREADS_MAX) - 1;
	status = init_hosts(hosts);
	if (status != PS_OK) {
		free(hosts);
		return status;
	}
	*hosts_out = hosts;
	return PS_OK;
}

/* For the threads to end, a second at most. */
static void wait_idle_locked(struct pd_hosts *hosts)
{
	struct timespec until;
	int error = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += FREE_WAIT_S;
	while (hosts->threads > 0 && error != ETIMEDOUT)
		error = pthread_cond_timedwait(&hosts->idle, &hosts->lock.mutex,
					       &until);
}

void pd_hosts_free(struct pd_hosts *hosts)
{
	struct job *ready, *next;

	if (hosts == NULL)
		return;
	bs_lock_take(&hosts->lock);
	for (; hosts->jobs != NULL; hosts->jobs = hosts->jobs->next)
		atomic_store(&hosts->jobs->is_stopped, true);
	ready = hosts->ready;
	hosts->ready = NULL;
	bs_lock_drop(&hosts->lock);
	for (; ready != NULL; ready = next) {
		next = ready->next;
		free_job(ready);
	}
	bs_lock_take(&hosts->lock);
	wait_idle_locked(hosts);
	bs_lock_drop(&hosts->lock);
	/* Nothing is published any more. */
	close(hosts->event);
	unref(hosts);
}

int pd_hosts_event(const struct pd_hosts *hosts)
{
	return hosts->event;
}

static struct job *find_locked(struct job *list, uint32_t model)
{
	while (list != NULL && list->model != model)
		list = list->next;
	return list;
}

static enum ps_status new_job(struct pd_hosts *hosts, uint32_t model,
			      uint32_t serial, const int *files, uint32_t count,
			      struct job **job_out)
{
	struct job *job = calloc(1, sizeof(*job));
	enum ps_status status;

	if (job == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory to read a model with");
	job->hosts = hosts;
	job->model = model;
	job->serial = serial;
	job->crew = 1;
	job->made = (struct pd_host_made){
		.model = model, .serial = serial, .copy = -1, .manifest = -1
	};
	status = pd_host_files_init(&job->files, files, count);
	if (status != PS_OK) {
		free(job);
		return status;
	}
	*job_out = job;
	return PS_OK;
}

enum ps_status pd_hosts_make(struct pd_hosts *hosts, uint32_t model,
			     uint32_t serial, const int *files, uint32_t count,
			     const uint8_t *want, uint64_t room)
{
	enum ps_status status;
	struct job *job = NULL;
	int error;

	status = new_job(hosts, model, serial, files, count, &job);
	if (status != PS_OK)
		return status;
	job->room = room;
	job->has_want = want != NULL;
	if (want != NULL)
		memcpy(job->want, want, MD_HASH_BYTES);
	bs_lock_take(&hosts->lock);
	assert(find_locked(hosts->jobs, model) == NULL);
	job->next = hosts->jobs;
	hosts->jobs = job;
	bs_lock_drop(&hosts->lock);
	error = start_thread(hosts, lead, job);
	if (error == 0)
		return PS_OK;
	bs_lock_take(&hosts->lock);
	unlink_locked(&hosts->jobs, job);
	bs_lock_drop(&hosts->lock);
	free_job(job);
	return bs_fail(PS_SYSTEM, "no thread to read a model with: %s",
		       strerror(error));
}

void pd_hosts_stop(struct pd_hosts *hosts, uint32_t model)
{
	struct job *job, *ready;

	bs_lock_take(&hosts->lock);
	job = find_locked(hosts->jobs, model);
	if (job != NULL) {
		unlink_locked(&hosts->jobs, job);
		atomic_store(&job->is_stopped, true);
	}
	ready = find_locked(hosts->ready, model);
	if (ready != NULL)
		unlink_locked(&hosts->ready, ready);
	bs_lock_drop(&hosts->lock);
	if (ready == NULL)
		return;
	pd_hosts_discard(hosts, ready->made.memory, ready->made.bytes,
			 ready->made.copy);
	ready->made.memory = NULL;
	ready->made.copy = -1;
	free_job(ready);
}

bool pd_hosts_take(struct pd_hosts *hosts, struct pd_host_made *made_out)
{
	struct job *job;
	uint64_t count;

	bs_lock_take(&hosts->lock);
	job = hosts->ready;
	if (job != NULL)
		hosts->ready = job->next;
	/* What cannot be read now is readable still, and looked at again. */
	if (hosts->ready == NULL)
		(void)!read(hosts->event, &count, sizeof(count));
	bs_lock_drop(&hosts->lock);
	if (job == NULL)
		return false;
	*made_out = job->made;
	job->made = (struct pd_host_made){ .copy = -1, .manifest = -1 };
	free_job(job);
	return true;
}

void pd_hosts_progress(struct pd_hosts *hosts, uint32_t model,
		       uint64_t *done_out, uint64_t *all_out)
{
	const struct job *job;

	*done_out = 0;
	*all_out = 0;
	bs_lock_take(&hosts->lock);
	job = find_locked(hosts->jobs, model);
	if (job != NULL) {
		*done_out = atomic_load(&job->done);
		*all_out = atomic_load(&job->all);
	}
	bs_lock_drop(&hosts->lock);
}

/* ---- giving up ---- */

static void drop_copy(void *memory, uint64_t bytes, int copy)
{
	pd_host_unmap(memory, bytes);
	if (copy >= 0)
		close(copy);
}

static void *discard(void *arg)
{
	struct discard *what = arg;
	struct pd_hosts *hosts = what->hosts;

	drop_copy(what->memory, what->bytes, what->copy);
	free(what);
	thread_ends(hosts);
	return NULL;
}

void pd_hosts_discard(struct pd_hosts *hosts, void *memory, uint64_t bytes,
		      int copy)
{
	struct discard *what = NULL;

	if (memory != NULL)
		what = malloc(sizeof(*what));
	if (what != NULL) {
		*what = (struct discard){ hosts, memory, bytes, copy };
		if (start_thread(hosts, discard, what) == 0)
			return;
	}
	free(what);
	drop_copy(memory, bytes, copy);
}
