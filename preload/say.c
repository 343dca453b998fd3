/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the program and its user are told: CUDA's codes, and few lines. */
#include "preload/state.h"

#include "preload/driver.h"
#include "preload/policy.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_BYTES 1024

/* ---- lines ---- */

/* One write, so that lines of several processes do not mix. */
static void say(const char *format, va_list arguments)
{
	char line[LINE_BYTES] = "poolswitch: ";
	size_t length = strlen(line);
	const int saved = errno;

	vsnprintf(line + length, sizeof(line) - length - 1, format, arguments);
	for (char *c = line; *c != '\0'; c++)
		if (*c == '\n')
			*c = ' ';
	length = strlen(line);
	line[length++] = '\n';
	while (write(STDERR_FILENO, line, length) < 0 && errno == EINTR)
		;
	errno = saved;
}

void pl_warn(enum pl_cause cause, const char *format, ...)
{
	static atomic_bool is_said[PL_CAUSES];
	va_list arguments;

	if (pl_policy()->log < PL_LOG_WARN ||
	    atomic_exchange(&is_said[cause], true))
		return;
	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
}

void pl_inform(const char *format, ...)
{
	va_list arguments;

	if (pl_policy()->log < PL_LOG_INFO)
		return;
	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
}

/* ---- codes ---- */

/* Where the driver knows of it, a call that changes nothing fails with what it
 * says to every call from then on. */
static CUresult say_lost(void)
{
	size_t available, total;
	CUresult result = pl_driver()->cuMemGetInfo_v2(&available, &total);

	pl_warn(PL_CAUSE_LOST, "%s", ps_error_detail());
	return result != CUDA_SUCCESS ? result : CUDA_ERROR_DEVICE_UNAVAILABLE;
}

CUresult pl_result(enum ps_status status)
{
	switch (status) {
	case PS_OK:
		return CUDA_SUCCESS;
	case PS_INVALID_ARGUMENT:
	case PS_OUT_OF_RANGE:
	case PS_OVERLAP:
	case PS_NOT_OURS:
	case PS_INTERIOR:
	case PS_DOUBLE_FREE:
	case PS_READ_ONLY:
	case PS_BAD_SEGMENT:
		return CUDA_ERROR_INVALID_VALUE;
	case PS_OUT_OF_MEMORY:
	case PS_DEVICE_MEMORY:
	case PS_HOST_MEMORY:
		return CUDA_ERROR_OUT_OF_MEMORY;
	case PS_FORKED:
		return CUDA_ERROR_NOT_INITIALIZED;
	case PS_VERSION_MISMATCH:
		return CUDA_ERROR_SYSTEM_DRIVER_MISMATCH;
	case PS_DEVICE_LOST:
		return say_lost();
	case PS_NO_DEVICE:
		return CUDA_ERROR_INVALID_DEVICE;
	case PS_UNSUPPORTED:
		return CUDA_ERROR_NOT_SUPPORTED;
	case PS_AGAIN:
		return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
	case PS_DRIVER:
		return CUDA_ERROR_UNKNOWN;
	default:
		return CUDA_ERROR_SYSTEM_NOT_READY;
	}
}
