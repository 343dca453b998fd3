/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The files of a model, as this process may open them: the daemon gets the
 * descriptors, so it reads nothing that its client may not.
 */
#ifndef LIB_MODEL_FILES_H
#define LIB_MODEL_FILES_H

#include "ipc/wire.h"

struct lb_files {
	int fd[IP_MODEL_FILES]; /* in the order of the layout */
	unsigned int count;
};

/* PS_INVALID_ARGUMENT naming the file; PS_UNSUPPORTED: beyond a limit of the
 * reader; PS_PERMISSION, PS_FD_LIMIT, PS_SYSTEM, PS_HOST_MEMORY. */
enum ps_status lb_files_open(const struct ps_model_source *source,
			     struct lb_files *files_out);
void lb_files_close(struct lb_files *files);

#endif /* LIB_MODEL_FILES_H */
