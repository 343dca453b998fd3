/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the files of the host copies share: host.c has the threads,
 * host_files.c what is read, host_memory.c where it goes.
 */
#ifndef POOLD_STORE_HOST_PARTS_H
#define POOLD_STORE_HOST_PARTS_H

#include "poold/store/host.h"

#include <stdatomic.h>
#include <sys/stat.h>

/* ---- host_files.c ---- */

struct pd_host_file {
	int fd;
	struct stat before; /* as it was when its header was read */
	char *names;        /* of its tensors, one behind the other */
};

/* Where a tensor is read from. */
struct pd_host_origin {
	uint32_t file;
	uint64_t offset;
};

/* The files of one model, and what they come to. */
struct pd_host_files {
	struct pd_host_file *file;
	uint32_t files;
	struct md_tensor *tensors; /* offset: in the model */
	struct pd_host_origin *origin;
	size_t count;   /* of tensors */
	uint64_t bytes; /* of the model */
	uint64_t data;  /* of them, the tensors' own */
};

/* Duplicates @fds. PS_FD_LIMIT, PS_HOST_MEMORY. */
enum ps_status pd_host_files_init(struct pd_host_files *files, const int *fds,
				  uint32_t count);
void pd_host_files_done(struct pd_host_files *files);

/* Reads the headers, one after the other, and lays the tensors out. */
enum ps_status pd_host_files_read(struct pd_host_files *files);
/*
 * Reads what lies in a part of the model to @memory, the part's first byte;
 * adds to @done what it has read; ends early, well, when @is_stopped. For
 * several threads at once.
 */
enum ps_status pd_host_files_fill(const struct pd_host_files *files,
				  uint64_t start, uint64_t bytes,
				  uint8_t *memory, _Atomic(uint64_t) *done,
				  const _Atomic(bool) *is_stopped);
/* Whether they are as they were. PS_INVALID_ARGUMENT. */
enum ps_status pd_host_files_check(const struct pd_host_files *files);

/* ---- host_memory.c ---- */

/* What a copy takes: whole pages, large ones where there are many. */
uint64_t pd_host_bytes(uint64_t bytes);
/* A memfd of pd_host_bytes(@bytes), its size sealed, and mapped. */
enum ps_status pd_host_memory_make(uint64_t bytes, int *fd_out,
				   void **memory_out);
/* A memfd, sealed. */
enum ps_status pd_host_manifest_make(const struct md_manifest *manifest,
				     int *fd_out);

#endif /* POOLD_STORE_HOST_PARTS_H */
