/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Clients that say of models what no library would, by hand. Each harms nobody
 * but itself: the daemon goes on, and another process's model stays usable.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/status.h"
#include "tests/support/daemon_wire.h"
#include "tests/support/models.h"

#define SOMEBODY 65533u
#define KIB ((size_t)1 << 10)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

static const struct th_model good = { .name = "good",
				      .seed = 1,
				      .tensors = 8,
				      .bytes = 512 * KIB,
				      .flags = PS_MODEL_PUBLIC };
/* The same file under another name. */
static const struct th_model hurried = { .name = "hurried" };
static const struct th_model *const all[] = { &good, &hurried };

/* ---- a daemon, and a child that talks to it ---- */

/* Its model is read from the file to the stream, as before. */
static void run_good(int link)
{
	struct ps_pool *pool = th_attach();
	const struct th_gpu *gpu = th_gpu_open();
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);

	(void)link;
	th_model_run(th_model_attach(pool, &good), &good, gpu, stream);
	th_assert_ok(ps_detach(pool));
}

static void in_child(void (*run)(int link))
{
	struct th_client client;

	th_client_start(&client, run);
	assert_int_equal(th_client_wait(&client), 0);
}

static void harms_nobody(void (*run)(int link))
{
	static const char *const options[] = { "--socket-mode", "666", NULL };
	const struct th_daemon_plan plan = { .options = options };
	struct th_daemon daemon;

	th_daemon_start(&daemon, &plan);
	th_open_to_all();
	th_model_add(&good);
	in_child(run);
	in_child(run_good);
	th_models_remove(all, 1);
	th_daemon_stop(&daemon);
}

static void set_name(char name[IP_MODEL_NAME_BYTES], const char *text)
{
	memset(name, 0, IP_MODEL_NAME_BYTES);
	memcpy(name, text, strlen(text));
}

static void say(struct th_wire *wire, struct ip_message *msg, enum ip_type type)
{
	ip_message_init(msg, type, wire->client.conn.minor);
	msg->body.number.seq = ++wire->client.seq;
}

/* ---- files that are none ---- */

static int pipe_end(void)
{
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[1]);
	return fds[0];
}

/* Nobody ever writes to it. */
static int quiet_socket(void)
{
	int fds[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	close(fds[1]);
	return fds[0];
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void expect_denied(struct th_wire *wire, int fd)
{
	struct ip_add add = { .flags = 0 };
	uint8_t hash[PS_MODEL_HASH_BYTES];
	enum ps_status status;

	set_name(add.name, "bad");
	status = ip_client_add(&wire->client, &add, &fd, 1, TH_WIRE_MS, hash);
	assert_int_not_equal(status, PS_OK);
	if (!wire->client.is_denied)
		fail_msg("not denied: %s", bs_fail_text());
	close(fd);
}

static void add_strange_files(int link)
{
	const char *path = th_model_write(&good);
	struct th_wire wire;

	(void)link;
	th_wire_connect(&wire);
	expect_denied(&wire, pipe_end());
	expect_denied(&wire, quiet_socket());
	expect_denied(&wire, open_file("/", O_RDONLY | O_DIRECTORY));
	expect_denied(&wire, open_file("/dev/zero", O_RDONLY));
	expect_denied(&wire, open_file("/proc/self/mem", O_RDONLY));
	expect_denied(&wire, open_file(path, O_WRONLY));
	expect_denied(&wire, open_file(path, O_PATH));
	expect_denied(&wire, memfd_create("empty", MFD_CLOEXEC));
	th_wire_close(&wire);
}

static void test_models_strange_files_are_denied(void **state)
{
	(void)state;
	harms_nobody(add_strange_files);
}

/* One tensor of a TiB, of which nothing is there. */
static int huge_file(void)
{
	static const char header[] =
		"{\"w\":{\"dtype\":\"U8\",\"shape\":[1099511627776],"
		"\"data_offsets\":[0,1099511627776]}}";
	const uint64_t length = sizeof(header) - 1;
	int fd = memfd_create("huge", MFD_CLOEXEC);

	assert_int_equal(write(fd, &length, sizeof(length)), sizeof(length));
	assert_int_equal(write(fd, header, length), length);
	if (ftruncate(fd, (off_t)(8 + length + (UINT64_C(1) << 40))) != 0)
		fail_msg("no room for a file of a TiB");
	return fd;
}

static void add_huge_file(int link)
{
	struct th_wire wire;

	(void)link;
	th_wire_connect(&wire);
	expect_denied(&wire, huge_file());
	th_wire_close(&wire);
}

/* At once: before anything of it is read or memory is taken for it. */
static void test_models_huge_file_of_nothing_is_denied(void **state)
{
	(void)state;
	harms_nobody(add_huge_file);
}

/* Each part has the tensors of all others. */
static void add_one_file_often(int link)
{
	int fds[IP_MODEL_FILES];
	uint8_t hash[PS_MODEL_HASH_BYTES];
	struct ip_add add = { .flags = 0 };
	struct th_wire wire;

	(void)link;
	set_name(add.name, "often");
	th_wire_connect(&wire);
	fds[0] = open_file(th_model_write(&good), O_RDONLY);
	for (unsigned int i = 1; i < IP_MODEL_FILES; i++)
		fds[i] = fds[0];
	assert_int_not_equal(ip_client_add(&wire.client, &add, fds,
					   IP_MODEL_FILES, TH_WIRE_MS, hash),
			     PS_OK);
	assert_true(wire.client.is_denied);
	close(fds[0]);
	th_wire_close(&wire);
}

static void test_models_parts_with_the_same_tensors_are_denied(void **state)
{
	(void)state;
	harms_nobody(add_one_file_often);
}

static void add_and_go(int link)
{
	struct ip_message msg;
	struct th_wire wire;

	(void)link;
	for (unsigned int i = 0; i < 20; i++) {
		th_wire_connect(&wire);
		say(&wire, &msg, IP_ADD);
		set_name(msg.body.add.name, "fleeting");
		msg.fd_count = 1;
		msg.fds[0] = open_file("/dev/zero", O_RDONLY);
		th_assert_ok(ip_conn_send(&wire.client.conn, &msg));
		ip_message_done(&msg);
		th_wire_close(&wire);
	}
}

static void test_models_adders_that_leave_are_forgotten(void **state)
{
	(void)state;
	harms_nobody(add_and_go);
}

/* ---- requests out of turn ---- */

static void expect_end(struct th_wire *wire, struct ip_message *msg)
{
	th_assert_ok(ip_conn_send(&wire->client.conn, msg));
	ip_message_done(msg);
	th_wire_assert_ended(wire->socket);
	th_wire_close(wire);
}

static void ask_before_attaching(int link)
{
	static const enum ip_type types[] = { IP_JOIN, IP_FIND, IP_USE,
					      IP_DROPPED, IP_COSTS };
	struct ip_message msg;
	struct th_wire wire;

	(void)link;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		th_wire_connect(&wire);
		say(&wire, &msg, types[i]);
		msg.body.find.flags = types[i] == IP_FIND ? IP_FIND_HASH : 0;
		if (types[i] == IP_COSTS)
			msg.body.costs.count = 1;
		if (types[i] == IP_JOIN || types[i] == IP_COSTS)
			msg.fds[msg.fd_count++] =
				open_file("/dev/null", O_RDONLY);
		expect_end(&wire, &msg);
	}
}

static void test_models_requests_before_attach_end_the_talk(void **state)
{
	(void)state;
	harms_nobody(ask_before_attaching);
}

static void say_add(struct th_wire *wire, struct ip_message *msg)
{
	say(wire, msg, IP_ADD);
	set_name(msg->body.add.name, hurried.name);
	msg->fds[msg->fd_count++] = open_file(th_model_write(&good), O_RDONLY);
}

/* Both lie in the socket before the daemon reads the first, which it goes on
 * with. */
static void add_two_at_once(int link)
{
	struct ip_message msg;
	struct th_wire wire;

	(void)link;
	th_wire_connect(&wire);
	say_add(&wire, &msg);
	th_assert_ok(ip_conn_send(&wire.client.conn, &msg));
	ip_message_done(&msg);
	say_add(&wire, &msg);
	expect_end(&wire, &msg);
	th_models_remove(all + 1, 1);
}

static void test_models_second_request_ends_the_talk(void **state)
{
	(void)state;
	harms_nobody(add_two_at_once);
}

static void use_before_joining(int link)
{
	struct ip_message msg;
	struct th_wire wire;

	(void)link;
	th_wire_open(&wire, "hasty");
	say(&wire, &msg, IP_USE);
	expect_end(&wire, &msg);
}

static void test_models_use_before_join_ends_the_talk(void **state)
{
	(void)state;
	harms_nobody(use_before_joining);
}

/* ---- pages ---- */

static int make_page(size_t bytes, int seals)
{
	int fd = memfd_create("page", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void join_wrongly(int page)
{
	struct ip_message msg;
	struct th_wire wire;

	th_wire_open(&wire, "strange");
	say(&wire, &msg, IP_JOIN);
	msg.fds[msg.fd_count++] = page;
	expect_end(&wire, &msg);
}

static void join_with_strange_pages(int link)
{
	const size_t bytes = sizeof(struct ip_use_page);

	(void)link;
	join_wrongly(make_page(bytes, 0));
	join_wrongly(make_page(bytes, F_SEAL_GROW));
	join_wrongly(make_page(bytes, F_SEAL_SHRINK));
	join_wrongly(make_page(bytes - 1, SEALS));
	join_wrongly(make_page(2 * bytes, SEALS));
	join_wrongly(make_page(0, SEALS));
	join_wrongly(pipe_end());
	join_wrongly(open_file("/dev/zero", O_RDWR));
	join_wrongly(open_file("/proc/self/exe", O_RDONLY));
}

static void test_models_strange_pages_end_the_talk(void **state)
{
	(void)state;
	harms_nobody(join_with_strange_pages);
}

/* Joined by hand; the page stays mapped. */
struct joined {
	struct th_wire wire;
	struct ip_use_page *page;
	int board;
	int landed;
};

static void join(struct joined *joined, const char *name)
{
	int fd = make_page(sizeof(struct ip_use_page), SEALS);

	th_wire_open(&joined->wire, name);
	joined->page = mmap(NULL, sizeof(struct ip_use_page),
			    PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(joined->page, MAP_FAILED);
	th_assert_ok(ip_client_join(&joined->wire.client, fd, &joined->board,
				    &joined->landed));
	close(fd);
}

static void leave(struct joined *joined)
{
	munmap(joined->page, sizeof(struct ip_use_page));
	close(joined->board);
	close(joined->landed);
	th_wire_close(&joined->wire);
}

static void find(struct joined *joined, struct ip_model *model)
{
	struct ip_find find = { .flags = IP_FIND_NAME };
	int manifest;

	set_name(find.name, good.name);
	th_assert_ok(
		ip_client_find(&joined->wire.client, &find, model, &manifest));
	close(manifest);
}

static void join_twice(int link)
{
	struct joined joined;
	struct ip_message msg;

	(void)link;
	join(&joined, "twice");
	say(&joined.wire, &msg, IP_JOIN);
	msg.fds[msg.fd_count++] = make_page(sizeof(struct ip_use_page), SEALS);
	th_assert_ok(ip_conn_send(&joined.wire.client.conn, &msg));
	ip_message_done(&msg);
	th_wire_assert_ended(joined.wire.socket);
	leave(&joined);
}

static void test_models_second_join_ends_the_talk(void **state)
{
	(void)state;
	harms_nobody(join_twice);
}

static void use_good(struct joined *joined)
{
	struct ip_use_request use = { .wait_ms = TH_WIRE_MS };
	struct ip_model model;
	struct ip_place place;
	int fds[IP_LIST_MAX];

	find(joined, &model);
	use.model = model.model;
	use.serial = model.serial;
	th_assert_ok(ip_client_use(&joined->wire.client, &use, &place, fds));
	for (uint32_t i = 0; i < place.count; i++)
		close(fds[i]);
}

/* What it says is taken for busy: it keeps its own model, and no longer than
 * it lives. */
static void write_nonsense(int link)
{
	struct joined joined;

	(void)link;
	join(&joined, "babbler");
	use_good(&joined);
	memset(joined.page, 0xff, sizeof(*joined.page));
	assert_int_not_equal(
		ps_model_order(NULL, PS_MODEL_EVICT, good.name, 50), PS_OK);
	leave(&joined);
}

static void test_models_nonsense_in_a_page_harms_nobody(void **state)
{
	(void)state;
	harms_nobody(write_nonsense);
}

/* The file that the daemon reads by must not come back as one to write. */
static void write_landed_page(int link)
{
	struct joined joined;
	char path[64];

	(void)link;
	if (geteuid() == 0)
		th_become(SOMEBODY);
	join(&joined, "forger");
	assert_ptr_equal(mmap(NULL, sizeof(struct ip_landed_page),
			      PROT_READ | PROT_WRITE, MAP_SHARED, joined.landed,
			      0),
			 MAP_FAILED);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", joined.landed);
	assert_int_equal(open(path, O_RDWR | O_CLOEXEC), -1);
	leave(&joined);
}

static void test_models_landed_page_is_not_writable(void **state)
{
	(void)state;
	if (geteuid() != 0)
		th_skip("only root can be somebody else");
	harms_nobody(write_landed_page);
}

/* ---- models that it does not have ---- */

static void ask_for_strange_models(int link)
{
	struct ip_use_request use = { .model = 5, .serial = 1 };
	struct joined joined;
	struct ip_model model;
	struct ip_place place;
	int fds[IP_LIST_MAX];

	(void)link;
	join(&joined, "stranger");
	th_assert_status(ip_client_use(&joined.wire.client, &use, &place, fds),
			 PS_NO_MODEL);
	find(&joined, &model);
	use.model = model.model;
	use.serial = model.serial + 1;
	th_assert_status(ip_client_use(&joined.wire.client, &use, &place, fds),
			 PS_NO_MODEL);
	/* What it does not have it can drop: that changes nothing. */
	th_assert_ok(ip_client_drop_model(&joined.wire.client, 1000, 1));
	th_assert_ok(ip_client_drop_model(&joined.wire.client, model.model,
					  model.serial));
	use.serial = model.serial;
	th_assert_status(ip_client_use(&joined.wire.client, &use, &place, fds),
			 PS_NO_MODEL);
	/* Nor was it loaded for that. */
	assert_true(th_model_is(&good, "host"));
	leave(&joined);
}

static void test_models_not_attached_are_not_used(void **state)
{
	(void)state;
	harms_nobody(ask_for_strange_models);
}

/* As if it had been asked, for any model and any request. */
static void yield_unasked(int link)
{
	struct joined joined;
	struct ip_conn events;
	struct ip_message msg;

	(void)link;
	join(&joined, "eager");
	th_assert_ok(ip_conn_init(&events, joined.wire.events, IP_CLIENT, 0,
				  TH_WIRE_MS));
	events.minor = joined.wire.client.conn.minor;
	for (uint32_t i = 0; i < 64; i++) {
		enum ps_status status;

		ip_message_init(&msg, IP_YIELDED, events.minor);
		msg.body.yielded =
			(struct ip_yielded){ i + 1, i * 16, i, i % 2 };
		status = ip_conn_send(&events, &msg);
		if (status != PS_OK) {
			/* It may be ended for that. */
			th_assert_status(status, PS_PEER_GONE);
			break;
		}
	}
	leave(&joined);
}

static void test_models_yielded_unasked_harms_nobody(void **state)
{
	(void)state;
	harms_nobody(yield_unasked);
}

/* ---- costs ---- */

static void say_costs(struct joined *joined, uint32_t model, uint32_t count,
		      int fd)
{
	struct ip_message msg;

	say(&joined->wire, &msg, IP_COSTS);
	msg.body.costs.model = model;
	msg.body.costs.count = count;
	msg.fds[msg.fd_count++] = fd;
	th_assert_ok(ip_conn_send(&joined->wire.client.conn, &msg));
	ip_message_done(&msg);
}

static void say_strange_costs(int link)
{
	const int seals = SEALS | F_SEAL_WRITE;
	struct joined joined;
	struct ip_model model;
	int fd = make_page(40, seals);

	(void)link;
	join(&joined, "accountant");
	find(&joined, &model);
	th_assert_status(
		ip_client_costs(&joined.wire.client, model.model, 10, fd),
		PS_INVALID_ARGUMENT);
	th_assert_status(ip_client_costs(&joined.wire.client, 1000, 10, fd),
			 PS_NO_MODEL);
	close(fd);
	say_costs(&joined, model.model, good.tensors, make_page(4, seals));
	th_wire_assert_ended(joined.wire.socket);
	leave(&joined);
}

static void test_models_costs_of_another_length_are_refused(void **state)
{
	(void)state;
	harms_nobody(say_strange_costs);
}

/* It could change while it is read. */
static void say_open_costs(int link)
{
	struct joined joined;
	struct ip_model model;

	(void)link;
	join(&joined, "forger");
	find(&joined, &model);
	say_costs(&joined, model.model, good.tensors,
		  make_page(good.tensors * 4, SEALS));
	th_wire_assert_ended(joined.wire.socket);
	leave(&joined);
}

static void test_models_costs_that_may_change_end_the_talk(void **state)
{
	(void)state;
	harms_nobody(say_open_costs);
}

static const struct th_test tests[] = {
	TH_DAEMON_TEST(test_models_strange_files_are_denied),
	TH_DAEMON_TEST(test_models_parts_with_the_same_tensors_are_denied),
	TH_DAEMON_TEST(test_models_huge_file_of_nothing_is_denied),
	TH_DAEMON_TEST(test_models_adders_that_leave_are_forgotten),
	TH_DAEMON_TEST(test_models_requests_before_attach_end_the_talk),
	TH_DAEMON_TEST(test_models_second_request_ends_the_talk),
	TH_DAEMON_TEST(test_models_use_before_join_ends_the_talk),
	TH_DAEMON_TEST(test_models_strange_pages_end_the_talk),
	TH_DAEMON_TEST(test_models_second_join_ends_the_talk),
	TH_DAEMON_TEST(test_models_nonsense_in_a_page_harms_nobody),
	TH_DAEMON_TEST(test_models_landed_page_is_not_writable),
	TH_DAEMON_TEST(test_models_not_attached_are_not_used),
	TH_DAEMON_TEST(test_models_yielded_unasked_harms_nobody),
	TH_DAEMON_TEST(test_models_costs_of_another_length_are_refused),
	TH_DAEMON_TEST(test_models_costs_that_may_change_end_the_talk),
};

TH_MAIN("models_hostile", tests)
