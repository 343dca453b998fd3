/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Copies of models in host memory when the files are wrong, change, or do not
 * answer, when there is no room, and when nobody wants them any more. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "model/hash.h"
#include "tests/support/harness.h"
#include "tests/support/host_copies.h"

#define CHUNK MD_CHUNK_BYTES
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static const struct th_tensor two[] = { { "a", 5000 }, { "b", 300 } };
static const struct th_tensor large[] = { { "x", 5 * CHUNK + 5 } };

/* The file that a hook has to do with, and how often it was there. */
static _Atomic(int) watched;
static atomic_uint reads;
static atomic_uint passed; /* the gate */
/* A hook waits until it is readable. */
static int gate;

/* Reads of tensors are behind the header. */
static bool is_data(off_t offset)
{
	return offset > 8;
}

/* ---- files that are wrong ---- */

static void test_host_file_cut_off_is_refused(void **state)
{
	int file = th_model_file(two, COUNT(two));

	assert_int_equal(ftruncate(file, 5000), 0);
	th_host_refuse(*state, file, PS_INVALID_ARGUMENT, "data_offsets");
}

static void test_host_file_without_tensors_is_refused(void **state)
{
	th_host_refuse(*state, th_raw_model_file("{}", 0), PS_INVALID_ARGUMENT,
		       "0 tensors, and not a byte in any");
}

static void test_host_file_of_empty_tensors_is_refused(void **state)
{
	const struct th_tensor empty[] = { { "a", 0 }, { "b", 0 } };

	th_host_refuse(*state, th_model_file(empty, 2), PS_INVALID_ARGUMENT,
		       "2 tensors, and not a byte in any");
}

static void test_host_folder_is_refused(void **state)
{
	th_host_refuse(*state, open("/", O_RDONLY | O_CLOEXEC),
		       PS_INVALID_ARGUMENT, "is no regular file");
}

/* The second of two files is the wrong one. */
static void refuse_second(struct pd_hosts *hosts, int second,
			  enum ps_status status, const char *words)
{
	const int files[] = { th_model_file(two, COUNT(two)), second };
	struct pd_host_made made;

	made = th_host_make(hosts, files, 2, NULL, TH_ROOM);
	assert_int_equal(made.status, status);
	if (strstr(made.text, words) == NULL)
		fail_msg("\"%s\" does not say \"%s\"", made.text, words);
}

static void test_host_wrong_file_of_several_is_named(void **state)
{
	refuse_second(*state, th_raw_model_file("[]", 0), PS_INVALID_ARGUMENT,
		      "file 2 of 2: the header does not begin");
}

static void test_host_name_in_two_files_is_refused(void **state)
{
	const struct th_tensor again[] = { { "c", 1 }, { "b", 1 } };

	refuse_second(*state, th_model_file(again, 2), PS_INVALID_ARGUMENT,
		      "two tensors are called b");
}

/* Each file is within the limit. */
static void test_host_too_many_tensors_in_all_is_unsupported(void **state)
{
	struct th_tensor *many = calloc(MD_MAX_TENSORS, sizeof(many[0]));
	char(*names)[8] = calloc(MD_MAX_TENSORS, sizeof(names[0]));
	size_t count = MD_MAX_TENSORS - 1;

	assert_true(many != NULL && names != NULL);
	for (size_t i = 0; i < count; i++) {
		snprintf(names[i], sizeof(names[i]), "t%zu", i);
		many[i] = (struct th_tensor){ names[i], 0 };
	}
	refuse_second(*state, th_model_file(many, count), PS_UNSUPPORTED,
		      "file 2 of 2: the files have more than 100000 tensors");
	free(many);
	free(names);
}

/* ---- files that change ---- */

static ssize_t write_first(int fd, void *buffer, size_t bytes, off_t offset)
{
	if (is_data(offset) && atomic_fetch_add(&reads, 1) == 0)
		assert_int_equal(pwrite(watched, "x", 1, 6000), 1);
	return __real_pread64(fd, buffer, bytes, offset);
}

/* The size is as before. */
static void test_host_file_that_changes_is_refused(void **state)
{
	int file = th_model_file(two, COUNT(two)), copy = dup(file);

	reads = 0;
	watched = copy;
	th_on_read = write_first;
	th_host_refuse(*state, file, PS_INVALID_ARGUMENT,
		       "changed while it was read");
	close(copy);
}

/* Behind all that is read: a byte that belongs to no tensor. */
static ssize_t append_first(int fd, void *buffer, size_t bytes, off_t offset)
{
	if (is_data(offset) && atomic_fetch_add(&reads, 1) == 0) {
		off_t end = lseek(watched, 0, SEEK_END);

		assert_int_equal(pwrite(watched, "x", 1, end), 1);
	}
	return __real_pread64(fd, buffer, bytes, offset);
}

static void test_host_file_that_grows_is_refused(void **state)
{
	int file = th_model_file(two, COUNT(two)), copy = dup(file);

	reads = 0;
	watched = copy;
	th_on_read = append_first;
	th_host_refuse(*state, file, PS_INVALID_ARGUMENT,
		       "changed while it was read");
	close(copy);
}

static ssize_t cut_first(int fd, void *buffer, size_t bytes, off_t offset)
{
	if (is_data(offset) && atomic_fetch_add(&reads, 1) == 0)
		assert_int_equal(ftruncate(watched, 1000), 0);
	return __real_pread64(fd, buffer, bytes, offset);
}

static void test_host_file_that_shrinks_is_refused(void **state)
{
	int file = th_model_file(large, 1), copy = dup(file);

	reads = 0;
	watched = copy;
	th_on_read = cut_first;
	th_host_refuse(*state, file, PS_INVALID_ARGUMENT,
		       "became shorter while it was read");
	close(copy);
}

static void test_host_other_contents_than_before_are_refused(void **state)
{
	const struct th_tensor other[] = { { "a", 5000 }, { "b", 301 } };
	struct pd_host_made before, after;
	int file = th_model_file(other, 2);

	before = th_host_make_of(*state, two, 2);
	after = th_host_make(*state, &file, 1, before.hash, TH_ROOM);
	assert_int_equal(after.status, PS_MODEL_MISMATCH);
	assert_non_null(strstr(after.text, "other contents"));
	assert_null(after.memory);
	assert_null(after.layout.memory);
	th_host_drop(&before);
}

/* ---- reads ---- */

static ssize_t fail_data(int fd, void *buffer, size_t bytes, off_t offset)
{
	if (!is_data(offset))
		return __real_pread64(fd, buffer, bytes, offset);
	errno = EIO;
	return -1;
}

static void test_host_read_that_fails_is_reported(void **state)
{
	th_on_read = fail_data;
	th_host_refuse(*state, th_model_file(two, 2), PS_SYSTEM, "read at");
}

static ssize_t fault_data(int fd, void *buffer, size_t bytes, off_t offset)
{
	if (!is_data(offset))
		return __real_pread64(fd, buffer, bytes, offset);
	errno = EFAULT;
	return -1;
}

/* What a read into memory says that the system cannot give. */
static void test_host_no_memory_while_filling_is_reported(void **state)
{
	th_on_read = fault_data;
	th_host_refuse(*state, th_model_file(two, 2), PS_HOST_MEMORY,
		       "no memory for the copy");
}

/* Interrupted each second time, and 100 bytes at most the others. */
static ssize_t read_little(int fd, void *buffer, size_t bytes, off_t offset)
{
	if (atomic_fetch_add(&reads, 1) % 2 == 0) {
		errno = EINTR;
		return -1;
	}
	return __real_pread64(fd, buffer, bytes < 100 ? bytes : 100, offset);
}

static void test_host_short_reads_make_the_same_copy(void **state)
{
	struct pd_host_made made;

	th_on_read = read_little;
	made = th_host_make_of(*state, two, 2);
	th_assert_tensor(made.memory, &two[0]);
	th_assert_tensor((const uint8_t *)made.memory + 5120, &two[1]);
	th_host_drop(&made);
}

/* ---- room ---- */

static void test_host_copy_above_its_room_says_how_much(void **state)
{
	int file = th_model_file(large, 1);
	struct pd_host_made made;

	made = th_host_make(*state, &file, 1, NULL, 5 * CHUNK);
	assert_int_equal(made.status, PS_HOST_MEMORY);
	assert_int_equal(made.host_bytes, 5 * CHUNK + (2u << 20));
	assert_null(made.memory);
}

static void test_host_copy_of_just_its_room_is_made(void **state)
{
	int file = th_model_file(large, 1);
	struct pd_host_made made;

	made = th_host_make(*state, &file, 1, NULL, 5 * CHUNK + (2u << 20));
	th_assert_status(made.status, PS_OK);
	assert_int_equal(lseek(made.copy, 0, SEEK_END), made.host_bytes);
	th_host_drop(&made);
}

/* More than any machine has, in a file without a block on the disk. */
static void test_host_copy_of_an_exabyte_is_refused(void **state)
{
	int file = th_raw_model_file(
		"{\"a\":{\"dtype\":\"U8\",\"shape\":[1152921504606846976],"
		"\"data_offsets\":[0,1152921504606846976]}}",
		UINT64_C(1) << 60);
	struct pd_host_made made;

	made = th_host_make(*state, &file, 1, NULL, UINT64_MAX);
	assert_int_equal(made.status, PS_HOST_MEMORY);
	assert_int_equal(made.host_bytes, UINT64_C(1) << 60);
}

static void test_host_no_descriptor_for_the_files_is_said(void **state)
{
	int file = th_model_file(two, 2);
	struct rlimit before, now;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	now = before;
	now.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	th_assert_status(pd_hosts_make(*state, 0, 1, &file, 1, NULL, TH_ROOM),
			 PS_FD_LIMIT);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	close(file);
}

static void test_host_closed_file_is_said(void **state)
{
	const int file = -1;

	th_assert_status(pd_hosts_make(*state, 0, 1, &file, 1, NULL, TH_ROOM),
			 PS_SYSTEM);
}

/* ---- files that do not answer ---- */

/* Waits at the gate with each read of the watched file's data. */
static ssize_t wait_at_gate(int fd, void *buffer, size_t bytes, off_t offset)
{
	struct stat here, there;
	uint64_t one;

	assert_int_equal(fstat(fd, &here), 0);
	assert_int_equal(fstat(watched, &there), 0);
	if (is_data(offset) && here.st_ino == there.st_ino) {
		atomic_fetch_add(&reads, 1);
		assert_int_equal(read(gate, &one, sizeof(one)), sizeof(one));
		atomic_fetch_add(&passed, 1);
	}
	return __real_pread64(fd, buffer, bytes, offset);
}

/* Begins a copy that waits with all four threads. *file_out: the caller's. */
static void begin_stuck(struct pd_hosts *hosts, uint32_t model, int *file_out)
{
	*file_out = th_model_file(large, 1);
	gate = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	assert_true(gate >= 0);
	reads = 0;
	passed = 0;
	watched = *file_out;
	th_on_read = wait_at_gate;
	th_assert_ok(
		pd_hosts_make(hosts, model, 1, file_out, 1, NULL, TH_ROOM));
	while (reads < 4)
		sched_yield();
}

static void open_gate(void)
{
	const uint64_t many = 1000;

	assert_int_equal(write(gate, &many, sizeof(many)), sizeof(many));
}

static void test_host_stuck_file_holds_up_no_other(void **state)
{
	struct pd_host_made made;
	int file;

	begin_stuck(*state, 1, &file);
	made = th_host_make_of(*state, two, 2);
	th_host_drop(&made);
	open_gate();
	made = th_host_take(*state);
	assert_int_equal(made.model, 1);
	th_assert_tensor(made.memory, &large[0]);
	th_host_drop(&made);
	close(file);
	close(gate);
}

static void test_host_progress_is_of_the_bytes_read(void **state)
{
	uint64_t done = 1, all = 1;
	struct pd_host_made made;
	int file;

	pd_hosts_progress(*state, 1, &done, &all);
	assert_int_equal(done + all, 0);
	begin_stuck(*state, 1, &file);
	pd_hosts_progress(*state, 1, &done, &all);
	assert_int_equal(done, 0);
	assert_int_equal(all, large[0].bytes);
	open_gate();
	made = th_host_take(*state);
	pd_hosts_progress(*state, 1, &done, &all);
	assert_int_equal(done + all, 0);
	th_host_drop(&made);
	close(file);
	close(gate);
}

/* Until no more are open, that is until threads have ended. */
static void await_fds(size_t count)
{
	uint64_t until = th_now_ns() + UINT64_C(20000000000);

	while (th_open_fds() > count && th_now_ns() < until)
		sched_yield();
	assert_int_equal(th_open_fds(), count);
}

static void test_host_stopped_is_not_taken(void **state)
{
	size_t before = th_open_fds();
	struct pd_host_made made;
	int file;

	begin_stuck(*state, 1, &file);
	pd_hosts_stop(*state, 1);
	open_gate();
	await_fds(before + 2);
	assert_false(pd_hosts_take(*state, &made));
	close(file);
	close(gate);
}

/* At once, while the threads of the first are stuck. */
static void test_host_stopped_is_made_again(void **state)
{
	struct pd_host_made made;
	int file, other;

	begin_stuck(*state, 1, &file);
	pd_hosts_stop(*state, 1);
	other = th_model_file(two, 2);
	th_assert_ok(pd_hosts_make(*state, 1, 2, &other, 1, NULL, TH_ROOM));
	open_gate();
	made = th_host_take(*state);
	assert_int_equal(made.serial, 2);
	assert_int_equal(made.tensors, 2);
	th_host_drop(&made);
	pd_hosts_free(*state);
	*state = NULL;
	close(file);
	close(other);
	close(gate);
}

static void test_host_stopped_reads_no_more_chunks(void **state)
{
	int file;

	begin_stuck(*state, 1, &file);
	pd_hosts_stop(*state, 1);
	open_gate();
	pd_hosts_free(*state);
	*state = NULL;
	assert_int_equal(reads, 4);
	close(file);
	close(gate);
}

static void test_host_stop_of_one_that_is_made_gives_it_up(void **state)
{
	struct pollfd look = { pd_hosts_event(*state), POLLIN, 0 };
	int file = th_model_file(two, 2);
	struct pd_host_made made;

	th_assert_ok(pd_hosts_make(*state, 1, 1, &file, 1, NULL, TH_ROOM));
	assert_int_equal(poll(&look, 1, 30000), 1);
	pd_hosts_stop(*state, 1);
	assert_false(pd_hosts_take(*state, &made));
	pd_hosts_stop(*state, 1);
	close(file);
}

/* What nobody took goes with it. */
static void test_host_free_gives_up_what_is_made(void **state)
{
	struct pollfd look = { pd_hosts_event(*state), POLLIN, 0 };
	int file = th_model_file(two, 2);

	th_assert_ok(pd_hosts_make(*state, 1, 1, &file, 1, NULL, TH_ROOM));
	assert_int_equal(poll(&look, 1, 30000), 1);
	close(file);
}

static void test_host_free_does_not_wait_for_the_stuck(void **state)
{
	size_t before;
	int file;

	before = th_open_fds() - 1; /* without the event */
	begin_stuck(*state, 1, &file);
	pd_hosts_free(*state);
	*state = NULL;
	assert_int_equal(reads, 4);
	open_gate();
	/* The threads end by themselves, and take everything with them. */
	await_fds(before + 2);
	assert_int_equal(passed, 4);
	close(file);
	close(gate);
}

/* ---- giving up ---- */

static void test_host_discard_unmaps_and_closes(void **state)
{
	struct pd_host_made made = th_host_make_of(*state, large, 1);
	size_t before = th_open_fds();

	pd_hosts_discard(*state, made.memory, made.bytes, made.copy);
	made.memory = NULL;
	made.copy = -1;
	pd_hosts_free(*state);
	*state = NULL;
	assert_int_equal(th_open_fds(), before - 2); /* and the event */
	th_host_drop(&made);
}

static void test_host_discard_of_a_descriptor_alone_closes(void **state)
{
	size_t before = th_open_fds();

	pd_hosts_discard(*state, NULL, 0, dup(STDERR_FILENO));
	assert_int_equal(th_open_fds(), before);
	pd_hosts_discard(*state, NULL, 0, -1);
	pd_hosts_free(NULL);
}

#define WITH_HOSTS(test) TH_TEST_SETUP(test, th_hosts_setup, th_hosts_teardown)

static const struct th_test tests[] = {
	WITH_HOSTS(test_host_file_cut_off_is_refused),
	WITH_HOSTS(test_host_file_without_tensors_is_refused),
	WITH_HOSTS(test_host_file_of_empty_tensors_is_refused),
	WITH_HOSTS(test_host_folder_is_refused),
	WITH_HOSTS(test_host_wrong_file_of_several_is_named),
	WITH_HOSTS(test_host_name_in_two_files_is_refused),
	WITH_HOSTS(test_host_too_many_tensors_in_all_is_unsupported),
	WITH_HOSTS(test_host_file_that_changes_is_refused),
	WITH_HOSTS(test_host_file_that_grows_is_refused),
	WITH_HOSTS(test_host_file_that_shrinks_is_refused),
	WITH_HOSTS(test_host_other_contents_than_before_are_refused),
	WITH_HOSTS(test_host_read_that_fails_is_reported),
	WITH_HOSTS(test_host_no_memory_while_filling_is_reported),
	WITH_HOSTS(test_host_short_reads_make_the_same_copy),
	WITH_HOSTS(test_host_copy_above_its_room_says_how_much),
	WITH_HOSTS(test_host_copy_of_just_its_room_is_made),
	WITH_HOSTS(test_host_copy_of_an_exabyte_is_refused),
	WITH_HOSTS(test_host_no_descriptor_for_the_files_is_said),
	WITH_HOSTS(test_host_closed_file_is_said),
	WITH_HOSTS(test_host_stuck_file_holds_up_no_other),
	WITH_HOSTS(test_host_progress_is_of_the_bytes_read),
	WITH_HOSTS(test_host_stopped_is_not_taken),
	WITH_HOSTS(test_host_stopped_is_made_again),
	WITH_HOSTS(test_host_stopped_reads_no_more_chunks),
	WITH_HOSTS(test_host_stop_of_one_that_is_made_gives_it_up),
	WITH_HOSTS(test_host_free_gives_up_what_is_made),
	WITH_HOSTS(test_host_free_does_not_wait_for_the_stuck),
	WITH_HOSTS(test_host_discard_unmaps_and_closes),
	WITH_HOSTS(test_host_discard_of_a_descriptor_alone_closes),
};

TH_MAIN("host_trouble", tests)
