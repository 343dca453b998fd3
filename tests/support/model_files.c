/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/model_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/harness.h"

#define LINE_BYTES 128u

/* FNV-1a of the name, so that tensors of alike names differ. */
static uint64_t seed(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (; *name != '\0'; name++)
		hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
	return hash;
}

static uint8_t byte_of(uint64_t start, uint64_t at)
{
	return (uint8_t)((start + at) * 0x9e3779b97f4a7c15u >> 56);
}

uint8_t th_tensor_byte(const char *name, uint64_t at)
{
	return byte_of(seed(name), at);
}

void th_assert_tensor(const uint8_t *memory, const struct th_tensor *tensor)
{
	uint64_t start = seed(tensor->name);

	for (uint64_t i = 0; i < tensor->bytes; i++)
		if (memory[i] != byte_of(start, i))
			fail_msg("byte %" PRIu64 " of tensor %s is %u, not %u",
				 i, tensor->name, memory[i], byte_of(start, i));
}

static void write_all(int fd, const void *bytes, size_t size)
{
	const char *at = bytes;

	while (size > 0) {
		ssize_t put = write(fd, at, size);

		assert_true(put > 0);
		at += put;
		size -= (size_t)put;
	}
}

static int begin_file(const char *header)
{
	uint64_t length = strlen(header);
	int fd = memfd_create("model", MFD_CLOEXEC);

	assert_true(fd >= 0);
	write_all(fd, &length, sizeof(length));
	write_all(fd, header, length);
	return fd;
}

static void end_file(int fd)
{
	const struct timespec long_past[2] = { { 1000, 0 }, { 1000, 0 } };

	assert_int_equal(futimens(fd, long_past), 0);
}

int th_raw_model_file(const char *header, size_t data_bytes)
{
	int fd = begin_file(header);

	assert_int_equal(
		ftruncate(fd, (off_t)(8 + strlen(header) + data_bytes)), 0);
	end_file(fd);
	return fd;
}

static void write_tensor(int fd, const struct th_tensor *tensor)
{
	uint8_t *bytes = malloc(tensor->bytes + 1);
	uint64_t start = seed(tensor->name);

	assert_non_null(bytes);
	for (uint64_t i = 0; i < tensor->bytes; i++)
		bytes[i] = byte_of(start, i);
	write_all(fd, bytes, tensor->bytes);
	free(bytes);
}

int th_model_file(const struct th_tensor *tensors, size_t count)
{
	size_t room = (count + 1) * LINE_BYTES, used = 1;
	char *header = malloc(room);
	uint64_t offset = 0;
	int fd;

	assert_non_null(header);
	header[0] = '{';
	for (size_t i = 0; i < count; i++) {
		uint64_t end = offset + tensors[i].bytes;

		used += (size_t)snprintf(
			header + used, room - used,
			"%s\"%s\":{\"dtype\":\"U8\",\"shape\":[%" PRIu64 "],"
			"\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
			i > 0 ? "," : "", tensors[i].name, tensors[i].bytes,
			offset, end);
		assert_true(used + 2 < room);
		offset = end;
	}
	memcpy(header + used, "}", 2);
	fd = begin_file(header);
	free(header);
	for (size_t i = 0; i < count; i++)
		write_tensor(fd, &tensors[i]);
	end_file(fd);
	return fd;
}
