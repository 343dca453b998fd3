/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The copies of models in host memory: a memfd each, in the order of the
 * layout, filled from the files by a few threads, and hashed while it is
 * filled. What a file says is not believed (model/safetensors.h); what it is
 * while it is read is checked to be one thing: size and times must be the same
 * before and after.
 *
 * Invariant: the agent's thread waits for nothing here.
 */
#ifndef POOLD_STORE_HOST_H
#define POOLD_STORE_HOST_H

#include "model/manifest.h"
#include "poold/journal.h"

struct pd_hosts;

struct pd_host_made {
	uint32_t model;
	uint32_t serial;
	enum ps_status status;
	char text[IP_TEXT_MAX + 1]; /* of a failure */
	/* PS_OK; all the taker's. */
	int copy;     /* memfd of bytes, whole pages */
	int manifest; /* memfd, sealed */
	void *memory; /* the copy, mapped; NULL where bytes is 0 */
	uint64_t bytes;
	uint32_t tensors;
	uint8_t hash[MD_HASH_BYTES];
};

/* @threads: for the filling; 0: as many as is good here. */
enum ps_status pd_hosts_new(unsigned int threads, struct pd_hosts **hosts_out);
void pd_hosts_free(struct pd_hosts *hosts);       /* stops all; NULL: ok */
int pd_hosts_event(const struct pd_hosts *hosts); /* readable: take */

/*
 * Reads and checks the headers, lays the tensors out, fills, hashes.
 * @files: duplicated. @want: NULL, or the hash that it must have (a model that
 * is read again). @room: bytes that the copy may have; PS_HOST_MEMORY above.
 */
enum ps_status pd_hosts_make(struct pd_hosts *hosts, uint32_t model,
			     uint32_t serial, const int *files, uint32_t count,
			     const uint8_t *want, uint64_t room);
/* Is not made any more; nothing of it is taken. */
void pd_hosts_stop(struct pd_hosts *hosts, uint32_t model);
bool pd_hosts_take(struct pd_hosts *hosts, struct pd_host_made *made_out);
/* Bytes read of the one that is being made, and of how many; for people. */
void pd_hosts_progress(const struct pd_hosts *hosts, uint32_t model,
		       uint64_t *done_out, uint64_t *all_out);

/* An inherited copy or manifest: maps and checks; @copy and @manifest stay the
 * caller's. Fills in memory, bytes, tensors and hash of @made_out. */
enum ps_status pd_host_adopt(int copy, int manifest,
			     struct pd_host_made *made_out);
void pd_host_unmap(void *memory, uint64_t bytes);

#endif /* POOLD_STORE_HOST_H */
