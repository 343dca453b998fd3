/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DETAIL_BYTES 512

static _Thread_local char detail[DETAIL_BYTES];

struct status_row {
	const char *name;
	const char *text;
};

static const struct status_row rows[] = {
#define ROW(name, text) [name] = { #name, text }
	ROW(PS_OK, "success"),
	ROW(PS_INVALID_ARGUMENT, "an argument is not valid"),
	ROW(PS_OUT_OF_RANGE, "the range is not inside the pool"),
	ROW(PS_OVERLAP, "the range is inserted already"),
	ROW(PS_BUSY, "blocks are still allocated"),
	ROW(PS_NOT_OURS, "the pointer does not belong to this pool"),
	ROW(PS_INTERIOR, "the pointer is not the start of a block"),
	ROW(PS_DOUBLE_FREE, "the block was freed before"),
	ROW(PS_READ_ONLY, "the memory was shared read-only"),
	ROW(PS_FORKED, "the pool belongs to the parent process"),
	ROW(PS_OUT_OF_MEMORY, "the ranges inserted here are used up"),
	ROW(PS_DEVICE_MEMORY, "the GPU has too little free memory"),
	ROW(PS_HOST_MEMORY, "out of host memory"),
	ROW(PS_FD_LIMIT, "the limit of open files is too low"),
	ROW(PS_WINDOW_TAKEN, "the addresses of the pool are in use here"),
	ROW(PS_ALREADY_RESERVED, "another pool has this GPU"),
	ROW(PS_VERSION_MISMATCH, "the peer speaks another version"),
	ROW(PS_WRONG_GPU, "the GPU of the pool is not visible here"),
	ROW(PS_PROTOCOL, "the peer broke the protocol"),
	ROW(PS_PEER_GONE, "the peer closed the connection"),
	ROW(PS_TIMED_OUT, "the peer did not answer in time"),
	ROW(PS_REFUSED, "the peer refused"),
	ROW(PS_PERMISSION, "the peer is not a user to share with"),
	ROW(PS_BAD_SEGMENT, "the file descriptor is no segment"),
	ROW(PS_NO_DRIVER, "no usable CUDA driver"),
	ROW(PS_NO_DEVICE, "no such GPU"),
	ROW(PS_UNSUPPORTED, "not supported here"),
	ROW(PS_DEVICE_LOST, "the GPU failed and its contents are gone"),
	ROW(PS_DRIVER, "the CUDA driver reported an error"),
	ROW(PS_SYSTEM, "the operating system reported an error"),
	ROW(PS_AGAIN, "not yet"),
	ROW(PS_NO_DAEMON, "no poolswitchd answers"),
	ROW(PS_NO_MODEL, "the daemon has no such model"),
	ROW(PS_MODEL_MISMATCH, "the model is another than was asked for"),
	ROW(PS_LOAD_FAILED, "the weights did not arrive whole"),
#undef ROW
};

static bool is_known(enum ps_status status)
{
	return (size_t)status < sizeof(rows) / sizeof(rows[0]);
}

const char *ps_status_text(enum ps_status status)
{
	return is_known(status) ? rows[status].text : "unknown status";
}

const char *ps_status_name(enum ps_status status)
{
	return is_known(status) ? rows[status].name : "PS_UNKNOWN";
}

const char *bs_fail_text(void)
{
	return detail;
}

enum ps_status bs_fail(enum ps_status status, const char *format, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	errno = saved;
	return status;
}

enum ps_status bs_fail_errno(const char *format, ...)
{
	int saved = errno;
	char reason[96];
	va_list args;
	size_t used;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	used = strlen(detail);
	/* GNU's: the text may lie elsewhere, and is there in every case. */
	snprintf(detail + used, sizeof(detail) - used, ": %s",
		 strerror_r(saved, reason, sizeof(reason)));
	errno = saved;
	return PS_SYSTEM;
}

enum ps_status bs_fail_prefix(enum ps_status status, const char *format, ...)
{
	int saved = errno;
	char before[DETAIL_BYTES];
	va_list args;
	size_t used, room;

	memcpy(before, detail, sizeof(before));
	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	used = strlen(detail);
	room = sizeof(detail) - used - 1;
	if (room > 2) {
		strcpy(detail + used, ": ");
		strncat(detail, before, room - 2);
	}
	errno = saved;
	return status;
}
