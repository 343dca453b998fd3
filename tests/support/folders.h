/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Folders that end with the program, also when it is killed. For the runner
 * only; tests include tests/support/harness.h. */
#ifndef TESTS_SUPPORT_FOLDERS_H
#define TESTS_SUPPORT_FOLDERS_H

#include <stdbool.h>

#define TH_FOLDER_BYTES 64

/* In memory where there is such a file system. */
bool th_folder_make(char path_out[TH_FOLDER_BYTES]);

#endif /* TESTS_SUPPORT_FOLDERS_H */
