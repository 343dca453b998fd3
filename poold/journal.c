/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The journal's file: made, sealed, and checked when it is somebody else's.
 *
 * Invariant: the file's size never changes (it is sealed) and all of it is
 * backed by memory (it is allocated at once), so no access to the mapping can
 * raise SIGBUS.
 */
#include "poold/journal_parts.h"

#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <zlib.h>

#define MAGIC UINT64_C(0x4c4e524a57535750) /* the bytes "PWSWJRNL" */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static uint64_t bytes_for(uint32_t segments, uint32_t clients)
{
	return sizeof(struct pd_journal_header) +
	       (uint64_t)segments * 2 * sizeof(struct pd_segment_place) +
	       (uint64_t)clients * 2 * sizeof(struct pd_client_place) +
	       (uint64_t)IP_MODELS_MAX * 2 * sizeof(struct pd_model_place);
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

static uint32_t header_crc(const struct pd_journal_header *header)
{
	return (uint32_t)crc32(0, (const Bytef *)header,
			       offsetof(struct pd_journal_header, crc));
}

static void write_header(struct pd_journal *journal)
{
	const struct pd_pool_record *pool = &journal->pool;
	struct pd_journal_header header = {
		.magic = MAGIC,
		.layout = PD_JOURNAL_LAYOUT,
		.header_bytes = sizeof(header),
		.total_bytes = journal->bytes,
		.segment_place_bytes = sizeof(struct pd_segment_place),
		.client_place_bytes = sizeof(struct pd_client_place),
		.model_place_bytes = sizeof(struct pd_model_place),
		.models = IP_MODELS_MAX,
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
	const struct pd_model_record none = { .state = PD_MODEL_FREE };

	for (uint32_t i = 0; i < pool->segments; i++) {
		uint64_t at = (uint64_t)i * pool->segment_bytes;
		struct pd_segment_record record = {
			.state = at < pool->parameter_bytes ? PD_PARAMETER
							    : PD_CLEAN,
			.client = PD_NO_CLIENT,
			.user = PD_NO_USER,
			.model = PD_NO_MODEL,
		};

		memset(record.openers, 0xff, sizeof(record.openers));
		pd_journal_put_segment(journal, i, &record);
	}
	for (uint32_t i = 0; i < pool->clients; i++)
		pd_journal_put_client(journal, i, &nobody);
	for (uint32_t i = 0; i < IP_MODELS_MAX; i++)
		pd_journal_put_model(journal, i, &none);
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
	if (file.st_size < (off_t)sizeof(struct pd_journal_header))
		return bs_fail(PS_PROTOCOL,
			       "a journal of %jd bytes is too short for its "
			       "header of %zu",
			       (intmax_t)file.st_size,
			       sizeof(struct pd_journal_header));
	*bytes_out = (size_t)file.st_size;
	return PS_OK;
}

static enum ps_status check_layout(const struct pd_journal_header *header)
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

static enum ps_status check_sizes(const struct pd_journal_header *header,
				  size_t bytes)
{
	if (header->segments == 0 || header->segments > IP_SEGMENTS_MAX ||
	    header->clients == 0 || header->clients > IP_CLIENTS_MAX)
		return bs_fail(PS_PROTOCOL,
			       "a journal of %" PRIu32 " segments and %" PRIu32
			       " clients; at most %u and %u are possible",
			       header->segments, header->clients,
			       IP_SEGMENTS_MAX, IP_CLIENTS_MAX);
	if (header->header_bytes != sizeof(*header) ||
	    header->segment_place_bytes != sizeof(struct pd_segment_place) ||
	    header->client_place_bytes != sizeof(struct pd_client_place) ||
	    header->model_place_bytes != sizeof(struct pd_model_place) ||
	    header->models != IP_MODELS_MAX || header->total_bytes != bytes ||
	    bytes_for(header->segments, header->clients) != bytes)
		return bs_fail(
			PS_PROTOCOL,
			"a journal of %zu bytes should have %" PRIu64
			" for %" PRIu32 " segments and %" PRIu32 " clients",
			bytes, bytes_for(header->segments, header->clients),
			header->segments, header->clients);
	return PS_OK;
}

static void read_pool(const struct pd_journal_header *header,
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
	struct pd_journal_header header;
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
