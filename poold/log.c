/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* A pipe that can take anything takes this much at once (PIPE_BUF). */
#define LINE_BYTES 1024u

/* Written before there is a second thread. */
static const char *name = "";
static bool is_journal;
static bool is_verbose;

static _Atomic unsigned long lost;

/* systemd puts "device:inode" of the stream there; a redirected stderr is
 * another file. */
static bool is_read_by_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device = 0;
	unsigned long long inode = 0;
	struct stat file;

	if (!stream || sscanf(stream, "%llu:%llu", &device, &inode) != 2)
		return false;
	return fstat(STDERR_FILENO, &file) == 0 && file.st_dev == device &&
	       file.st_ino == inode;
}

void pd_log_open(const char *half, bool verbose)
{
	name = half;
	is_verbose = verbose;
	is_journal = is_read_by_journal();
}

/* False when it would block, or cannot be written. */
static bool write_line(const char *line, size_t size)
{
	struct pollfd entry = { STDERR_FILENO, POLLOUT, 0 };
	ssize_t written;

	if (poll(&entry, 1, 0) != 1 || entry.revents != POLLOUT)
		return false;
	do
		written = write(STDERR_FILENO, line, size);
	while (written < 0 && errno == EINTR);
	return written == (ssize_t)size;
}

static size_t put_head(char *line, enum pd_level level)
{
	const char *space = name[0] ? " " : "";
	int used;

	if (is_journal)
		used = snprintf(line, LINE_BYTES,
				"<%d>poolswitchd%s%s: ", (int)level, space,
				name);
	else
		used = snprintf(line, LINE_BYTES, "poolswitchd%s%s: ", space,
				name);
	return (size_t)used;
}

/* A text of many lines, or of a peer's making, stays one line. */
static void make_printable(char *text)
{
	for (; *text; text++) {
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
	}
}

static bool write_text(enum pd_level level, const char *format, va_list values)
	__attribute__((format(printf, 2, 0)));
static bool write_text(enum pd_level level, const char *format, va_list values)
{
	char line[LINE_BYTES + 1];
	size_t used = put_head(line, level);
	int more;

	more = vsnprintf(line + used, LINE_BYTES - used, format, values);
	if (more < 0)
		return false;
	make_printable(line + used);
	used += (size_t)more;
	if (used > LINE_BYTES - 1)
		used = LINE_BYTES - 1;
	line[used++] = '\n';
	return write_line(line, used);
}

static bool write_now(enum pd_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static bool write_now(enum pd_level level, const char *format, ...)
{
	va_list values;
	bool done;

	va_start(values, format);
	done = write_text(level, format, values);
	va_end(values);
	return done;
}

static void tell_lost(void)
{
	unsigned long count = lost;

	if (count == 0 ||
	    !write_now(PD_WARNING, "log lines lost count %lu", count))
		return;
	lost -= count;
}

void pd_log(enum pd_level level, const char *format, ...)
{
	int error = errno;
	va_list values;

	if (level == PD_DEBUG && !is_verbose)
		return;
	tell_lost();
	va_start(values, format);
	if (!write_text(level, format, values))
		lost++;
	va_end(values);
	errno = error;
}
