/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One of several libraries that define the same name, built with another
 * NUMBER each: which one an address is of tells where a search began.
 */
#include "tests/preload/scopes.h"

#include <dlfcn.h>

int th_where(void)
{
	return NUMBER;
}

/* volatile: the call must not be the function's last jump, or the caller that
 * dlsym() sees is another. */
void *NAMED(th_next_of_)(const char *name)
{
	void *volatile found = dlsym(RTLD_NEXT, name);

	return found;
}

void *NAMED(th_default_of_)(const char *name)
{
	void *volatile found = dlsym(RTLD_DEFAULT, name);

	return found;
}
