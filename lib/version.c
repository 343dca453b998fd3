/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the public API says of itself. */
#include "base/status.h"

#define TEXT(n) #n
#define VERSION(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *ps_version(void)
{
	return VERSION(PS_VERSION_MAJOR, PS_VERSION_MINOR, PS_VERSION_PATCH);
}

const char *ps_error_detail(void)
{
	return bs_fail_text();
}
