/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The journal's file: how it is made, and what is refused as no journal. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "poold/journal.h"
#include "tests/support/harness.h"

/* Where things are in the file: poold/journal_parts.h. */
#define HEADER_BYTES 184u
#define SEGMENT_PLACE 80u
#define CLIENT_PLACE 184u
#define MODEL_PLACE 488u
#define LAYOUT_AT 8u

#define SEGMENTS 5u
#define CLIENTS 3u
#define FILE_BYTES                                                             \
	(HEADER_BYTES + SEGMENTS * 2 * SEGMENT_PLACE +                         \
	 CLIENTS * 2 * CLIENT_PLACE + IP_MODELS_MAX * 2 * MODEL_PLACE)

static struct pd_pool_record a_pool(void)
{
	return (struct pd_pool_record){
		.id = "0123456789abcde",
		.gpu = "GPU-00000000-0000-0000-0000-000000000001",
		.window_base = UINT64_C(0x200000000000),
		.window_bytes = UINT64_C(1) << 30,
		.segment_bytes = 2 << 20,
		.parameter_bytes = 4 << 20,
		.segments = SEGMENTS,
		.clients = CLIENTS,
		.key = "what nobody else knows, 32 byte",
	};
}

static struct pd_journal *a_journal(void)
{
	const struct pd_pool_record pool = a_pool();
	struct pd_journal *journal;

	th_assert_ok(pd_journal_create(&pool, &journal));
	return journal;
}

/* The file, as somebody else would see it. */
static unsigned char *map_of(struct pd_journal *journal)
{
	unsigned char *map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE,
				  MAP_SHARED, pd_journal_fd(journal), 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static void unmap(unsigned char *map)
{
	munmap(map, FILE_BYTES);
}

/* Opens what is like @journal's file, but with other bytes and size. */
static enum ps_status open_like(struct pd_journal *journal, size_t bytes,
				size_t at, unsigned char changed)
{
	unsigned char *map = map_of(journal);
	struct pd_journal *opened;
	int fd = memfd_create("journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	enum ps_status status;

	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_true(pwrite(fd, map, bytes < FILE_BYTES ? bytes : FILE_BYTES,
			   0) > 0);
	if (at < bytes)
		assert_int_equal(pwrite(fd, &changed, 1, (off_t)at), 1);
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	unmap(map);
	status = pd_journal_open(fd, &opened);
	assert_int_equal(fcntl(fd, F_GETFD), status == PS_OK ? FD_CLOEXEC : -1);
	if (status == PS_OK)
		pd_journal_close(opened);
	return status;
}

static void test_journal_copied_whole_opens(void **state)
{
	struct pd_journal *journal = a_journal();

	(void)state;
	th_assert_ok(open_like(journal, FILE_BYTES, SIZE_MAX, 0));
	pd_journal_close(journal);
}

static void test_journal_other_layout_is_refused(void **state)
{
	struct pd_journal *journal = a_journal();

	(void)state;
	th_assert_status(open_like(journal, FILE_BYTES, LAYOUT_AT,
				   PD_JOURNAL_LAYOUT + 1),
			 PS_VERSION_MISMATCH);
	assert_non_null(strstr(bs_fail_text(), "layout 4"));
	pd_journal_close(journal);
}

static void test_journal_other_magic_is_refused(void **state)
{
	struct pd_journal *journal = a_journal();

	(void)state;
	th_assert_status(open_like(journal, FILE_BYTES, 0, 'X'), PS_PROTOCOL);
	pd_journal_close(journal);
}

static void test_journal_every_damaged_header_byte_is_refused(void **state)
{
	struct pd_journal *journal = a_journal();

	(void)state;
	for (size_t at = 0; at < HEADER_BYTES; at++)
		assert_int_not_equal(open_like(journal, FILE_BYTES, at, 0xe7),
				     PS_OK);
	pd_journal_close(journal);
}

static void test_journal_of_any_other_size_is_refused(void **state)
{
	static const size_t sizes[] = { 1, HEADER_BYTES - 1, HEADER_BYTES,
					FILE_BYTES - 1, FILE_BYTES + 1 };
	struct pd_journal *journal = a_journal();

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		th_assert_status(open_like(journal, sizes[i], SIZE_MAX, 0),
				 PS_PROTOCOL);
	pd_journal_close(journal);
}

static void test_journal_unsealed_is_refused(void **state)
{
	struct pd_journal *journal;
	int fd = memfd_create("journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
	th_assert_status(pd_journal_open(fd, &journal), PS_PROTOCOL);
	assert_non_null(strstr(bs_fail_text(), "seals"));
}

static void test_journal_no_memfd_is_refused(void **state)
{
	struct pd_journal *journal;
	int pair[2];

	(void)state;
	th_socketpair(SOCK_STREAM, pair);
	th_assert_status(pd_journal_open(pair[0], &journal), PS_PROTOCOL);
	th_assert_status(pd_journal_open(-1, &journal), PS_PROTOCOL);
	close(pair[1]);
}

static void test_journal_cannot_be_resized(void **state)
{
	struct pd_journal *journal = a_journal();

	(void)state;
	assert_int_equal(ftruncate(pd_journal_fd(journal), 0), -1);
	assert_int_equal(ftruncate(pd_journal_fd(journal), 1 << 20), -1);
	pd_journal_close(journal);
}

/* All of it is there from the start: no later write can meet a full disk. */
static void test_journal_is_allocated_at_once(void **state)
{
	struct pd_journal *journal;
	struct pd_pool_record pool = a_pool();
	struct stat file;

	(void)state;
	pool.segments = 4096;
	pool.clients = 1024;
	pool.parameter_bytes = 0;
	th_assert_ok(pd_journal_create(&pool, &journal));
	assert_int_equal(fstat(pd_journal_fd(journal), &file), 0);
	assert_true(file.st_blocks * 512 >= file.st_size);
	pd_journal_close(journal);
}

/* Asks for a journal while a limit is too low; says what came. */
static enum ps_status create_under(__rlimit_resource_t resource, rlim_t limit)
{
	const struct pd_pool_record pool = a_pool();
	struct pd_journal *journal;
	struct rlimit before, low;
	enum ps_status status;

	assert_int_equal(getrlimit(resource, &before), 0);
	low = before;
	low.rlim_cur = limit;
	assert_int_equal(setrlimit(resource, &low), 0);
	status = pd_journal_create(&pool, &journal);
	assert_int_equal(setrlimit(resource, &before), 0);
	if (status == PS_OK)
		pd_journal_close(journal);
	return status;
}

static void test_journal_without_room_is_refused(void **state)
{
	(void)state;
	th_assert_status(create_under(RLIMIT_FSIZE, 512), PS_SYSTEM);
	assert_non_null(strstr(bs_fail_text(), strerror(EFBIG)));
	th_assert_ok(create_under(RLIMIT_FSIZE, FILE_BYTES));
}

static void test_journal_without_descriptors_is_refused(void **state)
{
	(void)state;
	th_assert_status(create_under(RLIMIT_NOFILE, 3), PS_FD_LIMIT);
	assert_non_null(strstr(bs_fail_text(), "ulimit"));
}

static const struct th_test tests[] = {
	TH_TEST(test_journal_copied_whole_opens),
	TH_TEST(test_journal_other_layout_is_refused),
	TH_TEST(test_journal_other_magic_is_refused),
	TH_TEST(test_journal_every_damaged_header_byte_is_refused),
	TH_TEST(test_journal_of_any_other_size_is_refused),
	TH_TEST(test_journal_unsealed_is_refused),
	TH_TEST(test_journal_no_memfd_is_refused),
	TH_TEST(test_journal_cannot_be_resized),
	TH_TEST(test_journal_is_allocated_at_once),
	TH_TEST(test_journal_without_room_is_refused),
	TH_TEST(test_journal_without_descriptors_is_refused),
};

TH_MAIN("journal_file", tests)
