/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* poolswitchd: which half this process is, and what both need. */
#include "poold/half.h"
#include "poold/log.h"
#include "poold/options.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <unistd.h>

/* Else a socket would get the number that somebody prints to. */
static int fill_standard_files(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	return fd < 0 ? -1 : close(fd);
}

int main(int argc, char **argv)
{
	struct pd_options options;

	if (fill_standard_files() != 0) {
		perror("poolswitchd: /dev/null");
		return EX_OSERR;
	}
	pd_options_parse(argc, argv, &options);
	pd_raise_files();
	/* A reader that is gone and a limit of file sizes are errors of the
	 * call. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	/* Executed as /proc/self/exe, ps would call it "exe". */
	prctl(PR_SET_NAME, "poolswitchd");
	if (options.link >= 0)
		fcntl(options.link, F_SETFD, FD_CLOEXEC);
	if (options.role == PD_ROLE_AGENT) {
		pd_log_open("agent", options.is_verbose);
		return pd_agent_run(argc, argv, &options);
	}
	pd_log_open("keeper", options.is_verbose);
	return pd_keeper_run(argc, argv, &options);
}
