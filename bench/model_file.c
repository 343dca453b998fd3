/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "bench/model_file.h"

#include "base/status.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of one tensor in the header, at most. */
#define LINE_BYTES 160u

/* The header's text, filled up with blanks to whole 8 bytes. */
static char *write_header(const struct bn_model_size *size, uint64_t *bytes_out)
{
	const uint32_t tensors = size->layers * BN_MODEL_TENSORS;
	char *text = malloc((size_t)tensors * LINE_BYTES + 16);
	size_t used = 0;

	if (text == NULL)
		return NULL;
	text[used++] = '{';
	for (uint32_t i = 0; i < tensors; i++)
		used += (size_t)snprintf(
			text + used, LINE_BYTES,
			"%s\"layer%03u.part%u\":{\"dtype\":\"U8\",\"shape\":"
			"[%llu],\"data_offsets\":[%llu,%llu]}",
			i ? "," : "", i / BN_MODEL_TENSORS,
			i % BN_MODEL_TENSORS,
			(unsigned long long)size->tensor_bytes,
			(unsigned long long)(i * size->tensor_bytes),
			(unsigned long long)((i + 1) * size->tensor_bytes));
	text[used++] = '}';
	while (used % 8 != 0)
		text[used++] = ' ';
	*bytes_out = used;
	return text;
}

static bool put(int fd, const void *bytes, uint64_t count, uint64_t at)
{
	return pwrite(fd, bytes, count, (off_t)at) == (ssize_t)count;
}

/* The words only: the rest is a hole, whose zeros travel like anything. */
static bool write_file(int fd, const struct bn_model_size *size, uint32_t salt,
		       const char *header, uint64_t header_bytes)
{
	const uint64_t data = sizeof(header_bytes) + header_bytes;
	bool ok = ftruncate(fd, (off_t)(data + bn_model_bytes(size))) == 0 &&
		  put(fd, &header_bytes, sizeof(header_bytes), 0) &&
		  put(fd, header, header_bytes, sizeof(header_bytes));

	for (uint32_t i = 0; ok && i < size->layers * BN_MODEL_TENSORS; i++) {
		const uint32_t word = bn_model_word(i, salt);

		ok = put(fd, &word, sizeof(word),
			 data + (i + 1) * size->tensor_bytes - sizeof(word));
	}
	return ok;
}

bool bn_model_write(const char *path, const struct bn_model_size *size,
		    uint32_t salt)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	uint64_t header_bytes = 0;
	char *header = write_header(size, &header_bytes);
	bool ok = fd >= 0 && header != NULL &&
		  write_file(fd, size, salt, header, header_bytes);

	if (!ok)
		bs_fail_errno("writing %s", path);
	free(header);
	if (fd >= 0)
		close(fd);
	return ok;
}
