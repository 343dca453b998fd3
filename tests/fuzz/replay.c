/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Runs a fuzz target where libFuzzer is not to be had, with the same words:
 *
 *   fuzz_NAME [-runs=N] [-seed=S] [FILE | FOLDER]...
 *
 * First every file as it is, then N inputs made of them by random changes.
 * The same seed makes the same inputs. The input that crashes the target is
 * left in ./crash-input.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INPUT_MAX (64 * 1024)
#define CORPUS_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint8_t *data;
	size_t size;
};

static struct input corpus[CORPUS_MAX];
static size_t corpus_count;

/* The input under test, for the signal handler. */
static uint8_t current[INPUT_MAX];
static size_t current_size;

static uint64_t random_state = 1;

/* xorshift64*: good enough to choose bytes. */
static uint64_t random_next(void)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return random_state * 0x2545f4914f6cdd1du;
}

/* pre: limit is not 0. */
static size_t random_below(size_t limit)
{
	return (size_t)(random_next() % limit);
}

static void keep_crash(int signal)
{
	int fd = open("crash-input", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	ssize_t written = write(fd, current, current_size);

	(void)written;
	close(fd);
	raise(signal); /* SA_RESETHAND: ends the process now */
}

static void catch_crashes(void)
{
	const int signals[] = { SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
	struct sigaction action = { .sa_handler = keep_crash };
	size_t i;

	action.sa_flags = (int)SA_RESETHAND | SA_NODEFER;
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &action, NULL);
}

static void add_file(const char *path)
{
	FILE *file = fopen(path, "rbe");
	struct input input;

	if (file == NULL || corpus_count == CORPUS_MAX) {
		fprintf(stderr, "replay: cannot take %s\n", path);
		exit(EXIT_FAILURE);
	}
	input.data = malloc(INPUT_MAX);
	if (input.data == NULL)
		abort();
	input.size = fread(input.data, 1, INPUT_MAX, file);
	fclose(file);
	corpus[corpus_count++] = input;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void add_folder(const char *folder)
{
	struct dirent **entries;
	char path[4096];
	int i, count;

	count = scandir(folder, &entries, is_visible, by_name);
	for (i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder,
			 entries[i]->d_name);
		add_file(path);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

static void add(const char *path)
{
	struct stat info;

	if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
		add_folder(path);
	else
		add_file(path);
}

static void overwrite(size_t width)
{
	static const uint64_t values[] = {
		0,          1,          0x7f,       0x80,
		0xff,       0x7fff,     0xffff,     0x7fffffff,
		0x80000000, 0xffffffff, UINT64_MAX, INT64_MAX,
	};
	uint64_t value = values[random_below(sizeof(values) / sizeof(*values))];

	if (current_size < width)
		return;
	memcpy(current + random_below(current_size - width + 1), &value, width);
}

static void cut(void)
{
	size_t at, length;

	if (current_size == 0)
		return;
	at = random_below(current_size);
	length = 1 + random_below(current_size - at);
	memmove(current + at, current + at + length,
		current_size - at - length);
	current_size -= length;
}

/* A piece of some corpus input goes in at a random place. */
static void insert(void)
{
	const struct input *from = &corpus[random_below(corpus_count)];
	size_t at = random_below(current_size + 1);
	size_t start, length;

	if (from->size == 0)
		return;
	start = random_below(from->size);
	length = 1 + random_below(from->size - start);
	if (length > INPUT_MAX - current_size)
		return;
	memmove(current + at + length, current + at, current_size - at);
	memcpy(current + at, from->data + start, length);
	current_size += length;
}

static void change(void)
{
	size_t at;

	switch (random_below(8)) {
	case 0:
		cut();
		break;
	case 1:
		insert();
		break;
	case 2:
		current_size = random_below(current_size + 1);
		break;
	case 3:
		overwrite(8);
		break;
	case 4:
		overwrite(4);
		break;
	case 5:
		overwrite(1);
		break;
	default:
		if (current_size == 0)
			break;
		at = random_below(current_size);
		current[at] ^= (uint8_t)(1u << random_below(8));
		break;
	}
}

static void take(const struct input *input)
{
	memcpy(current, input->data, input->size);
	current_size = input->size;
}

/* In a block of its own size, so that a checker sees reads beyond its end. */
static void test_current(void)
{
	uint8_t *copy = malloc(current_size > 0 ? current_size : 1);

	if (copy == NULL)
		abort();
	memcpy(copy, current, current_size);
	LLVMFuzzerTestOneInput(copy, current_size);
	free(copy);
}

static void run_corpus(void)
{
	size_t i;

	for (i = 0; i < corpus_count; i++) {
		take(&corpus[i]);
		test_current();
	}
}

static void run_changed(unsigned long runs)
{
	size_t changes;

	for (; runs > 0; runs--) {
		take(&corpus[random_below(corpus_count)]);
		for (changes = 1 + random_below(6); changes > 0; changes--)
			change();
		test_current();
	}
}

int main(int argc, char **argv)
{
	static uint8_t nothing[1];
	unsigned long runs = 0, seed = 1;
	int i;

	/* Other options are libFuzzer's. */
	for (i = 1; i < argc; i++)
		if (sscanf(argv[i], "-runs=%lu", &runs) != 1 &&
		    sscanf(argv[i], "-seed=%lu", &seed) != 1 &&
		    argv[i][0] != '-')
			add(argv[i]);
	if (corpus_count == 0)
		corpus[corpus_count++] = (struct input){ nothing, 0 };
	random_state = seed * 0x9e3779b97f4a7c15u | 1;
	catch_crashes();
	run_corpus();
	run_changed(runs);
	printf("%zu inputs as they are, %lu changed, seed %lu: no crash\n",
	       corpus_count, runs, seed);
	return EXIT_SUCCESS;
}
