/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * JSON of which nothing is believed: how deep it nests and how many values it
 * has are bounded by one pass over the text, before a byte is allocated for
 * it. A text of brackets alone would make the JSON library take some fifty
 * times its size.
 */
#ifndef MODEL_JSON_H
#define MODEL_JSON_H

#include <stddef.h>
#include <stdint.h>

#include "include/poolswitch.h"

struct json_t;

/* The root, an object in it, an array or an object in that. */
#define MD_JSON_DEPTH 3u

/*
 * A text that is one object without a key twice. @what: "the header", for the
 * errors. PS_INVALID_ARGUMENT; PS_UNSUPPORTED: more commas than @commas;
 * PS_HOST_MEMORY.
 */
enum ps_status md_json_load(const char *what, const char *text, size_t bytes,
			    uint64_t commas, struct json_t **root_out);

/* All @bytes at @offset of a file, by pread. PS_INVALID_ARGUMENT: it ends
 * before; PS_SYSTEM. */
enum ps_status md_read_at(int fd, const char *what, void *buffer, size_t bytes,
			  uint64_t offset);

#endif /* MODEL_JSON_H */
