/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The header of a safetensors file: which tensors it holds and where. Reads
 * no tensor data.
 *
 * A file comes from anywhere, so nothing in it is believed. Invariant of
 * every md_file that a function below gives: each tensor lies inside the
 * file, no two overlap, together they cover the data without a hole, and each
 * has exactly the bytes that its shape and dtype ask for.
 */
#ifndef MODEL_SAFETENSORS_H
#define MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "include/poolswitch.h"

#define MD_MAX_HEADER 100000000u /* bytes; the format's own limit */
#define MD_MAX_TENSORS 100000u
#define MD_MAX_METADATA 100000u
#define MD_MAX_NAME 1024u /* bytes of a tensor's name */
#define MD_MAX_RANK 8u

enum md_dtype {
#define DTYPE(name, bits) MD_##name,
#include "model/dtypes.h"
#undef DTYPE
	MD_DTYPE_COUNT
};

struct md_tensor {
	const char *name;            /* UTF-8; the file's or the caller's */
	enum md_dtype dtype;         /* what one element is */
	uint32_t rank;               /* dimensions; 0: one element */
	uint64_t shape[MD_MAX_RANK]; /* the first rank count, the rest are 0 */
	uint64_t offset;             /* bytes from the start of the file */
	uint64_t bytes;              /* 0 when a dimension is 0 */
};

struct json_t;

struct md_file {
	struct md_tensor *tensors; /* in the order in which they lie */
	size_t count;              /* of tensors */
	struct json_t *root;       /* owns the names and the metadata */
};

/*
 * Reads and checks the header of an open file, by pread: the fd's position
 * stays. Free the result with md_file_done().
 *
 * PS_INVALID_ARGUMENT names the tensor, the numbers and the rule that the
 * file breaks; PS_UNSUPPORTED: the file is right but beyond a limit above;
 * PS_SYSTEM: it could not be read; PS_HOST_MEMORY.
 */
enum ps_status md_file_read(int fd, struct md_file *file_out);

/*
 * The same for a header in memory; reads nothing else and depends on nothing
 * else. @header: the JSON text, without the 8 bytes of length before it.
 * @file_bytes: the size of the whole file, those 8 bytes included.
 */
enum ps_status md_file_parse(const char *header, size_t header_bytes,
			     uint64_t file_bytes, struct md_file *file_out);

void md_file_done(struct md_file *file); /* NULL: ok */

/* By name; NULL when there is none. */
const struct md_tensor *md_file_find(const struct md_file *file,
				     const char *name);

/* A value of __metadata__; NULL when there is none. Lives as long as @file. */
const char *md_file_metadata(const struct md_file *file, const char *key);

/* "BF16"; NULL for a number that is no dtype. */
const char *md_dtype_name(enum md_dtype dtype);
/* The bits of one element. pre: dtype < MD_DTYPE_COUNT. */
unsigned int md_dtype_bits(enum md_dtype dtype);
/* What a tensor's shape and dtype ask for. PS_INVALID_ARGUMENT: more than
 * fits a number, or no whole bytes. pre: its dtype and rank are in bounds. */
enum ps_status md_tensor_bytes(const struct md_tensor *tensor,
			       uint64_t *bytes_out);
/* Whether each has a name of its own. PS_INVALID_ARGUMENT, PS_HOST_MEMORY. */
enum ps_status md_tensors_check_names(const struct md_tensor *tensors,
				      size_t count);

#endif /* MODEL_SAFETENSORS_H */
