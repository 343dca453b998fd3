/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The index of a sharded model (model.safetensors.index.json): which file has
 * which tensor. As little believed as the files themselves: a name of a file
 * is a plain name, without a folder.
 */
#ifndef MODEL_INDEX_H
#define MODEL_INDEX_H

#include "model/safetensors.h"

#define MD_MAX_INDEX 100000000u /* bytes */
#define MD_MAX_FILES 128u

struct md_index {
	const char **file; /* names, each once, in the order of the alphabet */
	size_t files;
	struct json_t *root; /* owns the names */
};

/* Whether a file is an index and no safetensors file, by its first bytes. */
enum ps_status md_index_probe(int fd, bool *is_index_out);
/* By pread. PS_INVALID_ARGUMENT naming the rule; PS_UNSUPPORTED: beyond a
 * limit; PS_SYSTEM; PS_HOST_MEMORY. */
enum ps_status md_index_read(int fd, struct md_index *index_out);
/* The same for a text in memory. */
enum ps_status md_index_parse(const char *text, size_t bytes,
			      struct md_index *index_out);
/* Whether the files have the tensors that the index says, and no others.
 * @file: as many as index->files, in that order. PS_INVALID_ARGUMENT. */
enum ps_status md_index_check(const struct md_index *index,
			      const struct md_file *file);
void md_index_done(struct md_index *index); /* NULL: ok */

#endif /* MODEL_INDEX_H */
