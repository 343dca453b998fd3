/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* ps_daemon_ask(): a talk with poolswitchd without a pool and a GPU. */
#include "include/poolswitch.h"

#include "base/status.h"
#include "ipc/address.h"
#include "ipc/client.h"

#include <unistd.h>

static enum ps_status check_call(enum ps_question question, int timeout_ms)
{
	if ((int)question < PS_ASK_STATUS || question > PS_ASK_MODELS)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%d is no question: use one of enum ps_question",
			       (int)question);
	if (timeout_ms < 0 && timeout_ms != PS_TIMEOUT_DEFAULT)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "timeout is %d ms, must be at least 0, or "
			       "PS_TIMEOUT_DEFAULT (%d)",
			       timeout_ms, PS_TIMEOUT_DEFAULT);
	return PS_OK;
}

enum ps_status ps_daemon_ask(const char *socket, enum ps_question question,
			     int timeout_ms, char **json_out)
{
	char path[IP_PATH_BYTES];
	struct ip_client client;
	struct ip_paths paths;
	enum ps_status status = check_call(question, timeout_ms);
	int fd;

	if (status == PS_OK)
		status = ip_paths_find(socket, &paths);
	if (status == PS_OK)
		status = ip_connect(&paths, &fd, path);
	if (status != PS_OK)
		return status;
	status = ip_client_init(&client, fd, timeout_ms);
	if (status == PS_OK)
		status = ip_client_ask(&client, (enum ip_question)question,
				       json_out);
	close(fd);
	return status;
}
