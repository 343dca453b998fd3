/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The keeper: what it does at each end of its agent, at each signal, and at
 * its own. The agent is pretended (pretend_agent.c), so that it fails on
 * time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/harness.h"

#define DEADLINE_MS 10000
#define IDLE_S 2

static int events; /* what the agents say */
static int notes;  /* systemd's end of NOTIFY_SOCKET */
static int output; /* the keeper's standard output and error */
static pid_t keeper;
static pid_t agent;

static const char *path_of(const char *name)
{
	static char path[4][200];
	static unsigned int next;

	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[0]), "%s/%s", th_temp_dir(), name);
	return path[next];
}

static void put(const char *name)
{
	close(open(path_of(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
}

static void take_away(const char *name)
{
	assert_int_equal(unlink(path_of(name)), 0);
}

static int bind_datagrams(const char *name)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s",
		 path_of(name));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		fail_msg("bind %s: %s", name, strerror(errno));
	return fd;
}

/* What comes next from @fd, as a text; "" at its end. */
static const char *next_from(int fd)
{
	static char text[2][1000];
	static unsigned int next;
	struct pollfd entry = { fd, POLLIN, 0 };
	ssize_t got;

	next = !next;
	if (poll(&entry, 1, DEADLINE_MS) != 1)
		fail_msg("nothing came in %d ms", DEADLINE_MS);
	got = read(fd, text[next], sizeof(text[0]) - 1);
	text[next][got > 0 ? got : 0] = '\0';
	return text[next];
}

/* The next event is @word; the number behind it. */
static int await(const char *word)
{
	const char *text = next_from(events);
	size_t length = strlen(word);

	if (strncmp(text, word, length) != 0)
		fail_msg("the agent said '%s', not '%s'", text, word);
	return atoi(text + length);
}

static int set_up(void **state)
{
	(void)state;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	events = bind_datagrams("events");
	notes = bind_datagrams("notes");
	setenv("NOTIFY_SOCKET", path_of("notes"), 1);
	return 0;
}

static void run(int out)
{
	char socket_word[220];
	char pid_word[220];
	const char *argv[] = { th_program("process/pretend_agent"), socket_word,
			       pid_word, NULL };

	snprintf(socket_word, sizeof(socket_word), "--socket=%s",
		 path_of("socket"));
	snprintf(pid_word, sizeof(pid_word), "--pid-file=%s", path_of("pid"));
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	execv(argv[0], (char *const *)(uintptr_t)argv);
	_exit(127);
}

static void run_it(void *arg)
{
	run(*(int *)arg);
}

static void start(void)
{
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	output = ends[0];
	keeper = th_fork(run_it, &ends[1]);
	close(ends[1]);
}

/* Reads until there is @word, or the end. */
static bool is_printed(const char *word)
{
	const char *text;

	do
		text = next_from(output);
	while (text[0] && !strstr(text, word));
	return text[0] != '\0';
}

static void start_and_serve(void)
{
	start();
	agent = await("fresh");
	assert_int_equal(await("holds"), 4);
	assert_true(is_printed("poolswitchd: ready gpu GPU-pretended"));
	assert_non_null(strstr(next_from(notes), "READY=1"));
}

/* All of its halves that are still there, and what they left. */
static int tear_down(void **state)
{
	(void)state;
	while (waitpid(-1, NULL, WNOHANG) >= 0) {
		if (keeper > 0)
			kill(keeper, SIGKILL);
		if (agent > 0)
			kill(agent, SIGKILL);
	}
	keeper = agent = 0;
	close(events);
	close(notes);
	if (output > 0)
		close(output);
	output = 0;
	unsetenv("NOTIFY_SOCKET");
	return 0;
}

static int wait_for_keeper(void)
{
	int status = th_wait(keeper);

	keeper = 0;
	return status;
}

/* Ended, whosever child it was; its number may not be another's yet. */
static void assert_gone(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) == pid)
		return;
	assert_int_equal(kill(pid, 0), -1);
}

static void assert_ended(int status)
{
	assert_int_equal(wait_for_keeper(), status);
	assert_gone(agent);
	agent = 0;
	assert_int_equal(access(path_of("socket"), F_OK), -1);
	assert_int_equal(access(path_of("pid"), F_OK), -1);
}

static int number_in(const char *path)
{
	FILE *file = fopen(path, "re");
	int number = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%d", &number) != 1)
		number = -1;
	fclose(file);
	return number;
}

static void stop(void)
{
	kill(keeper, SIGTERM);
	await("drain");
	assert_ended(0);
}

/* ------------------------------------------------------------------ */

static void test_keeper_start_says_ready_with_sizes_and_socket(void **state)
{
	char expected[300];

	(void)state;
	start();
	agent = await("fresh");
	await("holds");
	snprintf(expected, sizeof(expected),
		 "poolswitchd: ready gpu GPU-pretended bytes 8388608 parameter "
		 "2097152 segment 2097152 socket %s\n",
		 path_of("socket"));
	assert_true(is_printed(expected));
	stop();
}

static void test_keeper_start_tells_systemd_and_the_pid_file(void **state)
{
	char expected[64];

	(void)state;
	start();
	agent = await("fresh");
	await("holds");
	snprintf(expected, sizeof(expected), "READY=1\nMAINPID=%d",
		 (int)keeper);
	assert_string_equal(next_from(notes), expected);
	assert_int_equal(number_in(path_of("pid")), keeper);
	stop();
	assert_string_equal(next_from(notes), "STOPPING=1");
}

static void test_keeper_second_daemon_is_refused(void **state)
{
	char expected[100];
	pid_t first;
	int out;

	(void)state;
	start_and_serve();
	first = keeper;
	out = output;
	start();
	snprintf(expected, sizeof(expected), "process %d listens on",
		 (int)first);
	assert_true(is_printed(expected));
	assert_int_equal(wait_for_keeper(), EX_TEMPFAIL);
	close(output);
	output = out;
	keeper = first;
	assert_int_equal(number_in(path_of("pid")), keeper);
	stop();
}

static void test_keeper_term_twice_stops(void **state)
{
	(void)state;
	put("deaf");
	start_and_serve();
	kill(keeper, SIGTERM);
	await("drain");
	take_away("deaf");
	kill(keeper, SIGTERM);
	await("stop");
	assert_ended(0);
}

static void test_keeper_term_thrice_kills_the_agent(void **state)
{
	(void)state;
	put("deaf");
	start_and_serve();
	kill(keeper, SIGTERM);
	await("drain");
	kill(keeper, SIGINT);
	await("stop");
	kill(keeper, SIGTERM);
	assert_ended(0);
}

static void test_keeper_hup_reloads(void **state)
{
	(void)state;
	start_and_serve();
	kill(keeper, SIGHUP);
	await("reload");
	stop();
}

static void test_keeper_agent_is_of_another_session(void **state)
{
	(void)state;
	start_and_serve();
	assert_int_equal(getsid(agent), agent);
	assert_int_equal(getsid(keeper), getsid(0));
	stop();
}

/* ------------------------------------------------------------------ */

static void kill_agent(void)
{
	kill(agent, SIGKILL);
	agent = await("inherited");
	assert_int_equal(await("holds"), 4);
}

static void kill_keeper(void)
{
	kill(keeper, SIGKILL);
	waitpid(keeper, NULL, 0); /* the first is ours, others the agent's */
	await("keeper");
	/* It tells systemd when it has taken over. */
	assert_int_equal(sscanf(next_from(notes), "MAINPID=%d", &keeper), 1);
}

static void test_keeper_killed_agent_is_followed_by_an_heir(void **state)
{
	(void)state;
	start_and_serve();
	for (int i = 0; i < 20; i++)
		kill_agent();
	stop();
}

static void test_keeper_killed_is_started_by_the_agent(void **state)
{
	(void)state;
	start_and_serve();
	for (int i = 0; i < 20; i++) {
		kill_keeper();
		assert_int_equal(number_in(path_of("pid")), keeper);
	}
	stop();
}

static void test_keeper_and_agent_killed_in_turn_go_on(void **state)
{
	(void)state;
	start_and_serve();
	for (int i = 0; i < 10; i++) {
		kill_keeper();
		kill_agent();
	}
	stop();
}

static void test_keeper_killed_again_names_the_new_process(void **state)
{
	char expected[100];
	pid_t other;

	(void)state;
	start_and_serve();
	kill_keeper();
	other = keeper;
	close(output);
	start();
	snprintf(expected, sizeof(expected), "process %d listens on",
		 (int)other);
	assert_true(is_printed(expected));
	assert_int_equal(wait_for_keeper(), EX_TEMPFAIL);
	keeper = other;
	stop();
}

static void test_keeper_tells_the_next_agent_to_drain(void **state)
{
	(void)state;
	put("deaf");
	start_and_serve();
	kill(keeper, SIGTERM);
	await("drain");
	take_away("deaf");
	kill_agent();
	await("drain");
	assert_ended(0);
}

static void test_keeper_remembers_that_the_agent_drained(void **state)
{
	(void)state;
	start_and_serve();
	kill(agent, SIGWINCH);
	await("dropped"); /* so the keeper has heard both */
	kill(agent, SIGKILL);
	agent = await("inherited");
	await("holds");
	await("drain");
	assert_ended(0);
}

static void test_keeper_asked_twice_starts_no_other_agent(void **state)
{
	(void)state;
	put("deaf");
	start_and_serve();
	kill(keeper, SIGTERM);
	await("drain");
	kill(keeper, SIGTERM);
	await("stop");
	kill(agent, SIGKILL);
	assert_ended(0);
}

static void test_keeper_drops_what_the_agent_remakes(void **state)
{
	(void)state;
	start_and_serve();
	kill(agent, SIGHUP);
	assert_int_equal(await("dropped"), 2);
	kill(agent, SIGKILL);
	agent = await("inherited");
	assert_int_equal(await("holds"), 3);
	stop();
}

static void take_model(void)
{
	kill(agent, SIGURG);
	await("model");
}

static int count_parts(void)
{
	kill(agent, SIGPWR);
	return await("parts");
}

static void test_keeper_hands_a_model_to_the_heir(void **state)
{
	(void)state;
	start_and_serve();
	take_model();
	kill_agent();
	assert_int_equal(count_parts(), 4);
	kill_agent();
	assert_int_equal(count_parts(), 3); /* one was given up */
	stop();
}

static void test_keeper_started_again_has_the_model(void **state)
{
	(void)state;
	start_and_serve();
	take_model();
	kill_keeper();
	kill_agent();
	assert_int_equal(count_parts(), 4);
	stop();
}

static void test_keeper_agent_that_breaks_the_rules_is_replaced(void **state)
{
	pid_t first;

	(void)state;
	start_and_serve();
	first = agent;
	kill(agent, SIGUSR2);
	agent = await("inherited");
	assert_int_equal(await("holds"), 4);
	assert_gone(first);
	stop();
}

/* ------------------------------------------------------------------ */

static void test_keeper_without_a_gpu_ends_at_once(void **state)
{
	uint64_t begin = th_now_ns();

	(void)state;
	put("no-gpu");
	start();
	assert_true(is_printed("there is no GPU"));
	assert_int_equal(wait_for_keeper(), EX_UNAVAILABLE);
	assert_true(th_now_ns() - begin < UINT64_C(5000000000));
	assert_int_equal(access(path_of("socket"), F_OK), -1);
	assert_int_equal(access(path_of("pid"), F_OK), -1);
}

static void test_keeper_agent_that_never_comes_up_ends_it(void **state)
{
	(void)state;
	put("crash");
	start();
	assert_int_equal(wait_for_keeper(), EX_SOFTWARE);
	assert_int_equal(access(path_of("socket"), F_OK), -1);
}

static void test_keeper_without_room_for_the_pid_file_ends(void **state)
{
	(void)state;
	mkdir(path_of("pid"), 0700);
	start();
	assert_true(is_printed("writing the pid file"));
	assert_int_equal(wait_for_keeper(), EX_OSERR);
	assert_int_equal(access(path_of("socket"), F_OK), -1);
}

static long files_of(pid_t pid)
{
	char path[64];
	long count = 0;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	folder = opendir(path);
	assert_non_null(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

static void test_keeper_lost_gpu_begins_anew_when_it_is_back(void **state)
{
	long before;

	(void)state;
	start_and_serve();
	before = files_of(keeper);
	put("no-gpu");
	kill(agent, SIGUSR1);
	assert_true(is_printed("next agent in ms"));
	/* Journal, claim, four segments; the agent's link and pidfd. */
	assert_int_equal(files_of(keeper), before - 8);
	take_away("no-gpu");
	agent = await("fresh");
	assert_int_equal(await("holds"), 4);
	stop();
}

static void test_keeper_agent_without_a_gpu_gives_the_pool_up(void **state)
{
	(void)state;
	start_and_serve();
	put("no-gpu");
	kill(agent, SIGKILL);
	assert_true(is_printed("the pool is given up"));
	take_away("no-gpu");
	agent = await("fresh");
	await("holds");
	stop();
}

static void test_keeper_term_while_there_is_no_agent_ends(void **state)
{
	(void)state;
	start_and_serve();
	put("no-gpu");
	kill(agent, SIGUSR1);
	assert_true(is_printed("next agent in ms"));
	kill(keeper, SIGTERM);
	assert_ended(0);
}

/* ------------------------------------------------------------------ */

/* How often a process has gone to sleep and been woken again. */
static long switches_of(pid_t pid)
{
	char path[64];
	char line[200];
	long count = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		sscanf(line, "voluntary_ctxt_switches: %ld", &count);
	fclose(file);
	return count;
}

/* There is no event to wait for: that nothing happens is what is tested. */
static void test_keeper_idle_never_wakes_up(void **state)
{
	const struct timespec while_idle = { IDLE_S, 0 };
	const struct timespec settling = { 0, 200000000 };
	long before;

	(void)state;
	start_and_serve();
	nanosleep(&settling, NULL);
	before = switches_of(keeper);
	assert_true(before > 0);
	nanosleep(&while_idle, NULL);
	assert_int_equal(switches_of(keeper), before);
	stop();
}

#define KEPT(fn) TH_TEST_SETUP(fn, set_up, tear_down)

static const struct th_test tests[] = {
	KEPT(test_keeper_start_says_ready_with_sizes_and_socket),
	KEPT(test_keeper_start_tells_systemd_and_the_pid_file),
	KEPT(test_keeper_second_daemon_is_refused),
	KEPT(test_keeper_term_twice_stops),
	KEPT(test_keeper_term_thrice_kills_the_agent),
	KEPT(test_keeper_hup_reloads),
	KEPT(test_keeper_agent_is_of_another_session),
	KEPT(test_keeper_killed_agent_is_followed_by_an_heir),
	KEPT(test_keeper_killed_is_started_by_the_agent),
	KEPT(test_keeper_and_agent_killed_in_turn_go_on),
	KEPT(test_keeper_killed_again_names_the_new_process),
	KEPT(test_keeper_tells_the_next_agent_to_drain),
	KEPT(test_keeper_remembers_that_the_agent_drained),
	KEPT(test_keeper_asked_twice_starts_no_other_agent),
	KEPT(test_keeper_drops_what_the_agent_remakes),
	KEPT(test_keeper_hands_a_model_to_the_heir),
	KEPT(test_keeper_started_again_has_the_model),
	KEPT(test_keeper_agent_that_breaks_the_rules_is_replaced),
	KEPT(test_keeper_without_a_gpu_ends_at_once),
	KEPT(test_keeper_agent_that_never_comes_up_ends_it),
	KEPT(test_keeper_without_room_for_the_pid_file_ends),
	KEPT(test_keeper_lost_gpu_begins_anew_when_it_is_back),
	KEPT(test_keeper_agent_without_a_gpu_gives_the_pool_up),
	KEPT(test_keeper_term_while_there_is_no_agent_ends),
	KEPT(test_keeper_idle_never_wakes_up),
};

TH_MAIN("keeper", tests)
