/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/sim/vram.h"

#include "device/sim/control.h"
#include "device/sim/entry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RANGES_MAX 65536
#define STATE_MAGIC 0x706f6f6c73696d32u /* changes with the layout */

/* Far more than the memory: a new range finds a place however the old ones
 * lie, as physical pages of a real GPU need not be neighbours. */
#define FILE_BYTES (8ull << 40)

struct state {
	uint64_t magic; /* 0: not made yet */
	uint64_t total; /* decided by who made it */
	uint64_t used;  /* the table's sum: at least what is really used */
	uint64_t next;  /* where to look for a place */
	uint64_t serial;
	atomic_uint lost;
	unsigned int count;
	struct sim_range ranges[RANGES_MAX];
};

static char folder[PATH_MAX - 16];
static struct state *state;   /* all but lost: guarded by lock_state() */
static struct stat vram_info; /* as it was at the start */
static pthread_mutex_t state_mutex = PTHREAD_MUTEX_INITIALIZER;

static int open_file(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

static int open_vram(void)
{
	return open_file("vram");
}

/*
 * The lock of the table: -1 on failure, else for unlock_state(). The file's
 * lock keeps other processes out; the mutex this one's threads, in a way that
 * the thread sanitizer sees.
 */
static int lock_state(void)
{
	int fd = open_file("state");

	if (fd < 0)
		return -1;
	pthread_mutex_lock(&state_mutex);
	while (flock(fd, LOCK_EX) < 0) {
		if (errno != EINTR) {
			pthread_mutex_unlock(&state_mutex);
			close(fd);
			return -1;
		}
	}
	return fd;
}

/* Unlocked by word: a child forked meanwhile has the fd, and the lock, too. */
static void unlock_state(int fd)
{
	flock(fd, LOCK_UN);
	pthread_mutex_unlock(&state_mutex);
	close(fd);
}

/* Any thread may ask first; who has read it is not written under. */
static void choose_folder(void)
{
	static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	const char *given = getenv("POOLSWITCH_SIM_DIR");
	char chosen[sizeof(folder)];

	if (given && *given)
		snprintf(chosen, sizeof(chosen), "%s", given);
	else
		snprintf(chosen, sizeof(chosen), "/dev/shm/poolswitch-sim-%u",
			 (unsigned int)getuid());
	pthread_mutex_lock(&mutex);
	if (strcmp(folder, chosen) != 0)
		memcpy(folder, chosen, sizeof(folder));
	pthread_mutex_unlock(&mutex);
}

SIM_EXPORT const char *simFolder(void)
{
	choose_folder();
	return folder;
}

/* pre: the state is locked. */
static bool make_state(int fd)
{
	int vram = open_vram();
	bool is_made;

	is_made = vram >= 0 && ftruncate(vram, (off_t)FILE_BYTES) == 0 &&
		  fstat(vram, &vram_info) == 0 &&
		  ftruncate(fd, (off_t)sizeof(*state)) == 0;
	if (vram >= 0)
		close(vram);
	return is_made;
}

static CUresult fail_start(int lock, void *memory)
{
	munmap(memory, sizeof(*state));
	unlock_state(lock);
	return CUDA_ERROR_OPERATING_SYSTEM;
}

CUresult sim_vram_start(void)
{
	void *memory = MAP_FAILED;
	int fd;

	choose_folder();
	mkdir(folder, 0700);
	fd = lock_state();
	if (fd < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;
	if (make_state(fd))
		memory = mmap(NULL, sizeof(*state), PROT_READ | PROT_WRITE,
			      MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		unlock_state(fd);
		return CUDA_ERROR_OPERATING_SYSTEM;
	}
	/* As a real driver does: who has it open may have work running. */
	if (open_file("nvidia0") < 0)
		return fail_start(fd, memory);
	state = memory;
	if (state->magic != STATE_MAGIC) {
		state->total =
			sim_setting("POOLSWITCH_SIM_MEMORY", 16ull << 30);
		state->magic = STATE_MAGIC;
	}
	unlock_state(fd);
	return CUDA_SUCCESS;
}

uint64_t sim_vram_total(void)
{
	return state->total;
}

void sim_vram_identity(uint64_t *device_out, uint64_t *inode_out)
{
	*device_out = vram_info.st_dev;
	*inode_out = vram_info.st_ino;
}

static struct flock lock_of(const struct sim_range *range, short type)
{
	return (struct flock){
		.l_type = type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)range->offset,
		.l_len = (off_t)range->bytes,
	};
}

/* @vram: a description that holds nothing. */
static bool is_held(int vram, const struct sim_range *range)
{
	struct flock lock = lock_of(range, F_WRLCK);

	return fcntl(vram, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

/* The description's position says which range it holds. */
static bool take_hold(int vram, const struct sim_range *range)
{
	struct flock lock = lock_of(range, F_RDLCK);

	return fcntl(vram, F_OFD_SETLK, &lock) == 0 &&
	       lseek(vram, (off_t)range->offset, SEEK_SET) >= 0;
}

static void forget(int vram, unsigned int index)
{
	struct sim_range *range = &state->ranges[index];

	fallocate(vram, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		  (off_t)range->offset, (off_t)range->bytes);
	if (!range->is_host)
		state->used -= range->bytes;
	*range = state->ranges[--state->count];
}

/* Forgets every range that nobody holds. */
static void collect(int vram)
{
	unsigned int i = state->count;

	while (i-- > 0)
		if (!is_held(vram, &state->ranges[i]))
			forget(vram, i);
}

static struct sim_range *find_overlap(uint64_t offset, uint64_t bytes)
{
	struct sim_range *range;
	unsigned int i;

	for (i = 0; i < state->count; i++) {
		range = &state->ranges[i];
		if (offset < range->offset + range->bytes &&
		    range->offset < offset + bytes)
			return range;
	}
	return NULL;
}

/* pre: the table is locked and @bytes are free. */
static uint64_t find_place(uint64_t bytes)
{
	uint64_t offset = state->next;
	struct sim_range *taken;

	for (;;) {
		if (offset + bytes > FILE_BYTES)
			offset = 0;
		taken = find_overlap(offset, bytes);
		if (!taken)
			return offset;
		offset = taken->offset + taken->bytes;
	}
}

static bool is_full(uint64_t bytes)
{
	return state->used + bytes > state->total || state->count == RANGES_MAX;
}

/* pre: the table is locked; the range has its size and whose it is. */
static CUresult add_range(int vram, struct sim_range *range)
{
	uint64_t counted = range->is_host ? 0 : range->bytes;

	if (is_full(counted))
		collect(vram);
	if (is_full(counted))
		return CUDA_ERROR_OUT_OF_MEMORY;
	range->offset = find_place(range->bytes);
	range->serial = ++state->serial;
	if (!take_hold(vram, range))
		return CUDA_ERROR_OPERATING_SYSTEM;
	state->ranges[state->count++] = *range;
	state->used += counted;
	state->next = range->offset + range->bytes;
	return CUDA_SUCCESS;
}

CUresult sim_vram_create(uint64_t bytes, const CUmemLocation *location,
			 struct sim_range *range_out, int *fd_out)
{
	bool is_host = location->type != CU_MEM_LOCATION_TYPE_DEVICE;
	struct sim_range range = {
		.bytes = bytes,
		.device = is_host ? 0 : (uint32_t)location->id,
		.is_host = is_host,
	};
	CUresult result = CUDA_ERROR_OPERATING_SYSTEM;
	int vram;
	int lock;

	if (bytes > state->total)
		return CUDA_ERROR_OUT_OF_MEMORY;
	vram = open_vram();
	lock = lock_state();
	if (vram >= 0 && lock >= 0)
		result = add_range(vram, &range);
	if (lock >= 0)
		unlock_state(lock);
	if (result == CUDA_SUCCESS) {
		*range_out = range;
		*fd_out = vram;
	} else if (vram >= 0) {
		close(vram);
	}
	return result;
}

CUresult sim_vram_hold(const struct sim_range *range, int *fd_out)
{
	int vram = open_vram();

	if (vram < 0)
		return CUDA_ERROR_OPERATING_SYSTEM;
	if (!take_hold(vram, range)) {
		close(vram);
		return CUDA_ERROR_OPERATING_SYSTEM;
	}
	*fd_out = vram;
	return CUDA_SUCCESS;
}

/* pre: the table is locked. */
static bool is_listed(const struct sim_range *range, unsigned int *index_out)
{
	unsigned int i;

	for (i = 0; i < state->count; i++) {
		if (state->ranges[i].offset == range->offset &&
		    state->ranges[i].serial == range->serial) {
			*index_out = i;
			return true;
		}
	}
	return false;
}

CUresult sim_vram_join(const struct sim_range *range, int *fd_out)
{
	CUresult result = CUDA_ERROR_INVALID_VALUE;
	int vram = open_vram();
	int lock = lock_state();
	unsigned int index;

	if (vram >= 0 && lock >= 0 && is_listed(range, &index) &&
	    state->ranges[index].bytes == range->bytes && is_held(vram, range))
		result = sim_vram_hold(range, fd_out);
	if (lock >= 0)
		unlock_state(lock);
	if (vram >= 0)
		close(vram);
	return result;
}

static bool is_vram(int fd)
{
	struct stat given;
	struct stat ours;
	int vram = open_vram();
	bool is_same;

	is_same = vram >= 0 && fstat(fd, &given) == 0 &&
		  fstat(vram, &ours) == 0 && given.st_dev == ours.st_dev &&
		  given.st_ino == ours.st_ino;
	if (vram >= 0)
		close(vram);
	return is_same;
}

bool sim_vram_identify(int fd, struct sim_range *range_out)
{
	struct sim_range *range = NULL;
	off_t offset;
	int lock;

	if (!is_vram(fd))
		return false;
	offset = lseek(fd, 0, SEEK_CUR);
	lock = lock_state();
	if (lock < 0)
		return false;
	if (offset >= 0)
		range = find_overlap((uint64_t)offset, 1);
	if (range)
		*range_out = *range;
	unlock_state(lock);
	return range != NULL;
}

void sim_vram_reap(const struct sim_range *range)
{
	int vram = open_vram();
	int lock = lock_state();
	unsigned int index;

	if (vram >= 0 && lock >= 0 && is_listed(range, &index) &&
	    !is_held(vram, range))
		forget(vram, index);
	if (lock >= 0)
		unlock_state(lock);
	if (vram >= 0)
		close(vram);
}

CUresult sim_vram_used(uint64_t *bytes_out)
{
	int vram = open_vram();
	int lock = lock_state();
	bool is_open = vram >= 0 && lock >= 0;

	if (is_open) {
		collect(vram);
		*bytes_out = state->used;
	}
	if (lock >= 0)
		unlock_state(lock);
	if (vram >= 0)
		close(vram);
	return is_open ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

bool sim_vram_is_lost(void)
{
	return atomic_load_explicit(&state->lost, memory_order_relaxed);
}

void sim_vram_set_lost(bool is_lost)
{
	if (state)
		atomic_store(&state->lost, is_lost);
}
