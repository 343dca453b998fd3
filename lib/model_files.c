/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "lib/model_files.h"

#include "base/status.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static enum ps_status refuse_open(const char *path)
{
	if (errno == EACCES || errno == EPERM)
		return bs_fail_prefix(bs_fail_errno("opening it"), "%s", path);
	return bs_fail_errno("opening %s", path);
}

static enum ps_status open_at(int folder, const char *path, int *fd_out)
{
	int fd = openat(folder, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return refuse_open(path);
	*fd_out = fd;
	return PS_OK;
}

void lb_files_close(struct lb_files *files)
{
	while (files->count > 0)
		close(files->fd[--files->count]);
}

enum ps_status lb_files_open(const struct ps_model_source *source,
			     struct lb_files *files_out)
{
	enum ps_status status = PS_OK;
	int fd = -1;

	if (source->path != NULL)
		status = open_at(AT_FDCWD, source->path, &fd);
	else if ((fd = fcntl(source->fd, F_DUPFD_CLOEXEC, 0)) < 0)
		status = bs_fail(PS_INVALID_ARGUMENT, "%d is no descriptor",
				 source->fd);
	if (status != PS_OK)
		return status;
	files_out->fd[0] = fd;
	files_out->count = 1;
	return PS_OK;
}
