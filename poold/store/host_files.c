/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The files of a model: their headers, what they come to together, and their
 * bytes. */
#include "poold/store/host_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "poold/closer.h"

/* ---- theirs and ours ---- */

static int duplicate(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

enum ps_status pd_host_files_init(struct pd_host_files *files, const int *fds,
				  uint32_t count)
{
	enum ps_status status;

	*files = (struct pd_host_files){ 0 };
	files->file = calloc(count, sizeof(files->file[0]));
	if (files->file == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for %u files",
			       count);
	for (; files->files < count; files->files++) {
		int fd = duplicate(fds[files->files]);

		if (fd < 0 && errno == EMFILE) {
			status = bs_fail(PS_FD_LIMIT,
					 "no descriptor is left for file %u of "
					 "%u of a model",
					 files->files + 1, count);
			goto done_files;
		}
		if (fd < 0) {
			status = bs_fail_errno("descriptor %d of a model",
					       fds[files->files]);
			goto done_files;
		}
		files->file[files->files].fd = fd;
	}
	return PS_OK;
done_files:
	pd_host_files_done(files);
	return status;
}

void pd_host_files_done(struct pd_host_files *files)
{
	for (uint32_t i = 0; i < files->files; i++) {
		pd_close_later(files->file[i].fd);
		free(files->file[i].names);
	}
	free(files->file);
	free(files->tensors);
	free(files->origin);
	*files = (struct pd_host_files){ 0 };
}

/* ---- headers ---- */

/* Room for more tensors. */
static enum ps_status grow(struct pd_host_files *files, size_t more)
{
	struct pd_host_origin *origin;
	struct md_tensor *tensors;
	size_t count = files->count + more;

	if (count > MD_MAX_TENSORS)
		return bs_fail(PS_UNSUPPORTED,
			       "the files have more than %u tensors",
			       MD_MAX_TENSORS);
	tensors = realloc(files->tensors, (count + 1) * sizeof(tensors[0]));
	if (tensors != NULL)
		files->tensors = tensors;
	origin = realloc(files->origin, (count + 1) * sizeof(origin[0]));
	if (origin != NULL)
		files->origin = origin;
	if (tensors == NULL || origin == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for %zu tensors",
			       count);
	return PS_OK;
}

/* The names outlive the header, which may be far larger. */
static char *copy_names(const struct md_file *from)
{
	size_t bytes = 1;
	char *names, *at;

	for (size_t i = 0; i < from->count; i++)
		bytes += strlen(from->tensors[i].name) + 1;
	names = malloc(bytes);
	at = names;
	for (size_t i = 0; i < from->count && names != NULL; i++) {
		size_t length = strlen(from->tensors[i].name) + 1;

		memcpy(at, from->tensors[i].name, length);
		at += length;
	}
	return names;
}

static enum ps_status take_tensors(struct pd_host_files *files, uint32_t number,
				   const struct md_file *from)
{
	struct pd_host_file *file = &files->file[number];
	enum ps_status status = grow(files, from->count);
	const char *name;

	if (status != PS_OK)
		return status;
	file->names = copy_names(from);
	if (file->names == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for %zu names",
			       from->count);
	name = file->names;
	for (size_t i = 0; i < from->count; i++) {
		struct md_tensor *tensor = &files->tensors[files->count];

		*tensor = from->tensors[i];
		tensor->name = name;
		name += strlen(name) + 1;
		files->origin[files->count++] =
			(struct pd_host_origin){ number, tensor->offset };
	}
	return PS_OK;
}

static enum ps_status read_header(struct pd_host_files *files, uint32_t number)
{
	struct pd_host_file *file = &files->file[number];
	struct md_file header;
	enum ps_status status;

	if (fstat(file->fd, &file->before) != 0)
		return bs_fail_errno("fstat of a model's file");
	status = md_file_read(file->fd, &header);
	if (status != PS_OK)
		return status;
	status = take_tensors(files, number, &header);
	md_file_done(&header);
	return status;
}

/* A failure's text names the file where there are several. */
static enum ps_status name_file(const struct pd_host_files *files,
				uint32_t number, enum ps_status status)
{
	if (status == PS_OK || files->files == 1)
		return status;
	return bs_fail_prefix(status, "file %u of %u", number + 1,
			      files->files);
}

static enum ps_status lay_out(struct pd_host_files *files)
{
	const struct md_file all = { .tensors = files->tensors,
				     .count = files->count };
	struct md_layout layout;
	enum ps_status status;

	status = md_tensors_check_names(files->tensors, files->count);
	if (status == PS_OK)
		status = md_layout_init(&all, &layout);
	if (status != PS_OK)
		return status;
	if (layout.bytes == 0) {
		md_layout_done(&layout);
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%zu tensors, and not a byte in any: there is "
			       "nothing to load",
			       files->count);
	}
	for (size_t i = 0; i < layout.count; i++) {
		files->tensors[i].offset = layout.tensors[i].offset;
		files->data += layout.tensors[i].bytes;
	}
	files->bytes = layout.bytes;
	md_layout_done(&layout);
	return PS_OK;
}

enum ps_status pd_host_files_read(struct pd_host_files *files)
{
	for (uint32_t i = 0; i < files->files; i++) {
		enum ps_status status = read_header(files, i);

		if (status != PS_OK)
			return name_file(files, i, status);
	}
	return lay_out(files);
}

/* ---- contents ---- */

static enum ps_status fail_read(uint64_t offset, ssize_t got)
{
	if (got == 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the file ends at byte %" PRIu64
			       ": it became shorter while it was read",
			       offset);
	if (errno == EFAULT)
		return bs_fail(PS_HOST_MEMORY,
			       "the system has no memory for the copy");
	return bs_fail_errno("read at byte %" PRIu64, offset);
}

static enum ps_status read_range(int fd, uint64_t offset, uint64_t bytes,
				 uint8_t *memory, _Atomic(uint64_t) *done,
				 const _Atomic(bool) *is_stopped)
{
	while (bytes > 0 && !atomic_load(is_stopped)) {
		ssize_t got = pread(fd, memory, (size_t)bytes, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return fail_read(offset, got);
		atomic_fetch_add(done, (uint64_t)got);
		offset += (uint64_t)got;
		bytes -= (uint64_t)got;
		memory += got;
	}
	return PS_OK;
}

/* The first tensor that does not end before @start. */
static size_t find(const struct pd_host_files *files, uint64_t start)
{
	size_t low = 0, high = files->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct md_tensor *tensor = &files->tensors[middle];

		if (tensor->offset + tensor->bytes > start)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

enum ps_status pd_host_files_fill(const struct pd_host_files *files,
				  uint64_t start, uint64_t bytes,
				  uint8_t *memory, _Atomic(uint64_t) *done,
				  const _Atomic(bool) *is_stopped)
{
	uint64_t end = start + bytes;

	for (size_t i = find(files, start); i < files->count; i++) {
		const struct md_tensor *tensor = &files->tensors[i];
		const struct pd_host_origin *origin = &files->origin[i];
		uint64_t from = tensor->offset;
		uint64_t to = tensor->offset + tensor->bytes;
		enum ps_status status;

		if (from >= end)
			break;
		from = from > start ? from : start;
		to = to < end ? to : end;
		status = read_range(files->file[origin->file].fd,
				    origin->offset + (from - tensor->offset),
				    to - from, memory + (from - start), done,
				    is_stopped);
		if (status != PS_OK)
			return name_file(files, origin->file, status);
	}
	return PS_OK;
}

/* ---- the same file ---- */

static bool is_same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

enum ps_status pd_host_files_check(const struct pd_host_files *files)
{
	for (uint32_t i = 0; i < files->files; i++) {
		const struct stat *before = &files->file[i].before;
		struct stat now;

		if (fstat(files->file[i].fd, &now) != 0)
			return bs_fail_errno("fstat of a model's file");
		if (now.st_size == before->st_size &&
		    is_same_time(now.st_mtim, before->st_mtim) &&
		    is_same_time(now.st_ctim, before->st_ctim))
			continue;
		return name_file(files, i,
				 bs_fail(PS_INVALID_ARGUMENT,
					 "the file changed while it was read "
					 "(%lld bytes, before %lld): try again "
					 "when it is written",
					 (long long)now.st_size,
					 (long long)before->st_size));
	}
	return PS_OK;
}
