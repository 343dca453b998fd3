/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The files that ps_model_add() opens, and what it refuses before it talks
 * with the daemon. */
#include "lib/model_files.h"

#include "tests/support/harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[256];

static const char *in_folder(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", th_temp_dir(), name);
	return path;
}

static void write_text(const char *name, const char *text)
{
	FILE *file = fopen(in_folder(name), "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

/* A safetensors file of one tensor, of four bytes. */
static void write_tensor(const char *name, const char *tensor)
{
	char header[256];
	uint64_t length =
		(uint64_t)snprintf(header, sizeof(header),
				   "{\"%s\":{\"dtype\":\"U8\",\"shape\":[4],"
				   "\"data_offsets\":[0,4]}}",
				   tensor);
	FILE *file = fopen(in_folder(name), "w");

	assert_non_null(file);
	assert_int_equal(fwrite(&length, sizeof(length), 1, file), 1);
	assert_int_equal(fwrite(header, length, 1, file), 1);
	assert_int_equal(fwrite("abcd", 4, 1, file), 1);
	assert_int_equal(fclose(file), 0);
}

static void write_index(const char *first, const char *second)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "{\"metadata\":{},\"weight_map\":{\"a\":\"%s\",\"b\":\"%s\"}}",
		 first, second);
	write_text("model.safetensors.index.json", text);
}

static enum ps_status open_files(const char *name, struct lb_files *files)
{
	const struct ps_model_source source = {
		.struct_size = sizeof(source),
		.path = in_folder(name),
	};

	return lb_files_open(&source, files);
}

static void assert_refused(const char *name, enum ps_status status,
			   const char *part)
{
	struct lb_files files;

	th_assert_status(open_files(name, &files), status);
	assert_int_equal(files.count, 0);
	assert_non_null(strstr(ps_error_detail(), part));
}

/* ---- files ---- */

static void test_sources_single_file_is_opened(void **state)
{
	struct lb_files files;

	(void)state;
	write_tensor("one.safetensors", "a");
	th_assert_ok(open_files("one.safetensors", &files));
	assert_int_equal(files.count, 1);
	lb_files_close(&files);
}

static void test_sources_descriptor_stays_the_callers(void **state)
{
	struct ps_model_source source = { .struct_size = sizeof(source) };
	struct lb_files files;

	(void)state;
	write_tensor("one.safetensors", "a");
	source.fd = open(in_folder("one.safetensors"), O_RDONLY | O_CLOEXEC);
	th_assert_ok(lb_files_open(&source, &files));
	assert_int_not_equal(files.fd[0], source.fd);
	lb_files_close(&files);
	assert_int_equal(close(source.fd), 0);
	th_assert_status(lb_files_open(&source, &files), PS_INVALID_ARGUMENT);
}

static void test_sources_index_brings_its_parts_in_order(void **state)
{
	struct lb_files files;
	struct stat first, opened;

	(void)state;
	write_tensor("x-2.safetensors", "a");
	write_tensor("x-1.safetensors", "b");
	write_index("x-2.safetensors", "x-1.safetensors");
	th_assert_ok(open_files("model.safetensors.index.json", &files));
	assert_int_equal(files.count, 2);
	assert_int_equal(stat(in_folder("x-1.safetensors"), &first), 0);
	assert_int_equal(fstat(files.fd[0], &opened), 0);
	assert_int_equal(opened.st_ino, first.st_ino);
	lb_files_close(&files);
}

static void test_sources_index_with_a_part_missing_is_refused(void **state)
{
	(void)state;
	write_tensor("x-1.safetensors", "a");
	write_index("x-1.safetensors", "x-9.safetensors");
	assert_refused("model.safetensors.index.json", PS_SYSTEM,
		       "x-9.safetensors");
}

static void test_sources_index_of_other_tensors_is_refused(void **state)
{
	(void)state;
	write_tensor("x-1.safetensors", "a");
	write_tensor("x-2.safetensors", "c");
	write_index("x-1.safetensors", "x-2.safetensors");
	assert_refused("model.safetensors.index.json", PS_INVALID_ARGUMENT,
		       "index.json");
}

static void test_sources_index_with_a_broken_part_is_refused(void **state)
{
	(void)state;
	write_tensor("x-1.safetensors", "a");
	write_text("x-2.safetensors", "short");
	write_index("x-1.safetensors", "x-2.safetensors");
	assert_refused("model.safetensors.index.json", PS_INVALID_ARGUMENT,
		       "x-2.safetensors");
}

static void test_sources_index_that_leaves_its_folder_is_refused(void **state)
{
	(void)state;
	write_tensor("x-1.safetensors", "a");
	write_index("x-1.safetensors", "../x-1.safetensors");
	assert_refused("model.safetensors.index.json", PS_INVALID_ARGUMENT,
		       "index.json");
}

static void test_sources_file_that_is_not_there_is_refused(void **state)
{
	(void)state;
	assert_refused("none.safetensors", PS_SYSTEM, "none.safetensors");
}

static void test_sources_file_that_may_not_be_read_is_refused(void **state)
{
	(void)state;
	if (geteuid() == 0)
		th_skip("root may read every file");
	write_tensor("one.safetensors", "a");
	assert_int_equal(chmod(in_folder("one.safetensors"), 0), 0);
	assert_refused("one.safetensors", PS_PERMISSION, "one.safetensors");
	assert_int_equal(unlink(in_folder("one.safetensors")), 0);
}

static void test_sources_pipe_is_refused_without_waiting(void **state)
{
	struct lb_files files;
	enum ps_status status;

	(void)state;
	assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
	status = open_files("pipe", &files);
	assert_int_not_equal(status, PS_OK);
}

/* ---- calls ---- */

static struct ps_model_source source_of(const char *name)
{
	write_tensor("one.safetensors", "a");
	return (struct ps_model_source){
		.struct_size = sizeof(struct ps_model_source),
		.name = name,
		.path = in_folder("one.safetensors"),
	};
}

static enum ps_status add(const struct ps_model_source *source)
{
	return ps_model_add("/nowhere/socket", source, 0, NULL);
}

static void test_add_without_a_daemon_says_so(void **state)
{
	struct ps_model_source source = source_of("a/b-1.0:x@y+z_");

	(void)state;
	th_assert_status(add(&source), PS_NO_DAEMON);
}

static void test_add_under_a_bad_name_refuses(void **state)
{
	static const char *const names[] = { "", "a b", "\xc3\xa4", NULL };
	char longest[PS_MODEL_NAME_MAX + 2];
	struct ps_model_source source;

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		source = source_of(names[i]);
		th_assert_status(add(&source), PS_INVALID_ARGUMENT);
	}
	memset(longest, 'a', sizeof(longest) - 1);
	longest[PS_MODEL_NAME_MAX + 1] = '\0';
	source = source_of(longest);
	th_assert_status(add(&source), PS_INVALID_ARGUMENT);
	longest[PS_MODEL_NAME_MAX] = '\0';
	th_assert_status(add(&source), PS_NO_DAEMON);
}

static void test_add_with_a_plan_that_is_none_refuses(void **state)
{
	struct ps_model_source source = source_of("a");

	(void)state;
	source.plan = PS_PLAN_GROUPS;
	th_assert_status(add(&source), PS_INVALID_ARGUMENT);
	source.groups = 3;
	th_assert_status(add(&source), PS_NO_DAEMON);
	source.plan = PS_PLAN_ONE;
	th_assert_status(add(&source), PS_INVALID_ARGUMENT);
	source.plan = (enum ps_model_plan)5;
	th_assert_status(add(&source), PS_INVALID_ARGUMENT);
}

static void test_add_with_what_is_not_known_refuses(void **state)
{
	struct ps_model_source source = source_of("a");

	(void)state;
	source.flags = 2;
	th_assert_status(add(&source), PS_INVALID_ARGUMENT);
	source.flags = PS_MODEL_PUBLIC;
	th_assert_status(add(&source), PS_NO_DAEMON);
	source.struct_size--;
	th_assert_status(add(&source), PS_INVALID_ARGUMENT);
	source.struct_size++;
	th_assert_status(ps_model_add("/nowhere/socket", &source, -2, NULL),
			 PS_INVALID_ARGUMENT);
}

static enum ps_status order(enum ps_model_action action, const char *name,
			    int timeout_ms)
{
	return ps_model_order("/nowhere/socket", action, name, timeout_ms);
}

static void test_order_that_is_none_refuses(void **state)
{
	(void)state;
	th_assert_status(order(PS_MODEL_LOAD, "a", 0), PS_NO_DAEMON);
	th_assert_status(order((enum ps_model_action)0, "a", 0),
			 PS_INVALID_ARGUMENT);
	th_assert_status(order((enum ps_model_action)7, "a", 0),
			 PS_INVALID_ARGUMENT);
	th_assert_status(order(PS_MODEL_LOAD, "a b", 0), PS_INVALID_ARGUMENT);
	th_assert_status(order(PS_MODEL_LOAD, NULL, 0), PS_INVALID_ARGUMENT);
	th_assert_status(order(PS_MODEL_LOAD, "a", -3), PS_INVALID_ARGUMENT);
}

static const struct th_test tests[] = {
	TH_TEST(test_sources_single_file_is_opened),
	TH_TEST(test_sources_descriptor_stays_the_callers),
	TH_TEST(test_sources_index_brings_its_parts_in_order),
	TH_TEST(test_sources_index_with_a_part_missing_is_refused),
	TH_TEST(test_sources_index_of_other_tensors_is_refused),
	TH_TEST(test_sources_index_with_a_broken_part_is_refused),
	TH_TEST(test_sources_index_that_leaves_its_folder_is_refused),
	TH_TEST(test_sources_file_that_is_not_there_is_refused),
	TH_TEST(test_sources_file_that_may_not_be_read_is_refused),
	TH_TEST(test_sources_pipe_is_refused_without_waiting),
	TH_TEST(test_add_without_a_daemon_says_so),
	TH_TEST(test_add_under_a_bad_name_refuses),
	TH_TEST(test_add_with_a_plan_that_is_none_refuses),
	TH_TEST(test_add_with_what_is_not_known_refuses),
	TH_TEST(test_order_that_is_none_refuses),
};

TH_MAIN("model_sources", tests)
