/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Makes the corpus of fuzz_wire: a good message of each type, the same from a
 * newer minor version, and some that are wrong in one place.
 *
 *   make_wire_corpus FOLDER           writes the files
 *   make_wire_corpus --check FOLDER   fails when one there is another
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/ipc_samples.h"

struct seed {
	char name[64];
	uint8_t bytes[IP_MESSAGE_MAX];
	size_t size;
};

static bool checking;
static const char *folder;

static void die(const char *what, const char *name)
{
	fprintf(stderr, "make_wire_corpus: %s %s/%s\n", what, folder, name);
	exit(EXIT_FAILURE);
}

static void check_seed(FILE *file, const struct seed *seed)
{
	uint8_t there[IP_MESSAGE_MAX + 1];
	size_t size = fread(there, 1, sizeof(there), file);

	if (size != seed->size || memcmp(there, seed->bytes, size) != 0)
		die("make it again:", seed->name);
}

static void put_seed(const struct seed *seed)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, seed->name);
	file = fopen(path, checking ? "rbe" : "wbe");
	if (file == NULL)
		die("cannot open", seed->name);
	if (checking)
		check_seed(file, seed);
	else if (fwrite(seed->bytes, 1, seed->size, file) != seed->size)
		die("cannot write", seed->name);
	if (fclose(file) != 0)
		die("cannot write", seed->name);
}

static void seed_init(struct seed *seed, const struct ip_message *msg,
		      const char *name)
{
	memset(seed, 0, sizeof(*seed));
	if (ip_message_encode(msg, seed->bytes, &seed->size) != PS_OK)
		die("cannot encode", name);
	snprintf(seed->name, sizeof(seed->name), "%s", name);
}

/* The lower byte of the field at @at. */
static void put_changed(const struct seed *good, const char *how, size_t at,
			uint8_t value)
{
	struct seed seed = *good;

	snprintf(seed.name, sizeof(seed.name), "%.30s-%s", good->name, how);
	seed.bytes[at] = value;
	put_seed(&seed);
}

static void put_type(enum ip_type type)
{
	struct ip_message msg;
	struct seed seed;

	th_sample(type, &msg);
	seed_init(&seed, &msg, ip_type_name((uint16_t)type));
	put_seed(&seed);
	put_changed(&seed, "newer-minor", 6, IP_MINOR_HIGH + 1);
	put_changed(&seed, "other-major", 4, IP_MAJOR + 1);
	put_changed(&seed, "wrong-length", 12, (uint8_t)(seed.bytes[12] + 1));
	put_changed(&seed, "wrong-fds", 10, (uint8_t)(seed.bytes[10] + 1));
	seed.size--;
	put_changed(&seed, "cut", 0, 'P');
}

static void put_legacy_offer(void)
{
	struct ip_message msg;
	struct seed seed;

	th_sample(IP_OFFER, &msg);
	th_offer_init_legacy(&msg.body.offer);
	seed_init(&seed, &msg, "OFFER-legacy");
	put_seed(&seed);
}

static void put_long_refusal(void)
{
	char text[IP_TEXT_MAX + 1];
	struct ip_message msg;
	struct seed seed;

	memset(text, 'x', IP_TEXT_MAX);
	text[IP_TEXT_MAX] = '\0';
	th_sample(IP_REFUSE, &msg);
	ip_refuse_set(&msg, PS_SYSTEM, text);
	seed_init(&seed, &msg, "REFUSE-long");
	put_seed(&seed);
	put_changed(&seed, "unprintable", IP_HEADER_BYTES + 200, '\n');
}

static void put_message(const struct ip_message *msg, const char *name)
{
	struct seed seed;

	seed_init(&seed, msg, name);
	put_seed(&seed);
}

static void put_longest_list(enum ip_type type)
{
	struct ip_message msg;
	char name[64];

	th_sample(type, &msg);
	msg.body.list.count = IP_LIST_MAX;
	for (uint32_t i = 0; i < IP_LIST_MAX; i++)
		msg.body.list.segment[i] = 7 * i;
	if (type == IP_GRANT)
		th_sample_fds(&msg, IP_LIST_MAX);
	snprintf(name, sizeof(name), "%s-longest",
		 ip_type_name((uint16_t)type));
	put_message(&msg, name);
}

/* Room outside the pool. */
static void put_outside(void)
{
	struct ip_message msg;

	th_sample(IP_TAKE, &msg);
	msg.body.take.flags = IP_TAKE_OUTSIDE;
	put_message(&msg, "TAKE-outside");
	ip_message_init(&msg, IP_GRANT, IP_MINOR_HIGH);
	msg.body.list = (struct ip_list){ 2, IP_LIST_OUTSIDE, 2, { 4, 3 } };
	put_message(&msg, "GRANT-outside");
	ip_message_init(&msg, IP_HELD, IP_MINOR_HIGH);
	msg.body.list = (struct ip_list){ 2, 0, 3, { 4, 3, 2 } };
	msg.body.list.segment[1] |= IP_SEGMENT_OUTSIDE;
	msg.body.list.segment[2] |= IP_SEGMENT_OPENED;
	put_message(&msg, "HELD-outside");
}

static void put_longest_place(void)
{
	struct ip_message msg;

	th_sample(IP_PLACE, &msg);
	msg.body.place.count = IP_LIST_MAX;
	for (uint32_t i = 0; i < IP_LIST_MAX; i++)
		msg.body.place.segment[i] = 7 * i;
	th_sample_fds(&msg, IP_LIST_MAX);
	put_message(&msg, "PLACE-longest");
}

/* The forms of the messages about models that the samples do not have. */
static void put_models(void)
{
	struct ip_message msg;

	th_sample(IP_ADD, &msg);
	msg.body.add.plan = msg.body.add.groups = 0;
	put_message(&msg, "ADD-best");
	th_sample(IP_FIND, &msg);
	msg.body.find.flags = IP_FIND_HASH;
	memset(msg.body.find.name, 0, IP_MODEL_NAME_BYTES);
	put_message(&msg, "FIND-hash");
	th_sample(IP_PLACE, &msg);
	msg.body.place.flags = IP_PLACE_SAME;
	msg.body.place.count = msg.fd_count = 0;
	put_message(&msg, "PLACE-same");
	th_sample(IP_PIECE, &msg);
	msg.body.piece.kind = IP_PIECE_FILES;
	msg.body.piece.number[1] = IP_MODELS_MAX * IP_MODEL_FILES - 1;
	put_message(&msg, "PIECE-files");
	put_longest_place();
}

/* The forms of the daemon's messages that the samples do not have. */
static void put_other_forms(void)
{
	struct ip_message msg;

	th_sample(IP_ATTACH, &msg);
	msg.minor = IP_MINOR_DAEMON;
	put_message(&msg, "ATTACH-older-minor");
	th_sample(IP_HELD, &msg);
	msg.body.list.count = 0;
	put_message(&msg, "HELD-empty");
	th_sample(IP_BEGIN, &msg);
	msg.body.begin.segments = msg.body.begin.clients = 0;
	msg.fd_count = 1;
	put_message(&msg, "BEGIN-without-pool");
	th_sample(IP_PIECE, &msg);
	msg.body.piece.kind = IP_PIECE_END;
	msg.body.piece.count = msg.fd_count = 0;
	put_message(&msg, "PIECE-end");
	th_sample(IP_NEED, &msg);
	msg.minor = IP_MINOR_CONTEXTS;
	put_message(&msg, "NEED-older-minor");
	th_sample(IP_NEED, &msg);
	msg.body.need = (struct ip_need){ 4, 3, 1, IP_NEED_EXPORT };
	put_message(&msg, "NEED-export");
	put_outside();
	put_models();
	put_longest_list(IP_GRANT);
	put_longest_list(IP_GIVE);
}

int main(int argc, char **argv)
{
	checking = argc == 3 && strcmp(argv[1], "--check") == 0;
	if (argc != 2 && !checking) {
		fprintf(stderr, "usage: %s [--check] FOLDER\n", argv[0]);
		return EXIT_FAILURE;
	}
	folder = argv[argc - 1];
	for (size_t i = 0; i < TH_TYPES; i++)
		put_type(th_types[i]);
	put_legacy_offer();
	put_long_refusal();
	put_other_forms();
	return EXIT_SUCCESS;
}
