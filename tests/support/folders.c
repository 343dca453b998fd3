/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "tests/support/folders.h"

#include "tests/support/harness.h"

#include <errno.h>
#include <dirent.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHM "/dev/shm"
#define SIM_PREFIX "poolswitch-test-"

static int remove_entry(const char *path, const struct stat *info, int type,
			struct FTW *walk)
{
	(void)info;
	(void)type;
	(void)walk;
	return remove(path);
}

void th_remove_tree(const char *path)
{
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Programs that were killed leave their folder: it goes with the next run. */
static void sweep_dead(const char *parent)
{
	DIR *dir = opendir(parent);
	char path[512];
	struct dirent *entry;
	int pid;

	if (dir == NULL)
		return;
	while ((entry = readdir(dir)) != NULL) {
		if (sscanf(entry->d_name, SIM_PREFIX "%d-", &pid) != 1)
			continue;
		if (kill(pid, 0) == 0 || errno != ESRCH)
			continue;
		snprintf(path, sizeof(path), "%s/%s", parent, entry->d_name);
		th_remove_tree(path);
	}
	closedir(dir);
}

bool th_folder_make(char path_out[TH_FOLDER_BYTES])
{
	const char *parent = access(SHM, W_OK) == 0 ? SHM : "/tmp";

	sweep_dead(parent);
	snprintf(path_out, TH_FOLDER_BYTES, "%s/" SIM_PREFIX "%d-XXXXXX",
		 parent, (int)getpid());
	return mkdtemp(path_out) != NULL;
}
