/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What a client asks the model store for, and what it takes for an answer. */
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "ipc/client.h"
#include "tests/support/harness.h"
#include "tests/support/ipc_daemon_talk.h"
#include "tests/support/rigged_calls.h"

static void close_all(const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		close(fds[i]);
	}
}

/* ------------------------------------------------------------------ */
/* The store                                                           */

static struct ip_add sample_add(void)
{
	struct ip_message msg;

	th_sample(IP_ADD, &msg);
	return msg.body.add;
}

static enum ps_status add_two_files(struct th_daemon_talk *talk, int timeout_ms,
				    uint8_t hash[PS_MODEL_HASH_BYTES])
{
	struct ip_add add = sample_add();
	const int fds[] = { talk->fds[0], talk->fds[1] };

	return ip_client_add(&talk->client, &add, fds, 2, timeout_ms, hash);
}

/* Without ATTACH: anybody may bring a model. */
static void test_client_models_add_sends_the_files_and_gets_a_hash(void **state)
{
	uint8_t hash[PS_MODEL_HASH_BYTES] = { 0 };
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	th_put_answer(&talk, IP_ADDED, 1);
	th_assert_ok(add_two_files(&talk, -1, hash));
	assert_int_equal(hash[0], 0x9d);
	assert_int_equal(hash[PS_MODEL_HASH_BYTES - 1], 0x9d);
	th_assert_ok(ip_conn_receive(&talk.daemon, &msg));
	assert_int_equal(msg.type, IP_ADD);
	assert_int_equal(msg.fd_count, 2);
	assert_string_equal(msg.body.add.name, sample_add().name);
	ip_message_done(&msg);
	th_close_talk(&talk);
}

static void test_client_models_add_has_a_timeout_of_its_own(void **state)
{
	uint8_t hash[PS_MODEL_HASH_BYTES];
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	th_rig.no_waiting = false;
	th_assert_status(add_two_files(&talk, 0, hash), PS_TIMED_OUT);
	assert_false(talk.client.is_denied);
	assert_int_equal(talk.client.conn.timeout_ms, IP_TIMEOUT_DEFAULT_MS);
	th_close_talk(&talk);
}

static void test_client_models_denied_add_writes_nothing(void **state)
{
	uint8_t hash[PS_MODEL_HASH_BYTES] = { 0 };
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	th_put_denial(&talk, 1, PS_HOST_MEMORY);
	th_assert_status(add_two_files(&talk, -1, hash), PS_HOST_MEMORY);
	assert_int_equal(hash[0], 0);
	th_close_talk(&talk);
}

/* It says only that it knows no such message. */
static void test_client_models_older_daemon_is_too_old(void **state)
{
	uint8_t hash[PS_MODEL_HASH_BYTES];
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_talk(&talk);
	ip_message_init(&msg, IP_REFUSE, IP_MINOR_OUTSIDE);
	ip_refuse_set(&msg, PS_PROTOCOL, "message type 25 is unknown");
	th_put_message(&talk, &msg);
	th_assert_status(add_two_files(&talk, -1, hash), PS_UNSUPPORTED);
	th_assert_said("poolswitchd speaks protocol 1.3, ADD came with 1.4");
	assert_true(talk.client.conn.over);
	th_close_talk(&talk);
}

static void test_client_models_order_is_sent_as_it_is(void **state)
{
	struct ip_order order;
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_sample(IP_ORDER, &msg);
	order = msg.body.order;
	th_open_talk(&talk);
	th_put_answer(&talk, IP_DID, 1);
	th_assert_ok(ip_client_order(&talk.client, &order));
	assert_int_equal(order.seq, 1);
	th_hear(&talk, IP_ORDER, &msg);
	assert_memory_equal(&msg.body.order, &order, sizeof(order));
	th_close_talk(&talk);
}

static void test_client_models_status_of_a_denial_is_known(void **state)
{
	struct ip_order order;
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_sample(IP_ORDER, &msg);
	order = msg.body.order;
	th_open_talk(&talk);
	th_put_denial(&talk, 1, PS_LOAD_FAILED);
	th_assert_status(ip_client_order(&talk.client, &order), PS_LOAD_FAILED);
	assert_true(talk.client.is_denied);
	th_close_talk(&talk);
}

static void test_client_models_costs_send_their_numbers(void **state)
{
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_DID, 2);
	th_assert_ok(ip_client_costs(&talk.client, 7, 40, talk.fds[0]));
	th_assert_ok(ip_conn_receive(&talk.daemon, &msg));
	assert_int_equal(msg.body.costs.model, 7);
	assert_int_equal(msg.body.costs.count, 40);
	assert_int_equal(msg.fd_count, 1);
	ip_message_done(&msg);
	th_close_talk(&talk);
}

/* ------------------------------------------------------------------ */
/* A worker                                                            */

static void test_client_models_join_gets_board_and_page(void **state)
{
	struct ip_message msg;
	struct th_daemon_talk talk;
	int fds[2] = { -1, -1 };

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_BOARD, 2);
	th_assert_ok(
		ip_client_join(&talk.client, talk.fds[0], &fds[0], &fds[1]));
	assert_true(fds[0] != fds[1]);
	close_all(fds, 2);
	th_assert_ok(ip_conn_receive(&talk.daemon, &msg));
	assert_int_equal(msg.type, IP_JOIN);
	assert_int_equal(msg.fd_count, 1);
	ip_message_done(&msg);
	th_close_talk(&talk);
}

static void open_welcomed(struct th_daemon_talk *talk, uint16_t minor)
{
	struct ip_message msg;

	th_open_talk(talk);
	talk->daemon.minor = minor;
	th_put_welcome(talk, 0);
	th_assert_ok(th_attach_new(talk));
	talk->daemon.minor = IP_MINOR_HIGH;
	th_hear(talk, IP_ATTACH, &msg);
}

static void test_client_models_ask_nothing_of_an_older_daemon(void **state)
{
	struct th_daemon_talk talk;
	int fds[2] = { -1, -1 };

	(void)state;
	open_welcomed(&talk, IP_MINOR_OUTSIDE);
	th_assert_status(ip_client_join(&talk.client, 0, &fds[0], &fds[1]),
			 PS_UNSUPPORTED);
	th_assert_said("speaks protocol 1.3, models came with 1.4");
	th_assert_status(ip_client_drop_model(&talk.client, 1, 1),
			 PS_UNSUPPORTED);
	assert_int_equal(talk.client.seq, 1);
	th_close_talk(&talk);
}

static struct ip_find sample_find(void)
{
	struct ip_message msg;

	th_sample(IP_FIND, &msg);
	return msg.body.find;
}

static enum ps_status find(struct th_daemon_talk *talk, struct ip_find find)
{
	struct ip_model model = { 0 };
	enum ps_status status;
	int manifest = -1;

	status = ip_client_find(&talk->client, &find, &model, &manifest);
	assert_int_equal(find.seq, talk->client.seq);
	if (status == PS_OK)
		close_all(&manifest, 1);
	else
		assert_int_equal(manifest, -1);
	assert_int_equal(model.model, status == PS_OK ? 1023 : 0);
	return status;
}

static void test_client_models_find_gets_model_and_manifest(void **state)
{
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_MODEL, 2);
	th_assert_ok(find(&talk, sample_find()));
	th_hear(&talk, IP_FIND, &msg);
	assert_string_equal(msg.body.find.name, sample_find().name);
	th_close_talk(&talk);
}

static void test_client_models_found_under_another_name_is_refused(void **state)
{
	struct ip_find other = sample_find();
	struct th_daemon_talk talk;

	(void)state;
	other.name[0] = 'x';
	th_open_attached(&talk);
	th_put_answer(&talk, IP_MODEL, 2);
	th_assert_status(find(&talk, other), PS_PROTOCOL);
	th_assert_said("MODEL: name is \"llama-3/8b@base\", must be \"xlama");
	th_close_talk(&talk);
}

static void test_client_models_found_with_another_hash_is_refused(void **state)
{
	struct ip_find other = sample_find();
	struct th_daemon_talk talk;

	(void)state;
	other.hash[0] = 0x11;
	th_open_attached(&talk);
	th_put_answer(&talk, IP_MODEL, 2);
	th_assert_status(find(&talk, other), PS_PROTOCOL);
	th_assert_said("begins with 9d9d, 119d was asked for");
	th_close_talk(&talk);
}

static void test_client_models_found_by_hash_has_any_name(void **state)
{
	struct ip_find any = sample_find();
	struct th_daemon_talk talk;

	(void)state;
	any.flags = IP_FIND_HASH;
	memset(any.name, 0, sizeof(any.name));
	th_open_attached(&talk);
	th_put_answer(&talk, IP_MODEL, 2);
	th_assert_ok(find(&talk, any));
	th_close_talk(&talk);
}

/* ------------------------------------------------------------------ */
/* Using it                                                            */

static void put_place(struct th_daemon_talk *talk, uint32_t place,
		      uint32_t first, uint32_t flags)
{
	struct ip_message msg;

	th_answer_init(talk, IP_PLACE, 2, &msg);
	msg.body.place.flags = flags;
	msg.body.place.place = place;
	msg.body.place.segment[0] = first;
	msg.body.place.segment[1] = first + 1;
	th_put_message(talk, &msg);
}

static void put_same(struct th_daemon_talk *talk, uint32_t place)
{
	struct ip_message msg;

	ip_message_init(&msg, IP_PLACE, talk->daemon.minor);
	msg.body.place =
		(struct ip_place){ 2, IP_PLACE_SAME, place, 0, 0, { 0 } };
	th_put_message(talk, &msg);
}

static enum ps_status use(struct th_daemon_talk *talk, uint32_t had,
			  struct ip_place *place, int *fds)
{
	struct ip_use_request request = { .model = 3, .place = had };

	return ip_client_use(&talk->client, &request, place, fds);
}

static void test_client_models_use_goes_on_while_there_is_more(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_place place;
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_place(&talk, 5, 0, IP_LIST_MORE);
	put_place(&talk, 5, 2, 0);
	th_assert_ok(use(&talk, 4, &place, fds));
	assert_int_equal(place.flags, IP_LIST_MORE);
	close_all(fds, 2);
	th_assert_ok(ip_client_use(&talk.client, NULL, &place, fds));
	assert_int_equal(place.segment[0], 2);
	close_all(fds, 2);
	th_hear(&talk, IP_USE, &msg);
	assert_int_equal(msg.body.use.model, 3);
	assert_int_equal(msg.body.use.place, 4);
	th_close_talk(&talk);
}

static void test_client_models_same_place_writes_no_descriptor(void **state)
{
	struct ip_place place;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_same(&talk, 4);
	th_assert_ok(use(&talk, 4, &place, NULL));
	assert_int_equal(place.flags, IP_PLACE_SAME);
	assert_int_equal(place.count, 0);
	th_close_talk(&talk);
}

static void test_client_models_same_as_never_had_is_refused(void **state)
{
	struct ip_place place;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_same(&talk, 5);
	th_assert_status(use(&talk, 4, &place, NULL), PS_PROTOCOL);
	th_assert_said("all is as at place 5, the client has 4");
	th_close_talk(&talk);
}

static void test_client_models_same_after_segments_is_refused(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_place place;
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_place(&talk, 5, 0, IP_LIST_MORE);
	th_assert_ok(use(&talk, 5, &place, fds));
	close_all(fds, 2);
	ip_message_init(&msg, IP_PLACE, talk.daemon.minor);
	msg.body.place = (struct ip_place){ 2, IP_PLACE_SAME, 5, 1, 0, { 0 } };
	th_put_message(&talk, &msg);
	th_assert_status(ip_client_use(&talk.client, NULL, &place, fds),
			 PS_PROTOCOL);
	th_assert_said("the client has 0");
	th_close_talk(&talk);
}

static void test_client_models_place_that_changes_is_refused(void **state)
{
	int fds[IP_LIST_MAX];
	struct ip_place place;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	put_place(&talk, 5, 0, IP_LIST_MORE);
	put_place(&talk, 6, 2, 0);
	th_assert_ok(use(&talk, 4, &place, fds));
	close_all(fds, 2);
	th_assert_status(ip_client_use(&talk.client, NULL, &place, fds),
			 PS_PROTOCOL);
	th_assert_said("PLACE: is 6 after 1 failures, must be 5 after 1 as");
	th_close_talk(&talk);
}

static void test_client_models_drop_names_the_model(void **state)
{
	struct ip_message msg;
	struct th_daemon_talk talk;

	(void)state;
	th_open_attached(&talk);
	th_put_denial(&talk, 2, PS_TIMED_OUT);
	th_put_answer(&talk, IP_DID, 3);
	th_assert_status(ip_client_drop_model(&talk.client, 3, 77),
			 PS_TIMED_OUT);
	assert_true(talk.client.is_denied);
	th_hear(&talk, IP_DROPPED, &msg);
	th_assert_ok(ip_client_drop_model(&talk.client, 3, 77));
	assert_false(talk.client.is_denied);
	th_hear(&talk, IP_DROPPED, &msg);
	assert_int_equal(msg.body.dropped.model, 3);
	assert_int_equal(msg.body.dropped.serial, 77);
	th_close_talk(&talk);
}

static const struct th_test tests[] = {
	TH_TEST(test_client_models_add_sends_the_files_and_gets_a_hash),
	TH_TEST(test_client_models_add_has_a_timeout_of_its_own),
	TH_TEST(test_client_models_denied_add_writes_nothing),
	TH_TEST(test_client_models_older_daemon_is_too_old),
	TH_TEST(test_client_models_order_is_sent_as_it_is),
	TH_TEST(test_client_models_status_of_a_denial_is_known),
	TH_TEST(test_client_models_costs_send_their_numbers),
	TH_TEST(test_client_models_join_gets_board_and_page),
	TH_TEST(test_client_models_ask_nothing_of_an_older_daemon),
	TH_TEST(test_client_models_find_gets_model_and_manifest),
	TH_TEST(test_client_models_found_under_another_name_is_refused),
	TH_TEST(test_client_models_found_with_another_hash_is_refused),
	TH_TEST(test_client_models_found_by_hash_has_any_name),
	TH_TEST(test_client_models_use_goes_on_while_there_is_more),
	TH_TEST(test_client_models_same_place_writes_no_descriptor),
	TH_TEST(test_client_models_same_as_never_had_is_refused),
	TH_TEST(test_client_models_same_after_segments_is_refused),
	TH_TEST(test_client_models_place_that_changes_is_refused),
	TH_TEST(test_client_models_drop_names_the_model),
};

TH_MAIN("client_models", tests)
