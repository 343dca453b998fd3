/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "poold/notify.h"

#include "poold/log.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* A path, or an abstract name with "@" in place of its zero. */
static socklen_t make_name(const char *place, struct sockaddr_un *name)
{
	size_t length = strlen(place);

	if (length < 2 || length >= sizeof(name->sun_path) ||
	    (place[0] != '/' && place[0] != '@'))
		return 0;
	memset(name, 0, sizeof(*name));
	name->sun_family = AF_UNIX;
	memcpy(name->sun_path, place, length);
	if (place[0] == '@')
		name->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

void pd_notify(const char *text)
{
	const char *place = getenv("NOTIFY_SOCKET");
	struct sockaddr_un name;
	ssize_t sent = -1;
	socklen_t size;
	int fd;

	if (!place || !place[0])
		return;
	size = make_name(place, &name);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (size == 0)
		errno = EINVAL;
	else if (fd >= 0)
		sent = sendto(fd, text, strlen(text),
			      MSG_DONTWAIT | MSG_NOSIGNAL,
			      (const struct sockaddr *)&name, size);
	if (sent < 0)
		pd_log(PD_WARNING, "telling systemd at %s failed: %s", place,
		       strerror(errno));
	if (fd >= 0)
		close(fd);
}
