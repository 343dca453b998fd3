/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The safetensors reader on files: their size against what they claim. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"
#include "model/safetensors.h"
#include "tests/support/harness.h"

/* One tensor of four floats. */
#define FOUR "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]}}"

/* A file with this length field, this header and so many bytes of data. */
static int make_file(uint64_t claimed, const char *header, size_t data_bytes)
{
	int fd = memfd_create("safetensors", MFD_CLOEXEC);
	size_t length = strlen(header);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, &claimed, 8), 8);
	assert_int_equal(write(fd, header, length), length);
	assert_int_equal(ftruncate(fd, (off_t)(8 + length + data_bytes)), 0);
	return fd;
}

static void refuse_file(int fd, const char *words)
{
	struct md_file file;

	th_assert_status(md_file_read(fd, &file), PS_INVALID_ARGUMENT);
	assert_non_null(strstr(bs_fail_text(), words));
	close(fd);
}

static void test_safetensors_file_is_read_in_place(void **state)
{
	const char *text = FOUR;
	int fd = make_file(strlen(text), text, 16);
	off_t before = lseek(fd, 0, SEEK_CUR);
	struct md_file file;

	(void)state;
	th_assert_ok(md_file_read(fd, &file));
	assert_int_equal(file.tensors[0].offset, 8 + strlen(text));
	assert_int_equal(lseek(fd, 0, SEEK_CUR), before);
	md_file_done(&file);
	close(fd);
}

static void test_safetensors_file_of_five_bytes_is_refused(void **state)
{
	int fd = make_file(0, "", 0);

	(void)state;
	assert_int_equal(ftruncate(fd, 5), 0);
	refuse_file(fd, "has 5 bytes");
}

static void test_safetensors_header_cut_off_is_refused(void **state)
{
	(void)state;
	refuse_file(make_file(1000, "{", 0), "claims 1000 bytes");
}

static void test_safetensors_data_cut_off_is_refused(void **state)
{
	const char *text = FOUR;

	(void)state;
	refuse_file(make_file(strlen(text), text, 15), "15 bytes of data");
}

static void test_safetensors_header_of_101_mb_is_refused(void **state)
{
	(void)state;
	refuse_file(make_file(MD_MAX_HEADER + 1, "{}", 2 * MD_MAX_HEADER),
		    "allows 100000000");
}

static void test_safetensors_header_of_100_mb_is_read(void **state)
{
	enum { LENGTH = MD_MAX_HEADER };
	int fd = make_file(LENGTH, "{}", 0);
	struct md_file file;
	char *spaces;

	(void)state;
	assert_int_equal(ftruncate(fd, 8 + LENGTH), 0);
	spaces = mmap(NULL, 8 + LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		      0);
	assert_ptr_not_equal(spaces, MAP_FAILED);
	memset(spaces + 10, ' ', LENGTH - 2);
	munmap(spaces, 8 + LENGTH);
	th_assert_ok(md_file_read(fd, &file));
	assert_int_equal(file.count, 0);
	md_file_done(&file);
	close(fd);
}

static void test_safetensors_length_of_all_ones_is_refused(void **state)
{
	(void)state;
	refuse_file(make_file(UINT64_MAX, "{}", 0), "allows 100000000");
}

static void test_safetensors_pipe_is_refused(void **state)
{
	int ends[2];

	(void)state;
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	close(ends[1]);
	refuse_file(ends[0], "no regular file");
}

static void test_safetensors_closed_fd_is_a_system_error(void **state)
{
	struct md_file file;

	(void)state;
	th_assert_status(md_file_read(-1, &file), PS_SYSTEM);
}

static const struct th_test tests[] = {
	TH_TEST(test_safetensors_file_is_read_in_place),
	TH_TEST(test_safetensors_file_of_five_bytes_is_refused),
	TH_TEST(test_safetensors_header_cut_off_is_refused),
	TH_TEST(test_safetensors_data_cut_off_is_refused),
	TH_TEST(test_safetensors_header_of_101_mb_is_refused),
	TH_TEST(test_safetensors_header_of_100_mb_is_read),
	TH_TEST(test_safetensors_length_of_all_ones_is_refused),
	TH_TEST(test_safetensors_pipe_is_refused),
	TH_TEST(test_safetensors_closed_fd_is_a_system_error),
};

TH_MAIN("safetensors_file", tests)
