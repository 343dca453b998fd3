/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The libraries of scopes.c: 1 and 2 are linked in this order, 3 is opened. */
#ifndef TESTS_PRELOAD_SCOPES_H
#define TESTS_PRELOAD_SCOPES_H

#define TH_SHOWN __attribute__((visibility("default")))
#define TH_JOINED(name, number) name##number
#define TH_NAMED(name, number) TH_JOINED(name, number)
#define NAMED(name) TH_NAMED(name, NUMBER)

/* Its number; 0 is the program. */
TH_SHOWN int th_where(void);

/* What dlsym() finds for RTLD_NEXT and RTLD_DEFAULT, called from there. */
TH_SHOWN void *th_next_of_1(const char *name);
TH_SHOWN void *th_next_of_2(const char *name);
TH_SHOWN void *th_next_of_3(const char *name);
TH_SHOWN void *th_default_of_1(const char *name);
TH_SHOWN void *th_default_of_2(const char *name);
TH_SHOWN void *th_default_of_3(const char *name);

#endif /* TESTS_PRELOAD_SCOPES_H */
