/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The journal's bytes: a header, then two places for each segment, then two
 * places for each client.
 *
 * A place is empty (number 0), whole, or broken. A writer empties the older
 * place, fills it and gives it its number last, each step a store that the
 * compiler may not move; a writer that is killed leaves it empty. So a broken
 * place was broken by something else, perhaps the newer one of the two, and
 * the record counts as damaged even if the other place is whole: an old truth
 * ("free") may be worse than none.
 *
 * Invariant: the file's size never changes (it is sealed) and all of it is
 * backed by memory (it is allocated at once), so no access to the mapping can
 * raise SIGBUS.
 */
#include "poold/journal.h"

#include "base/status.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <zlib.h>

#define MAGIC UINT64_C(0x4c4e524a57535750) /* the bytes "PWSWJRNL" */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

struct header {
	uint64_t magic;
	uint32_t layout;
	uint32_t header_bytes;
	uint64_t total_bytes;
	uint32_t segment_place_bytes;
	uint32_t client_place_bytes;
	uint8_t id[IP_POOL_ID_BYTES];
	char gpu[IP_GPU_BYTES];
	uint64_t window_base;
	uint64_t window_bytes;
	uint64_t segment_bytes;
	uint64_t parameter_bytes;
	uint32_t segments;
	uint32_t clients;
	uint8_t key[PD_KEY_BYTES];
	uint32_t spare;
	uint32_t crc; /* of all before it */
};

/* The first number of a record; no flipped bit makes 0 of one. */
#define FIRST_NUMBER UINT64_C(0x5057000000000001)

/* How each place begins. */
struct stamp {
	_Atomic(uint64_t) number; /* 0: empty */
	uint32_t crc;             /* of the number and of what follows here */
	uint32_t spare;
};

struct segment_place {
	struct stamp stamp;
	uint32_t state;
	uint32_t client;
	uint32_t user;
	uint32_t epoch;
	uint32_t is_tainted;
	uint32_t spare;
	uint16_t openers[PD_OPENERS];
};

struct client_place {
	struct stamp stamp;
	uint64_t id;
	uint64_t reservation;
	uint64_t limit;
	uint64_t started;
	uint64_t image[4];
	uint8_t token[IP_TOKEN_BYTES];
	uint32_t used;
	int32_t pid;
	uint32_t uid;
	uint32_t gid;
	uint32_t flags;
	uint32_t spare;
	char name[IP_NAME_BYTES];
};

/* What another process reads must not depend on the compiler. */
_Static_assert(sizeof(struct header) == 176, "the journal's header changed");
_Static_assert(sizeof(struct segment_place) == 72, "a segment's place changed");
_Static_assert(sizeof(struct client_place) == 184, "a client's place changed");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a store could be cut in two");

struct pd_journal {
	int fd;
	unsigned char *map;
	size_t bytes;
	struct pd_pool_record pool; /* a copy: checked once, then believed */
};

/* ---- places ---- */

enum health { EMPTY, WHOLE, BROKEN };

static uint32_t place_crc(uint64_t number, const struct stamp *stamp,
			  size_t bytes)
{
	uLong crc = crc32(0, (const Bytef *)&number, sizeof(number));

	return (uint32_t)crc32(crc, (const Bytef *)(stamp + 1),
			       (uInt)(bytes - sizeof(*stamp)));
}

static enum health place_health(const struct stamp *stamp, size_t bytes,
				uint64_t *number_out)
{
	uint64_t number =
		atomic_load_explicit(&stamp->number, memory_order_acquire);

	*number_out = number;
	if (number == 0)
		return EMPTY;
	return stamp->crc == place_crc(number, stamp, bytes) ? WHOLE : BROKEN;
}

/* The two places of a record lie one behind the other. */
static struct stamp *second_of(struct stamp *first, size_t bytes)
{
	return (struct stamp *)(void *)((unsigned char *)first + bytes);
}

/* The place that counts; NULL: the record is damaged. */
static struct stamp *newest(struct stamp *first, size_t bytes)
{
	struct stamp *second = second_of(first, bytes);
	uint64_t a, b;
	enum health of_first = place_health(first, bytes, &a);
	enum health of_second = place_health(second, bytes, &b);

	if (of_first == BROKEN || of_second == BROKEN)
		return NULL;
	if (of_first == EMPTY)
		return of_second == WHOLE ? second : NULL;
	if (of_second == EMPTY || a == b + 1)
		return first;
	return b == a + 1 ? second : NULL;
}

static void empty(struct stamp *stamp)
{
	atomic_store_explicit(&stamp->number, 0, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	atomic_thread_fence(memory_order_seq_cst);
}

/* Where the next version of a record goes, emptied; and its number. */
static struct stamp *begin_place(struct stamp *first, size_t bytes,
				 uint64_t *number_out)
{
	struct stamp *second = second_of(first, bytes);
	struct stamp *now = newest(first, bytes);
	struct stamp *next = now == first ? second : first;

	*number_out = now ? atomic_load(&now->number) + 1 : FIRST_NUMBER;
	if (!now)
		empty(second);
	empty(next);
	return next;
}

static void commit_place(struct stamp *stamp, size_t bytes, uint64_t number)
{
	stamp->crc = place_crc(number, stamp, bytes);
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&stamp->number, number, memory_order_release);
}

static struct stamp *segment_at(const struct pd_journal *journal, uint32_t n)
{
	size_t at = sizeof(struct header);

	assert(n < journal->pool.segments);
	at += (size_t)n * 2 * sizeof(struct segment_place);
	return (struct stamp *)(void *)(journal->map + at);
}

static struct stamp *client_at(const struct pd_journal *journal, uint32_t slot)
{
	size_t at = sizeof(struct header);

	assert(slot < journal->pool.clients);
	at += (size_t)journal->pool.segments * 2 * sizeof(struct segment_place);
	at += (size_t)slot * 2 * sizeof(struct client_place);
	return (struct stamp *)(void *)(journal->map + at);
}

/* ---- the file ---- */

static uint64_t bytes_for(uint32_t segments, uint32_t clients)
{
	return sizeof(struct header) +
	       (uint64_t)segments * 2 * sizeof(struct segment_place) +
	       (uint64_t)clients * 2 * sizeof(struct client_place);
}

static enum ps_status fail_memfd(void)
{
	if (errno == EMFILE || errno == ENFILE)
		return bs_fail(PS_FD_LIMIT,
			       "no file descriptor for the journal: raise the "
			       "limit of open files (ulimit -n)");
	return bs_fail_errno("making the journal");
}

/* Takes all the memory. A limit of file sizes is answered by an error, not by
 * the signal that goes with it. */
static int allocate(int fd, uint64_t bytes)
{
	const struct timespec no_time = { 0, 0 };
	sigset_t too_large, before;
	int error = 0;

	sigemptyset(&too_large);
	sigaddset(&too_large, SIGXFSZ);
	pthread_sigmask(SIG_BLOCK, &too_large, &before);
	if (fallocate(fd, 0, 0, (off_t)bytes) != 0)
		error = errno;
	if (error == EFBIG && !sigismember(&before, SIGXFSZ))
		(void)sigtimedwait(&too_large, NULL, &no_time);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

static enum ps_status make_file(uint64_t bytes, int *fd_out)
{
	int fd = memfd_create("poolswitch-journal",
			      MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return fail_memfd();
	errno = allocate(fd, bytes);
	if (errno != 0) {
		(void)bs_fail_errno("taking %" PRIu64 " bytes of memory for "
				    "the journal",
				    bytes);
		close(fd);
		return PS_SYSTEM;
	}
	if (fcntl(fd, F_ADD_SEALS, SEALS) != 0) {
		(void)bs_fail_errno("sealing the journal");
		close(fd);
		return PS_SYSTEM;
	}
	*fd_out = fd;
	return PS_OK;
}

/* Takes @fd over when it succeeds. */
static enum ps_status map_file(int fd, size_t bytes,
			       struct pd_journal **journal_out)
{
	struct pd_journal *journal = calloc(1, sizeof(*journal));
	void *map;

	if (!journal)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a journal");
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		free(journal);
		return bs_fail_errno("mapping the journal's %zu bytes", bytes);
	}
	journal->fd = fd;
	journal->map = map;
	journal->bytes = bytes;
	*journal_out = journal;
	return PS_OK;
}

static uint32_t header_crc(const struct header *header)
{
	return (uint32_t)crc32(0, (const Bytef *)header,
			       offsetof(struct header, crc));
}

static void write_header(struct pd_journal *journal)
{
	const struct pd_pool_record *pool = &journal->pool;
	struct header header = {
		.magic = MAGIC,
		.layout = PD_JOURNAL_LAYOUT,
		.header_bytes = sizeof(header),
		.total_bytes = journal->bytes,
		.segment_place_bytes = sizeof(struct segment_place),
		.client_place_bytes = sizeof(struct client_place),
		.window_base = pool->window_base,
		.window_bytes = pool->window_bytes,
		.segment_bytes = pool->segment_bytes,
		.parameter_bytes = pool->parameter_bytes,
		.segments = pool->segments,
		.clients = pool->clients,
	};

	memcpy(header.id, pool->id, sizeof(header.id));
	memcpy(header.gpu, pool->gpu, sizeof(header.gpu));
	memcpy(header.key, pool->key, sizeof(header.key));
	header.crc = header_crc(&header);
	memcpy(journal->map, &header, sizeof(header));
}

static void write_records(struct pd_journal *journal)
{
	const struct pd_pool_record *pool = &journal->pool;
	const struct pd_client_record nobody = { .used = false };

	for (uint32_t i = 0; i < pool->segments; i++) {
		uint64_t at = (uint64_t)i * pool->segment_bytes;
		struct pd_segment_record record = {
			.state = at < pool->parameter_bytes ? PD_PARAMETER
							    : PD_CLEAN,
			.client = PD_NO_CLIENT,
			.user = PD_NO_USER,
		};

		memset(record.openers, 0xff, sizeof(record.openers));
		pd_journal_put_segment(journal, i, &record);
	}
	for (uint32_t i = 0; i < pool->clients; i++)
		pd_journal_put_client(journal, i, &nobody);
}

enum ps_status pd_journal_create(const struct pd_pool_record *pool,
				 struct pd_journal **journal_out)
{
	uint64_t bytes = bytes_for(pool->segments, pool->clients);
	struct pd_journal *journal = NULL;
	enum ps_status status;
	int fd = -1;

	status = make_file(bytes, &fd);
	if (status != PS_OK)
		return status;
	status = map_file(fd, bytes, &journal);
	if (status != PS_OK) {
		close(fd);
		return status;
	}
	journal->pool = *pool;
	write_header(journal);
	write_records(journal);
	*journal_out = journal;
	return PS_OK;
}

/* ---- opening one that somebody else made ---- */

static enum ps_status check_file(int fd, size_t *bytes_out)
{
	struct stat file;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || fstat(fd, &file) != 0)
		return bs_fail(PS_PROTOCOL,
			       "descriptor %d is no journal: it is no memfd",
			       fd);
	if ((seals & SEALS) != SEALS)
		return bs_fail(PS_PROTOCOL,
			       "descriptor %d is no journal: it has seals %#x, "
			       "not %#x",
			       fd, (unsigned int)seals, (unsigned int)SEALS);
	if (file.st_size < (off_t)sizeof(struct header))
		return bs_fail(PS_PROTOCOL,
			       "a journal of %jd bytes is too short for its "
			       "header of %zu",
			       (intmax_t)file.st_size, sizeof(struct header));
	*bytes_out = (size_t)file.st_size;
	return PS_OK;
}

static enum ps_status check_layout(const struct header *header)
{
	if (header->magic != MAGIC)
		return bs_fail(PS_PROTOCOL,
			       "what was handed over is no journal: it begins "
			       "with %#" PRIx64,
			       header->magic);
	if (header->layout != PD_JOURNAL_LAYOUT)
		return bs_fail(PS_VERSION_MISMATCH,
			       "the journal has layout %" PRIu32 " and this "
			       "poolswitchd reads %u: stop the old one before "
			       "the new one starts",
			       header->layout, PD_JOURNAL_LAYOUT);
	if (header->crc != header_crc(header))
		return bs_fail(PS_PROTOCOL,
			       "the journal's header is damaged: its checksum "
			       "is %#" PRIx32 " and should be %#" PRIx32,
			       header->crc, header_crc(header));
	return PS_OK;
}

static enum ps_status check_sizes(const struct header *header, size_t bytes)
{
	if (header->segments == 0 || header->segments > IP_SEGMENTS_MAX ||
	    header->clients == 0 || header->clients > IP_CLIENTS_MAX)
		return bs_fail(PS_PROTOCOL,
			       "a journal of %" PRIu32 " segments and %" PRIu32
			       " clients; at most %u and %u are possible",
			       header->segments, header->clients,
			       IP_SEGMENTS_MAX, IP_CLIENTS_MAX);
	if (header->header_bytes != sizeof(*header) ||
	    header->segment_place_bytes != sizeof(struct segment_place) ||
	    header->client_place_bytes != sizeof(struct client_place) ||
	    header->total_bytes != bytes ||
	    bytes_for(header->segments, header->clients) != bytes)
		return bs_fail(
			PS_PROTOCOL,
			"a journal of %zu bytes should have %" PRIu64
			" for %" PRIu32 " segments and %" PRIu32 " clients",
			bytes, bytes_for(header->segments, header->clients),
			header->segments, header->clients);
	return PS_OK;
}

static void read_pool(const struct header *header,
		      struct pd_pool_record *pool_out)
{
	*pool_out = (struct pd_pool_record){
		.window_base = header->window_base,
		.window_bytes = header->window_bytes,
		.segment_bytes = header->segment_bytes,
		.parameter_bytes = header->parameter_bytes,
		.segments = header->segments,
		.clients = header->clients,
	};
	memcpy(pool_out->id, header->id, sizeof(header->id));
	memcpy(pool_out->gpu, header->gpu, sizeof(header->gpu));
	memcpy(pool_out->key, header->key, sizeof(header->key));
	pool_out->gpu[IP_GPU_BYTES - 1] = '\0';
}

static enum ps_status open_journal(int fd, struct pd_journal **journal_out)
{
	struct pd_journal *journal = NULL;
	struct header header;
	enum ps_status status;
	size_t bytes = 0;

	status = check_file(fd, &bytes);
	if (status == PS_OK)
		status = map_file(fd, bytes, &journal);
	if (status != PS_OK)
		return status;
	memcpy(&header, journal->map, sizeof(header));
	status = check_layout(&header);
	if (status == PS_OK)
		status = check_sizes(&header, bytes);
	if (status != PS_OK) {
		munmap(journal->map, bytes);
		free(journal);
		return status;
	}
	read_pool(&header, &journal->pool);
	*journal_out = journal;
	return PS_OK;
}

enum ps_status pd_journal_open(int fd, struct pd_journal **journal_out)
{
	enum ps_status status = open_journal(fd, journal_out);

	if (status != PS_OK && fd >= 0)
		close(fd);
	return status;
}

void pd_journal_close(struct pd_journal *journal)
{
	if (!journal)
		return;
	munmap(journal->map, journal->bytes);
	close(journal->fd);
	free(journal);
}

int pd_journal_fd(const struct pd_journal *journal)
{
	return journal->fd;
}

const struct pd_pool_record *pd_journal_pool(const struct pd_journal *journal)
{
	return &journal->pool;
}

/* ---- records ---- */

static bool is_state(uint32_t state)
{
	return (state >= PD_CLEAN && state <= PD_PARAMETER) ||
	       state == PD_OUTSIDE || state == PD_SHARED;
}

static bool is_client_possible(const struct pd_journal *journal,
			       const struct segment_place *place)
{
	bool is_one = place->client < journal->pool.clients;

	switch (place->state) {
	case PD_LEASED:
	case PD_PARKED:
	case PD_OUTSIDE:
		return is_one;
	case PD_SHARED:
		return is_one || place->client == PD_NO_CLIENT;
	default:
		return place->client == PD_NO_CLIENT;
	}
}

/* Each is a client's place, and comes once. */
static bool are_openers_possible(const struct pd_journal *journal,
				 const struct segment_place *place)
{
	uint32_t i, k, count = 0;

	for (i = 0; i < PD_OPENERS; i++) {
		if (place->openers[i] == PD_NO_OPENER)
			continue;
		count++;
		if (place->openers[i] >= journal->pool.clients ||
		    place->openers[i] == place->client)
			return false;
		for (k = 0; k < i; k++)
			if (place->openers[k] == place->openers[i])
				return false;
	}
	if (place->state == PD_SHARED)
		return count > 0;
	return count == 0 || place->state == PD_LEASED ||
	       place->state == PD_PARKED;
}

static bool is_possible(const struct pd_journal *journal,
			const struct segment_place *place)
{
	return is_state(place->state) && is_client_possible(journal, place) &&
	       place->is_tainted <= 1 && are_openers_possible(journal, place);
}

struct pd_segment_record pd_journal_segment(const struct pd_journal *journal,
					    uint32_t number)
{
	struct pd_segment_record record = {
		.state = PD_DAMAGED,
		.client = PD_NO_CLIENT,
		.user = PD_NO_USER,
	};
	const struct segment_place *place =
		(const struct segment_place *)newest(
			segment_at(journal, number), sizeof(*place));

	memset(record.openers, 0xff, sizeof(record.openers));
	if (!place || !is_possible(journal, place))
		return record;
	record.state = (enum pd_segment_state)place->state;
	record.client = place->client;
	record.user = place->user;
	record.epoch = place->epoch;
	record.is_tainted = place->is_tainted != 0;
	memcpy(record.openers, place->openers, sizeof(record.openers));
	return record;
}

void pd_journal_put_segment(struct pd_journal *journal, uint32_t number,
			    const struct pd_segment_record *record)
{
	struct segment_place *place;
	struct stamp *stamp;
	uint64_t version;

	assert(is_state(record->state));
	stamp = begin_place(segment_at(journal, number), sizeof(*place),
			    &version);
	place = (struct segment_place *)(void *)stamp;
	place->state = record->state;
	place->client = record->client;
	place->user = record->user;
	place->epoch = record->epoch;
	place->is_tainted = record->is_tainted;
	place->spare = 0;
	memcpy(place->openers, record->openers, sizeof(place->openers));
	commit_place(stamp, sizeof(*place), version);
}

enum ps_status pd_journal_client(const struct pd_journal *journal,
				 uint32_t slot,
				 struct pd_client_record *record_out)
{
	const struct client_place *place = (const struct client_place *)newest(
		client_at(journal, slot), sizeof(*place));

	if (!place || place->used > 1)
		return bs_fail(PS_PROTOCOL,
			       "the journal's record of client %" PRIu32
			       " is damaged",
			       slot);
	*record_out = (struct pd_client_record){
		.used = place->used == 1,
		.id = place->id,
		.pid = place->pid,
		.uid = place->uid,
		.gid = place->gid,
		.flags = place->flags,
		.reservation = place->reservation,
		.limit = place->limit,
		.marks.started = place->started,
	};
	memcpy(record_out->token, place->token, sizeof(place->token));
	memcpy(record_out->name, place->name, sizeof(place->name));
	memcpy(record_out->marks.image, place->image, sizeof(place->image));
	return PS_OK;
}

void pd_journal_put_client(struct pd_journal *journal, uint32_t slot,
			   const struct pd_client_record *record)
{
	struct client_place *place;
	struct stamp *stamp;
	uint64_t version;

	stamp = begin_place(client_at(journal, slot), sizeof(*place), &version);
	place = (struct client_place *)(void *)stamp;
	place->id = record->id;
	place->reservation = record->reservation;
	place->limit = record->limit;
	place->started = record->marks.started;
	memcpy(place->image, record->marks.image, sizeof(place->image));
	memcpy(place->token, record->token, sizeof(place->token));
	place->used = record->used;
	place->pid = record->pid;
	place->uid = record->uid;
	place->gid = record->gid;
	place->flags = record->flags;
	place->spare = 0;
	memcpy(place->name, record->name, sizeof(place->name));
	commit_place(stamp, sizeof(*place), version);
}
