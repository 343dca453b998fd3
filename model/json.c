/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "model/json.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <unistd.h>

#include "base/status.h"
#include "model/show.h"

static enum ps_status check_extent(const char *what, const char *text,
				   size_t bytes, uint64_t most)
{
	uint64_t commas = 0;
	unsigned int depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < bytes; i++) {
		char c = text[i];

		if (in_string && c == '\\')
			i++;
		else if (c == '"')
			in_string = !in_string;
		else if (in_string)
			continue;
		else if (c == ',')
			commas++;
		else if ((c == ']' || c == '}') && depth > 0)
			depth--;
		else if ((c == '[' || c == '{') && ++depth > MD_JSON_DEPTH)
			return bs_fail(PS_INVALID_ARGUMENT,
				       "%s nests deeper than %u levels at byte "
				       "%zu",
				       what, MD_JSON_DEPTH, i);
	}
	if (commas > most)
		return bs_fail(PS_UNSUPPORTED,
			       "%s has %" PRIu64 " commas; at most %" PRIu64
			       " are supported",
			       what, commas, most);
	return PS_OK;
}

enum ps_status md_json_load(const char *what, const char *text, size_t bytes,
			    uint64_t commas, struct json_t **root_out)
{
	enum ps_status status = check_extent(what, text, bytes, commas);
	json_error_t error;
	json_t *root;

	if (status != PS_OK)
		return status;
	if (bytes == 0 || text[0] != '{')
		return bs_fail(PS_INVALID_ARGUMENT, "%s does not begin with {",
			       what);
	root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
	if (root == NULL && json_error_code(&error) == json_error_out_of_memory)
		return bs_fail(PS_HOST_MEMORY,
			       "no memory to read %s of %zu bytes", what,
			       bytes);
	if (root == NULL)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%s is not valid JSON at byte %d: %s", what,
			       error.position, md_show(error.text).text);
	*root_out = root;
	return PS_OK;
}

enum ps_status md_read_at(int fd, const char *what, void *buffer, size_t bytes,
			  uint64_t offset)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t got = pread(fd, (char *)buffer + done, bytes - done,
				    (off_t)(offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return bs_fail_errno("read of %zu bytes at %" PRIu64
					     " failed",
					     bytes - done, offset + done);
		if (got == 0)
			return bs_fail(PS_INVALID_ARGUMENT,
				       "the file ends at byte %" PRIu64
				       ", inside %s",
				       offset + done, what);
		done += (size_t)got;
	}
	return PS_OK;
}
