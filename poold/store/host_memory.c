/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The memory of the host copies, and of the manifests. With pages of 4 KiB
 * the kernel takes longer to hand out a large copy than the file takes to be
 * read, so large pages are had where the system gives any: transparent ones
 * where it makes them for shared memory, else those that were set aside.
 */
#include "poold/store/host_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arith.h"
#include "base/status.h"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

#define PAGE UINT64_C(4096)
#define LARGE_PAGE (UINT64_C(2) << 20)
#define TRANSPARENT "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/* A manifest of the most and the longest that there may be is smaller. */
#define MANIFEST_MAX (UINT64_C(256) << 20)

#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

uint64_t pd_host_bytes(uint64_t bytes)
{
	uint64_t page = bytes >= LARGE_PAGE ? LARGE_PAGE : PAGE;

	uint64_t whole;

	if (!bs_round_up(bytes, page, &whole))
		return bs_round_down(UINT64_MAX, page);
	return whole;
}

/* ---- copies ---- */

/* Whether the system makes large pages for shared memory. What it does is in
 * brackets. */
static bool has_transparent(void)
{
	char text[128];
	int fd = open(TRANSPARENT, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return false;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (got <= 0)
		return false;
	text[got] = '\0';
	return strstr(text, "[never]") == NULL &&
	       strstr(text, "[deny]") == NULL;
}

/* errno says why. */
static void *try_memory(unsigned int flags, uint64_t bytes, int *fd_out)
{
	int fd = memfd_create("poolswitch model",
			      MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
	void *memory;
	int error;

	if (fd < 0)
		return MAP_FAILED;
	memory = MAP_FAILED;
	if (ftruncate(fd, (off_t)bytes) == 0 &&
	    fcntl(fd, F_ADD_SEALS, SIZE_SEALS) == 0)
		memory = mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE,
			      MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		error = errno;
		close(fd);
		errno = error;
		return MAP_FAILED;
	}
	*fd_out = fd;
	return memory;
}

enum ps_status pd_host_memory_make(uint64_t bytes, int *fd_out,
				   void **memory_out)
{
	uint64_t whole = pd_host_bytes(bytes);
	bool is_large = whole % LARGE_PAGE == 0;
	void *memory = MAP_FAILED;

	if (is_large && !has_transparent())
		memory = try_memory(MFD_HUGETLB | MFD_HUGE_2MB, whole, fd_out);
	if (memory == MAP_FAILED)
		memory = try_memory(0, whole, fd_out);
	if (memory == MAP_FAILED && errno == EMFILE)
		return bs_fail(PS_FD_LIMIT,
			       "no descriptor is left for the copy of a model");
	if (memory == MAP_FAILED)
		return bs_fail(PS_HOST_MEMORY,
			       "no host memory for a copy of %" PRIu64
			       " bytes: %s",
			       whole, strerror(errno));
	/* A wish. */
	if (is_large)
		(void)madvise(memory, (size_t)whole, MADV_HUGEPAGE);
	*memory_out = memory;
	return PS_OK;
}

void pd_host_unmap(void *memory, uint64_t bytes)
{
	if (memory != NULL)
		munmap(memory, (size_t)pd_host_bytes(bytes));
}

/* ---- manifests ---- */

static bool write_all(int fd, const char *bytes, size_t size)
{
	while (size > 0) {
		ssize_t put = write(fd, bytes, size);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return false;
		bytes += put;
		size -= (size_t)put;
	}
	return true;
}

enum ps_status pd_host_manifest_make(const struct md_manifest *manifest,
				     int *fd_out)
{
	enum ps_status status;
	void *bytes;
	size_t size;
	int fd;

	status = md_manifest_encode(manifest, &bytes, &size);
	if (status != PS_OK)
		return status;
	fd = memfd_create("poolswitch manifest",
			  MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || !write_all(fd, bytes, size) ||
	    fcntl(fd, F_ADD_SEALS, SIZE_SEALS | F_SEAL_WRITE) != 0) {
		status = errno == EMFILE
				 ? bs_fail(PS_FD_LIMIT,
					   "no descriptor is left for the "
					   "manifest of a model")
				 : bs_fail(PS_HOST_MEMORY,
					   "a manifest of %zu bytes: %s", size,
					   strerror(errno));
		if (fd >= 0)
			close(fd);
	} else {
		*fd_out = fd;
	}
	free(bytes);
	return status;
}

static enum ps_status check_seals(int fd, int wanted, const char *what)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & wanted) != wanted)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%s: a descriptor that is not sealed against "
			       "change",
			       what);
	return PS_OK;
}

static enum ps_status check_size(int fd, uint64_t least, uint64_t most,
				 const char *what, uint64_t *size_out)
{
	struct stat info;

	if (fstat(fd, &info) != 0)
		return bs_fail_errno("fstat of a model's %s", what);
	if ((uint64_t)info.st_size < least || (uint64_t)info.st_size > most)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "a model's %s of %lld bytes; expected %" PRIu64
			       " to %" PRIu64,
			       what, (long long)info.st_size, least, most);
	*size_out = (uint64_t)info.st_size;
	return PS_OK;
}

enum ps_status pd_host_layout_map(int fd, struct pd_host_layout *layout_out)
{
	struct pd_host_layout layout = { 0 };
	enum ps_status status;
	uint64_t size = 0;

	status = check_seals(fd, F_SEAL_WRITE | F_SEAL_SHRINK, "manifest");
	if (status == PS_OK)
		status = check_size(fd, 1, MANIFEST_MAX, "manifest", &size);
	if (status != PS_OK)
		return status;
	layout.size = (size_t)size;
	layout.memory = mmap(NULL, layout.size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (layout.memory == MAP_FAILED)
		return bs_fail(PS_HOST_MEMORY, "a manifest of %zu bytes: %s",
			       layout.size, strerror(errno));
	status = md_manifest_decode(layout.memory, layout.size,
				    &layout.manifest);
	if (status != PS_OK) {
		munmap(layout.memory, layout.size);
		return status;
	}
	*layout_out = layout;
	return PS_OK;
}

void pd_host_layout_done(struct pd_host_layout *layout)
{
	if (layout == NULL || layout->memory == NULL)
		return;
	md_manifest_done(&layout->manifest);
	munmap(layout->memory, layout->size);
	*layout = (struct pd_host_layout){ 0 };
}

/* ---- what was inherited ---- */

static enum ps_status map_copy(int copy, uint64_t bytes, void **memory_out)
{
	uint64_t whole = pd_host_bytes(bytes);
	enum ps_status status;
	void *memory;

	status = check_seals(copy, F_SEAL_SHRINK, "copy");
	if (status == PS_OK)
		status = check_size(copy, whole, whole, "copy", &whole);
	if (status != PS_OK)
		return status;
	memory = mmap(NULL, (size_t)whole, PROT_READ | PROT_WRITE, MAP_SHARED,
		      copy, 0);
	if (memory == MAP_FAILED)
		return bs_fail(PS_HOST_MEMORY,
			       "a copy of %" PRIu64 " bytes: %s", whole,
			       strerror(errno));
	*memory_out = memory;
	return PS_OK;
}

enum ps_status pd_host_adopt(int copy, int manifest,
			     struct pd_host_made *made_out)
{
	struct pd_host_layout layout;
	void *memory = NULL;
	enum ps_status status;

	status = pd_host_layout_map(manifest, &layout);
	if (status != PS_OK)
		return status;
	if (layout.manifest.bytes == 0)
		status = bs_fail(PS_INVALID_ARGUMENT,
				 "the manifest is of a model without a byte");
	else if (copy >= 0)
		status = map_copy(copy, layout.manifest.bytes, &memory);
	if (status != PS_OK) {
		pd_host_layout_done(&layout);
		return status;
	}
	made_out->memory = memory;
	made_out->bytes = layout.manifest.bytes;
	made_out->host_bytes = pd_host_bytes(layout.manifest.bytes);
	made_out->tensors = (uint32_t)layout.manifest.count;
	memcpy(made_out->hash, layout.manifest.hash, MD_HASH_BYTES);
	made_out->layout = layout;
	return PS_OK;
}
