/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Copies of models in host memory: what is made of right files, and what is
 * inherited. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"
#include "model/hash.h"
#include "tests/support/harness.h"
#include "tests/support/host_copies.h"

#define CHUNK MD_CHUNK_BYTES
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static const struct th_tensor small[] = {
	{ "a", 1 },
	{ "b", 300 },
	{ "c", 0 },
	{ "d", 256 },
};

/* Borders of chunks in a tensor, between two, and in what is between them. */
static const struct th_tensor large[] = {
	{ "first", CHUNK - 256 }, { "ends", 200 },
	{ "inside", CHUNK + 77 }, { "tiny", 3 },
	{ "last", 1000 },
};

static void check_contents(const struct pd_host_made *made,
			   const struct th_tensor *tensors, size_t count)
{
	const uint8_t *memory = made->memory;
	uint64_t next = 0;

	assert_int_equal(made->tensors, count);
	for (size_t i = 0; i < count; i++) {
		th_assert_tensor(memory + next, &tensors[i]);
		next += tensors[i].bytes;
		for (; next % MD_LAYOUT_ALIGN != 0; next++)
			assert_int_equal(memory[next], 0);
	}
	assert_int_equal(next, made->bytes);
}

/* The hash of a copy, computed again in one thread. */
static void check_hash(const struct pd_host_made *made)
{
	uint64_t chunks = md_chunks(made->bytes);
	uint8_t *hashes = malloc(chunks * MD_HASH_BYTES);
	uint8_t hash[MD_HASH_BYTES];

	assert_non_null(hashes);
	for (uint64_t i = 0; i < chunks; i++) {
		uint64_t left = made->bytes - i * CHUNK;

		md_hash_chunk((const uint8_t *)made->memory + i * CHUNK,
			      left < CHUNK ? left : CHUNK,
			      hashes + i * MD_HASH_BYTES);
	}
	md_hash_model(made->layout.manifest.tensors,
		      made->layout.manifest.count, made->bytes, hashes, hash);
	assert_memory_equal(made->hash, hash, MD_HASH_BYTES);
	free(hashes);
}

/* ---- making ---- */

static void test_host_copy_has_the_layout(void **state)
{
	struct pd_host_made made;

	made = th_host_make_of(*state, small, COUNT(small));
	assert_int_equal(made.bytes, 256 + 512 + 256);
	assert_int_equal(made.host_bytes, 4096);
	check_contents(&made, small, COUNT(small));
	check_hash(&made);
	th_host_drop(&made);
}

static void test_host_copy_of_many_chunks_is_whole(void **state)
{
	struct pd_host_made made;

	made = th_host_make_of(*state, large, COUNT(large));
	assert_int_equal(md_chunks(made.bytes), 3);
	check_contents(&made, large, COUNT(large));
	check_hash(&made);
	th_host_drop(&made);
}

static void test_host_copy_by_one_thread_is_the_same(void **state)
{
	struct pd_host_made many, one;
	struct pd_hosts *hosts;

	th_assert_ok(pd_hosts_new(1, &hosts));
	many = th_host_make_of(*state, large, COUNT(large));
	one = th_host_make_of(hosts, large, COUNT(large));
	check_contents(&one, large, COUNT(large));
	assert_memory_equal(one.hash, many.hash, MD_HASH_BYTES);
	th_host_drop(&one);
	th_host_drop(&many);
	pd_hosts_free(hosts);
}

static void test_host_files_follow_each_other(void **state)
{
	int files[] = {
		th_model_file(small, 2),
		th_model_file(small + 2, 0),
		th_model_file(small + 2, 2),
	};
	struct pd_host_made made;

	made = th_host_make(*state, files, 3, NULL, TH_ROOM);
	th_assert_status(made.status, PS_OK);
	check_contents(&made, small, COUNT(small));
	assert_string_equal(made.layout.manifest.tensors[3].name, "d");
	th_host_drop(&made);
}

/* One model in two files has the hash of the same in one. */
static void test_host_hash_is_of_the_model_not_the_files(void **state)
{
	int files[] = { th_model_file(small, 1), th_model_file(small + 1, 3) };
	struct pd_host_made parts, whole;

	parts = th_host_make(*state, files, 2, NULL, TH_ROOM);
	whole = th_host_make_of(*state, small, COUNT(small));
	assert_memory_equal(parts.hash, whole.hash, MD_HASH_BYTES);
	th_host_drop(&parts);
	th_host_drop(&whole);
}

static void test_host_copy_stays_when_the_file_shrinks(void **state)
{
	int file = th_model_file(large, COUNT(large));
	struct pd_host_made made;

	th_assert_ok(pd_hosts_make(*state, 0, 1, &file, 1, NULL, TH_ROOM));
	made = th_host_take(*state);
	assert_int_equal(ftruncate(file, 0), 0);
	close(file);
	check_contents(&made, large, COUNT(large));
	th_host_drop(&made);
}

static void test_host_read_again_has_the_hash(void **state)
{
	int file = th_model_file(small, COUNT(small));
	struct pd_host_made first, again;

	first = th_host_make_of(*state, small, COUNT(small));
	again = th_host_make(*state, &file, 1, first.hash, TH_ROOM);
	th_assert_status(again.status, PS_OK);
	th_host_drop(&first);
	th_host_drop(&again);
}

static void test_host_many_models_at_once_are_right(void **state)
{
	enum { MODELS = 10 };
	struct pd_host_made made;

	for (uint32_t i = 0; i < MODELS; i++) {
		int file = th_model_file(large, 1 + i % COUNT(large));

		th_assert_ok(pd_hosts_make(*state, i, i + 1, &file, 1, NULL,
					   TH_ROOM));
		close(file);
	}
	for (uint32_t i = 0; i < MODELS; i++) {
		made = th_host_take(*state);
		th_assert_status(made.status, PS_OK);
		check_contents(&made, large, 1 + made.model % COUNT(large));
		th_host_drop(&made);
	}
}

static void test_host_take_without_any_says_so(void **state)
{
	struct pd_host_made made;

	assert_false(pd_hosts_take(*state, &made));
	made = th_host_make_of(*state, small, 1);
	th_host_drop(&made);
	assert_false(pd_hosts_take(*state, &made));
}

/* As many as the machine has; what they are is not seen from here. */
static void test_host_default_threads_make_a_copy(void **state)
{
	struct pd_host_made made;
	struct pd_hosts *hosts;

	(void)state;
	th_assert_ok(pd_hosts_new(0, &hosts));
	made = th_host_make_of(hosts, large, COUNT(large));
	check_contents(&made, large, COUNT(large));
	th_host_drop(&made);
	pd_hosts_free(hosts);
}

/* ---- what others hold cannot be changed under us ---- */

static void test_host_copy_cannot_be_cut(void **state)
{
	struct pd_host_made made = th_host_make_of(*state, small, 2);

	assert_int_equal(ftruncate(made.copy, 0), -1);
	th_host_drop(&made);
}

static void test_host_manifest_cannot_be_written(void **state)
{
	struct pd_host_made made = th_host_make_of(*state, small, 2);

	assert_int_equal(pwrite(made.manifest, "x", 1, 0), -1);
	assert_int_equal(ftruncate(made.manifest, 0), -1);
	th_host_drop(&made);
}

/* ---- inherited ---- */

static void test_host_adopted_is_the_same(void **state)
{
	struct pd_host_made made, adopted = { 0 };

	made = th_host_make_of(*state, large, COUNT(large));
	th_assert_ok(pd_host_adopt(made.copy, made.manifest, &adopted));
	check_contents(&adopted, large, COUNT(large));
	assert_memory_equal(adopted.hash, made.hash, MD_HASH_BYTES);
	assert_int_equal(adopted.host_bytes, made.host_bytes);
	pd_host_unmap(adopted.memory, adopted.bytes);
	pd_host_layout_done(&adopted.layout);
	th_host_drop(&made);
}

static void test_host_adopted_without_copy_has_the_layout(void **state)
{
	struct pd_host_made made, adopted = { .memory = &made };

	made = th_host_make_of(*state, small, COUNT(small));
	th_assert_ok(pd_host_adopt(-1, made.manifest, &adopted));
	assert_null(adopted.memory);
	assert_int_equal(adopted.bytes, made.bytes);
	assert_int_equal(adopted.tensors, COUNT(small));
	pd_host_layout_done(&adopted.layout);
	th_host_drop(&made);
}

/* Refused, for a reason in these words. */
static void refuse_adoption(int copy, int manifest, const char *words)
{
	struct pd_host_made adopted = { .bytes = 12345 };

	th_assert_status(pd_host_adopt(copy, manifest, &adopted),
			 PS_INVALID_ARGUMENT);
	assert_non_null(strstr(bs_fail_text(), words));
	assert_int_equal(adopted.bytes, 12345);
}

static void test_host_adopting_another_ones_copy_is_refused(void **state)
{
	struct pd_host_made one, other;

	one = th_host_make_of(*state, small, COUNT(small));
	other = th_host_make_of(*state, large, COUNT(large));
	refuse_adoption(one.copy, other.manifest, "a model's copy of");
	th_host_drop(&one);
	th_host_drop(&other);
}

static void test_host_adopting_an_unsealed_copy_is_refused(void **state)
{
	struct pd_host_made made = th_host_make_of(*state, small, 1);
	int copy = memfd_create("copy", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(copy, (off_t)made.host_bytes), 0);
	refuse_adoption(copy, made.manifest, "copy: a descriptor that is not");
	close(copy);
	th_host_drop(&made);
}

/* A memfd of these bytes. */
static int make_manifest(const void *bytes, size_t size, int seals)
{
	int fd = memfd_create("manifest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_host_adopting_an_unsealed_manifest_is_refused(void **state)
{
	struct pd_host_made made = th_host_make_of(*state, small, 1);
	int manifest = make_manifest(made.layout.memory, made.layout.size,
				     F_SEAL_SHRINK);

	refuse_adoption(made.copy, manifest, "manifest: a descriptor that");
	close(manifest);
	th_host_drop(&made);
}

static void test_host_adopting_no_manifest_is_refused(void **state)
{
	int empty = make_manifest("", 0, F_SEAL_SHRINK | F_SEAL_WRITE);
	int other = make_manifest("no", 2, F_SEAL_SHRINK | F_SEAL_WRITE);

	(void)state;
	refuse_adoption(-1, empty, "a model's manifest of 0 bytes");
	refuse_adoption(-1, other, "lacks its head");
	refuse_adoption(-1, -1, "manifest: a descriptor that");
	close(empty);
	close(other);
}

static void test_host_adopting_a_model_of_nothing_is_refused(void **state)
{
	const struct md_manifest none = { 0 };
	void *bytes;
	size_t size;
	int manifest;

	(void)state;
	th_assert_ok(md_manifest_encode(&none, &bytes, &size));
	manifest = make_manifest(bytes, size, F_SEAL_SHRINK | F_SEAL_WRITE);
	refuse_adoption(-1, manifest, "without a byte");
	close(manifest);
	free(bytes);
}

static void test_host_layout_done_twice_is_well(void **state)
{
	struct pd_host_made made = th_host_make_of(*state, small, 1);

	pd_host_layout_done(&made.layout);
	pd_host_layout_done(&made.layout);
	pd_host_layout_done(NULL);
	pd_host_unmap(NULL, 1);
	th_host_drop(&made);
}

#define WITH_HOSTS(test) TH_TEST_SETUP(test, th_hosts_setup, th_hosts_teardown)

static const struct th_test tests[] = {
	WITH_HOSTS(test_host_copy_has_the_layout),
	WITH_HOSTS(test_host_copy_of_many_chunks_is_whole),
	WITH_HOSTS(test_host_copy_by_one_thread_is_the_same),
	WITH_HOSTS(test_host_files_follow_each_other),
	WITH_HOSTS(test_host_hash_is_of_the_model_not_the_files),
	WITH_HOSTS(test_host_copy_stays_when_the_file_shrinks),
	WITH_HOSTS(test_host_read_again_has_the_hash),
	WITH_HOSTS(test_host_many_models_at_once_are_right),
	WITH_HOSTS(test_host_take_without_any_says_so),
	TH_TEST(test_host_default_threads_make_a_copy),
	WITH_HOSTS(test_host_copy_cannot_be_cut),
	WITH_HOSTS(test_host_manifest_cannot_be_written),
	WITH_HOSTS(test_host_adopted_is_the_same),
	WITH_HOSTS(test_host_adopted_without_copy_has_the_layout),
	WITH_HOSTS(test_host_adopting_another_ones_copy_is_refused),
	WITH_HOSTS(test_host_adopting_an_unsealed_copy_is_refused),
	WITH_HOSTS(test_host_adopting_an_unsealed_manifest_is_refused),
	TH_TEST(test_host_adopting_no_manifest_is_refused),
	TH_TEST(test_host_adopting_a_model_of_nothing_is_refused),
	WITH_HOSTS(test_host_layout_done_twice_is_well),
};

TH_MAIN("host", tests)
