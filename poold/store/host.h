/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The copies of models in host memory: a memfd each, in the order of the
 * layout, filled from the files by a few threads, and hashed while it is
 * filled. What a file says is not believed (model/safetensors.h); what it is
 * while it is read is checked to be one thing: size and times must be the same
 * before and after. What is hashed is the copy, so that the hash is right
 * whatever the files did.
 *
 * A file may be on a server that does not answer. So each copy has threads of
 * its own: one that is stuck keeps nobody but itself, and pd_hosts_stop() is
 * enough to be rid of it.
 *
 * Invariants
 *   The agent's thread waits for nothing here.
 *   A copy's size is sealed, a manifest is sealed whole: reading them cannot
 *   end in SIGBUS, whoever else holds them.
 */
#ifndef POOLD_STORE_HOST_H
#define POOLD_STORE_HOST_H

#include "model/manifest.h"
#include "poold/journal.h"

struct pd_hosts;

/* A manifest, mapped and decoded: names lie in the mapping. */
struct pd_host_layout {
	struct md_manifest manifest;
	void *memory;
	size_t size;
};

/* @fd: sealed; stays the caller's. PS_INVALID_ARGUMENT: it is no whole
 * manifest; PS_HOST_MEMORY. */
enum ps_status pd_host_layout_map(int fd, struct pd_host_layout *layout_out);
void pd_host_layout_done(struct pd_host_layout *layout); /* NULL: ok */

struct pd_host_made {
	uint32_t model;
	uint32_t serial;
	enum ps_status status;
	char text[IP_TEXT_MAX + 1]; /* of a failure */
	/* What the copy takes of its room; with PS_HOST_MEMORY, what it would
	 * take, or 0: not known. */
	uint64_t host_bytes;
	/* PS_OK; all the taker's. */
	int copy;       /* memfd of host_bytes */
	int manifest;   /* memfd, sealed */
	void *memory;   /* the copy, mapped; never NULL */
	uint64_t bytes; /* of the model; never 0 */
	uint32_t tensors;
	uint8_t hash[MD_HASH_BYTES];
	struct pd_host_layout layout;
};

/* @threads: that read one copy; the next one, meanwhile, has one of its own
 * and those that are left. 0: as many as is good here. */
enum ps_status pd_hosts_new(unsigned int threads, struct pd_hosts **hosts_out);
/* Stops all, waits a second at most for those that are stuck. NULL: ok. */
void pd_hosts_free(struct pd_hosts *hosts);
int pd_hosts_event(const struct pd_hosts *hosts); /* readable: take */

/*
 * Reads and checks the headers, lays the tensors out, fills, hashes: a model's
 * tensors are those of the first file as they lie in it, then those of the
 * next.
 * @files: duplicated. @want: NULL, or the hash that it must have (a model that
 * is read again; PS_MODEL_MISMATCH). @room: bytes that the copy may have;
 * PS_HOST_MEMORY above. A model without a byte is PS_INVALID_ARGUMENT.
 *
 * Returns PS_FD_LIMIT, PS_HOST_MEMORY, PS_SYSTEM: nothing has begun.
 * pre: none of the model is being made.
 */
enum ps_status pd_hosts_make(struct pd_hosts *hosts, uint32_t model,
			     uint32_t serial, const int *files, uint32_t count,
			     const uint8_t *want, uint64_t room);
/* Is not made any more; nothing of it is taken. */
void pd_hosts_stop(struct pd_hosts *hosts, uint32_t model);
bool pd_hosts_take(struct pd_hosts *hosts, struct pd_host_made *made_out);
/* Bytes read of the one that is being made, and of how many; for people. Both
 * 0: none is, or its headers are not read yet. */
void pd_hosts_progress(struct pd_hosts *hosts, uint32_t model,
		       uint64_t *done_out, uint64_t *all_out);
/* Unmaps a copy and closes its descriptor on a thread: that of a large one
 * takes long. */
void pd_hosts_discard(struct pd_hosts *hosts, void *memory, uint64_t bytes,
		      int copy);

/* An inherited copy, or none (-1), and manifest: maps and checks; both stay
 * the caller's. Fills in memory (NULL without a copy), bytes, host_bytes,
 * tensors, hash and layout of @made_out. PS_INVALID_ARGUMENT: they do not fit;
 * PS_HOST_MEMORY. */
enum ps_status pd_host_adopt(int copy, int manifest,
			     struct pd_host_made *made_out);
/* @bytes: of the model. */
void pd_host_unmap(void *memory, uint64_t bytes);

#endif /* POOLD_STORE_HOST_H */
