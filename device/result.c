/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/result.h"

#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

enum ps_status dv_status(CUresult result)
{
	switch (result) {
#define RESULT(name, value, status, text)                                      \
	case name:                                                             \
		return status;
#include "device/results.def"
#undef RESULT
	}
	return PS_DRIVER;
}

/* What to do about it, where that is more than the caller can say. */
static const char *remedy(enum ps_status status)
{
	switch (status) {
	case PS_DEVICE_LOST:
		return "; the GPU's contents are gone for this process: start "
		       "it again, and look for Xid messages in the kernel log";
	case PS_AGAIN:
		return "; try again later";
	default:
		return "";
	}
}

enum ps_status dv_result(const struct dv_driver *driver, CUresult result,
			 const char *format, ...)
{
	enum ps_status status = dv_status(result);
	const char *name = NULL;
	const char *text = NULL;
	char what[256];
	va_list args;

	if (result == CUDA_SUCCESS)
		return PS_OK;
	driver->cuGetErrorName(result, &name);
	driver->cuGetErrorString(result, &text);
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	return bs_fail(status, "%s: %s (%d), %s%s", what,
		       name ? name : "unknown result", (int)result,
		       text ? text : "no text", remedy(status));
}
