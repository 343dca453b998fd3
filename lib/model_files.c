/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "lib/model_files.h"

#include "base/status.h"
#include "model/index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert(MD_MAX_FILES <= IP_MODEL_FILES, "a message has no room");

static enum ps_status refuse_open(const char *path)
{
	if (errno == EMFILE || errno == ENFILE)
		return bs_fail(PS_FD_LIMIT,
			       "opening %s: no descriptor is left: raise the "
			       "limit of open files (ulimit -n)",
			       path);
	if (errno == EACCES || errno == EPERM)
		return bs_fail(PS_PERMISSION, "this user may not read %s",
			       path);
	return bs_fail_errno("opening %s", path);
}

/* One that no writer has opened is not waited for: it is no file. */
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

/* ---- the parts of a sharded model ---- */

static enum ps_status open_folder_of(const char *path, int *fd_out)
{
	const char *slash = strrchr(path, '/');
	char *folder;
	int fd;

	if (slash == NULL)
		folder = strdup(".");
	else
		folder = strndup(path, (size_t)(slash - path) + 1);
	if (folder == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a path");
	fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	free(folder);
	if (fd < 0)
		return refuse_open(path);
	*fd_out = fd;
	return PS_OK;
}

static enum ps_status open_parts(const char *path, const struct md_index *index,
				 struct lb_files *files)
{
	int folder = -1;
	enum ps_status status = open_folder_of(path, &folder);

	for (size_t i = 0; i < index->files && status == PS_OK; i++) {
		status = open_at(folder, index->file[i],
				 &files->fd[files->count]);
		files->count += status == PS_OK;
	}
	if (folder >= 0)
		close(folder);
	return status;
}

/* The daemon sees the files and no index: here alone they are compared. */
static enum ps_status check_parts(const struct md_index *index,
				  const struct lb_files *files)
{
	struct md_file *parts = calloc(files->count, sizeof(*parts));
	enum ps_status status = PS_OK;
	unsigned int read = 0;

	if (parts == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for the headers of %u files",
			       files->count);
	while (read < files->count && status == PS_OK) {
		status = md_file_read(files->fd[read], &parts[read]);
		if (status != PS_OK)
			status =
				bs_fail_prefix(status, "%s", index->file[read]);
		else
			read++;
	}
	if (status == PS_OK)
		status = md_index_check(index, parts);
	while (read > 0)
		md_file_done(&parts[--read]);
	free(parts);
	return status;
}

static enum ps_status open_index(const char *path, int fd,
				 struct lb_files *files)
{
	struct md_index index;
	enum ps_status status = md_index_read(fd, &index);

	if (status != PS_OK)
		return status;
	status = open_parts(path, &index, files);
	if (status == PS_OK)
		status = check_parts(&index, files);
	md_index_done(&index);
	if (status != PS_OK)
		lb_files_close(files);
	return status;
}

/* ---- either ---- */

static enum ps_status open_path(const char *path, struct lb_files *files)
{
	bool is_index = false;
	int fd = -1;
	enum ps_status status = open_at(AT_FDCWD, path, &fd);

	if (status != PS_OK)
		return status;
	status = md_index_probe(fd, &is_index);
	if (status == PS_OK && !is_index) {
		files->fd[files->count++] = fd;
		return PS_OK;
	}
	if (status == PS_OK)
		status = open_index(path, fd, files);
	close(fd);
	return status == PS_OK ? status : bs_fail_prefix(status, "%s", path);
}

enum ps_status lb_files_open(const struct ps_model_source *source,
			     struct lb_files *files_out)
{
	int fd;

	files_out->count = 0;
	if (source->path != NULL)
		return open_path(source->path, files_out);
	fd = fcntl(source->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return bs_fail(PS_INVALID_ARGUMENT, "%d is no descriptor",
			       source->fd);
	files_out->fd[files_out->count++] = fd;
	return PS_OK;
}
