/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What the project relies on in the driver: words in GPU memory that say how
 * far a copy is, and streams and graphs that wait for them. On a real GPU and
 * on the simulated one.
 */
#include "tests/support/gpu.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SEGMENT TH_SEGMENT_BYTES
#define VALUE 0x5eedu

static void wait_for(const struct th_gpu *gpu, CUstream stream,
		     CUdeviceptr address, uint32_t least)
{
	th_cu(gpu->driver->cuStreamWaitValue32_v2(stream, address, least,
						  CU_STREAM_WAIT_VALUE_GEQ));
}

static void write_word(const struct th_gpu *gpu, CUstream stream,
		       CUdeviceptr address, uint32_t word)
{
	th_cu(gpu->driver->cuStreamWriteValue32_v2(
		stream, address, word, CU_STREAM_WRITE_VALUE_DEFAULT));
}

/* A word that is there for other processes and other streams too. */
static void put_settled(const struct th_gpu *gpu, CUdeviceptr address,
			uint32_t word)
{
	th_gpu_put(gpu, address, word);
	th_cu(gpu->driver->cuCtxSynchronize());
}

/* Pinned words. */
static uint32_t *new_words(const struct th_gpu *gpu, size_t count)
{
	void *words = NULL;

	th_cu(gpu->driver->cuMemHostAlloc(&words, count * sizeof(uint32_t),
					  CU_MEMHOSTALLOC_PORTABLE));
	memset(words, 0, count * sizeof(uint32_t));
	return words;
}

/* ---- a word behind a copy ---- */

#define COPIES 32u

/* Two words that streams wait for: so many copies have landed, so many of
 * them have been looked at. */
struct pipe_of_copies {
	CUdeviceptr data;
	CUdeviceptr landed;
	CUdeviceptr taken;
};

static struct pipe_of_copies new_pipe(const struct th_gpu *gpu)
{
	struct pipe_of_copies pipe = { .data = th_gpu_segment(gpu),
				       .landed = th_gpu_segment(gpu) };

	pipe.taken = pipe.landed + 64;
	put_settled(gpu, pipe.landed, 0);
	put_settled(gpu, pipe.taken, 0);
	return pipe;
}

/* The last word of each copy, as soon as it is said to be there. */
static void take_last_words(const struct th_gpu *gpu,
			    const struct pipe_of_copies *pipe, CUstream stream,
			    uint32_t *seen)
{
	for (uint32_t i = 0; i < COPIES; i++) {
		wait_for(gpu, stream, pipe->landed, i + 1);
		th_cu(gpu->driver->cuMemcpyDtoHAsync_v2(
			&seen[i], pipe->data + SEGMENT - 4, 4, stream));
		write_word(gpu, stream, pipe->taken, i + 1);
	}
}

/* Copies to the same place, each with its word. */
static void send_copies(const struct th_gpu *gpu,
			const struct pipe_of_copies *pipe, CUstream stream,
			uint32_t *words)
{
	for (uint32_t i = 0; i < COPIES; i++) {
		uint32_t *copy = words + i * (SEGMENT / 4);

		copy[SEGMENT / 4 - 1] = i + 1;
		wait_for(gpu, stream, pipe->taken, i);
		th_cu(gpu->driver->cuMemcpyHtoDAsync_v2(pipe->data, copy,
							SEGMENT, stream));
		write_word(gpu, stream, pipe->landed, i + 1);
	}
}

static void test_word_behind_a_copy_is_behind_all_of_it(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	struct pipe_of_copies pipe;
	CUstream reader;
	uint32_t *seen;

	(void)state;
	if (!gpu)
		return;
	pipe = new_pipe(gpu);
	seen = new_words(gpu, COPIES);
	reader = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	take_last_words(gpu, &pipe, reader, seen);
	send_copies(gpu, &pipe, th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING),
		    new_words(gpu, COPIES * SEGMENT / 4));
	th_cu(gpu->driver->cuStreamSynchronize(reader));
	for (uint32_t i = 0; i < COPIES; i++)
		assert_int_equal(seen[i], i + 1);
	th_gpu_exit();
}

/* ---- waits in graphs ---- */

/* A graph that takes a word of @data as soon as the counter is @least. */
static CUgraphExec capture_wait(const struct th_gpu *gpu, CUdeviceptr counter,
				uint32_t least, CUdeviceptr data,
				CUdeviceptr taken)
{
	CUstream stream = th_gpu_capture(gpu, CU_STREAM_NON_BLOCKING);
	CUgraphExec exec;
	CUgraph graph;

	wait_for(gpu, stream, counter, least);
	th_cu(gpu->driver->cuMemcpyDtoDAsync_v2(taken, data, 4, stream));
	th_cu(gpu->driver->cuStreamEndCapture(stream, &graph));
	th_cu(gpu->driver->cuGraphInstantiateWithFlags(&exec, graph, 0));
	th_cu(gpu->driver->cuGraphDestroy(graph));
	return exec;
}

/* The launch waits; what it takes is what was there when the word came. */
static void check_launch(const struct th_gpu *gpu, CUgraphExec exec,
			 CUdeviceptr memory, uint32_t value)
{
	CUstream loader = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);

	th_cu(gpu->driver->cuGraphLaunch(exec, stream));
	th_gpu_assert_busy(gpu, stream);
	th_cu(gpu->driver->cuMemsetD32Async(memory + 64, value, 1, loader));
	write_word(gpu, loader, memory, 3);
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(th_gpu_get(gpu, memory + 128), value);
}

static void test_wait_in_a_graph_holds_at_each_launch(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr memory;
	CUgraphExec exec;

	(void)state;
	if (!gpu)
		return;
	memory = th_gpu_segment(gpu);
	put_settled(gpu, memory, 0);
	exec = capture_wait(gpu, memory, 3, memory + 64, memory + 128);
	check_launch(gpu, exec, memory, 11);
	/* Evicted, and loaded again. */
	put_settled(gpu, memory, 0);
	check_launch(gpu, exec, memory, 12);
	th_cu(gpu->driver->cuGraphExecDestroy(exec));
	th_gpu_exit();
}

static void test_wait_in_a_graph_passes_where_the_word_is(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr memory;
	CUgraphExec exec;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	memory = th_gpu_segment(gpu);
	put_settled(gpu, memory, 3);
	put_settled(gpu, memory + 64, 21);
	exec = capture_wait(gpu, memory, 3, memory + 64, memory + 128);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	for (int i = 0; i < 3; i++)
		th_cu(gpu->driver->cuGraphLaunch(exec, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(th_gpu_get(gpu, memory + 128), 21);
	th_gpu_exit();
}

/* As when a model has other memory after it was loaded again. */
static void test_wait_in_a_graph_finds_other_memory_there(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr memory, data;
	CUgraphExec exec;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	memory = th_gpu_segment(gpu);
	data = th_gpu_segment(gpu);
	put_settled(gpu, memory, 1);
	put_settled(gpu, data, 31);
	exec = capture_wait(gpu, memory, 1, data, memory + 128);
	th_cu(gpu->driver->cuMemUnmap(data, SEGMENT));
	th_cu(gpu->driver->cuMemMap(data, SEGMENT, 0, th_gpu_create(gpu), 0));
	th_cu(gpu->driver->cuMemSetAccess(data, SEGMENT, &gpu->writable, 1));
	put_settled(gpu, data, 32);
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuGraphLaunch(exec, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(th_gpu_get(gpu, memory + 128), 32);
	th_gpu_exit();
}

/* ---- between processes, read-only ---- */

static void write_for_other(const struct th_gpu *gpu, int socket)
{
	CUmemGenericAllocationHandle handle = th_gpu_create(gpu);
	CUdeviceptr board = th_gpu_map(gpu, handle, &gpu->writable);
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);

	put_settled(gpu, board, 0);
	put_settled(gpu, board + 64, 0);
	th_gpu_send_fd(socket, th_gpu_export(gpu, handle));
	for (uint32_t i = 1; i <= 2; i++) {
		th_gpu_await(socket);
		th_cu(gpu->driver->cuMemsetD32Async(board + 64, VALUE + i, 1,
						    stream));
		write_word(gpu, stream, board, i);
		th_cu(gpu->driver->cuStreamSynchronize(stream));
	}
	th_gpu_await(socket);
}

static CUdeviceptr take_read_only(const struct th_gpu *gpu, int socket)
{
	return th_gpu_map(gpu, th_gpu_import(gpu, th_gpu_receive_fd(socket)),
			  &gpu->readable);
}

static void wait_in_other(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr board = take_read_only(gpu, socket);
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	uint32_t *seen = new_words(gpu, 2);

	for (uint32_t i = 1; i <= 2; i++) {
		wait_for(gpu, stream, board, i);
		th_cu(gpu->driver->cuMemcpyDtoHAsync_v2(&seen[i - 1],
							board + 64, 4, stream));
		th_gpu_assert_busy(gpu, stream);
		th_gpu_tell(socket);
		th_cu(gpu->driver->cuStreamSynchronize(stream));
		assert_int_equal(seen[i - 1], VALUE + i);
	}
	th_gpu_tell(socket);
}

static void test_read_only_word_of_another_process_is_waited_for(void **state)
{
	(void)state;
	th_gpu_pair(write_for_other, wait_in_other);
}

static void launch_in_other(const struct th_gpu *gpu, int socket)
{
	CUdeviceptr board = take_read_only(gpu, socket);
	CUdeviceptr taken = th_gpu_segment(gpu);
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);

	for (uint32_t i = 1; i <= 2; i++) {
		th_cu(gpu->driver->cuGraphLaunch(
			capture_wait(gpu, board, i, board + 64, taken),
			stream));
		th_gpu_assert_busy(gpu, stream);
		th_gpu_tell(socket);
		th_cu(gpu->driver->cuStreamSynchronize(stream));
		assert_int_equal(th_gpu_get(gpu, taken), VALUE + i);
	}
	th_gpu_tell(socket);
}

static void test_read_only_word_is_waited_for_in_a_graph(void **state)
{
	(void)state;
	th_gpu_pair(write_for_other, launch_in_other);
}

static void test_read_only_word_cannot_be_written(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUdeviceptr board;

	(void)state;
	if (!gpu)
		return;
	board = th_gpu_map(gpu, th_gpu_create(gpu), &gpu->readable);
	th_cu_fails(gpu->driver->cuStreamWriteValue32_v2(
		th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING), board, 1, 0));
	th_gpu_exit();
}

/* ---- many streams ---- */

#define STREAMS 64

/* Code is loaded before the first wait, or it waits too. */
static CUfunction make_streams(const struct th_gpu *gpu, CUstream *streams,
			       CUdeviceptr memory)
{
	CUfunction poke = th_gpu_poke(gpu);

	for (int i = 0; i < STREAMS; i++) {
		streams[i] = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
		th_gpu_launch_poke(gpu, poke, streams[i],
				   memory + 64 * (uint64_t)i, 0);
	}
	th_cu(gpu->driver->cuCtxSynchronize());
	return poke;
}

/* One waits; a kernel on each of the others is done all the same. */
static void test_streams_pass_one_that_waits(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	CUstream streams[STREAMS];
	CUdeviceptr memory;
	CUfunction poke;

	(void)state;
	if (!gpu)
		return;
	memory = th_gpu_segment(gpu);
	poke = make_streams(gpu, streams, memory);
	wait_for(gpu, streams[0], memory, 1);
	for (uint32_t i = 1; i < STREAMS; i++)
		th_gpu_launch_poke(gpu, poke, streams[i], memory + 64 * i, i);
	for (int i = 1; i < STREAMS; i++)
		th_cu(gpu->driver->cuStreamSynchronize(streams[i]));
	th_gpu_assert_busy(gpu, streams[0]);
	write_word(gpu, streams[1], memory, 1);
	th_cu(gpu->driver->cuStreamSynchronize(streams[0]));
	th_gpu_exit();
}

/* ---- streams and time ---- */

static void test_urgent_stream_can_be_had(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	int least = 1, greatest = 1;
	CUdeviceptr memory;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	th_cu(gpu->driver->cuCtxGetStreamPriorityRange(&least, &greatest));
	assert_true(greatest <= least);
	th_cu(gpu->driver->cuCtxGetStreamPriorityRange(NULL, &greatest));
	th_cu(gpu->driver->cuStreamCreateWithPriority(
		&stream, CU_STREAM_NON_BLOCKING, greatest));
	memory = th_gpu_segment(gpu);
	write_word(gpu, stream, memory, VALUE);
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(th_gpu_get(gpu, memory), VALUE);
	th_gpu_exit();
}

static void test_time_between_events_is_that_of_the_stream(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();
	float milliseconds = 0;
	CUevent from, to;
	CUstream stream;

	(void)state;
	if (!gpu)
		return;
	stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	th_cu(gpu->driver->cuEventCreate(&from, CU_EVENT_DEFAULT));
	th_cu(gpu->driver->cuEventCreate(&to, CU_EVENT_DEFAULT));
	th_cu(gpu->driver->cuEventRecord(from, stream));
	th_cu(gpu->driver->cuEventSynchronize(from));
	th_gpu_block(gpu, stream);
	th_cu(gpu->driver->cuEventRecord(to, stream));
	th_gpu_assert_busy(gpu, stream);
	th_gpu_unblock(gpu);
	th_cu(gpu->driver->cuEventSynchronize(to));
	th_cu(gpu->driver->cuEventElapsedTime(&milliseconds, from, to));
	assert_true(milliseconds > TH_NOT_HAPPENING_MS / 2);
	th_gpu_exit();
}

/* ---- host memory that was given to the driver ---- */

static void check_registered(const struct th_gpu *gpu, int protection,
			     unsigned int flags)
{
	CUstream stream = th_gpu_stream(gpu, CU_STREAM_NON_BLOCKING);
	CUdeviceptr memory = th_gpu_segment(gpu);
	int fd = memfd_create("copy", MFD_CLOEXEC);
	const uint32_t value = VALUE;
	void *copy;

	assert_int_equal(ftruncate(fd, (off_t)SEGMENT), 0);
	assert_int_equal(pwrite(fd, &value, 4, (off_t)SEGMENT - 4), 4);
	copy = mmap(NULL, SEGMENT, protection, MAP_SHARED, fd, 0);
	assert_true(copy != MAP_FAILED);
	th_cu(gpu->driver->cuMemHostRegister_v2(
		copy, SEGMENT, CU_MEMHOSTREGISTER_PORTABLE | flags));
	th_cu_is(gpu->driver->cuMemHostRegister_v2(
			 copy, SEGMENT, CU_MEMHOSTREGISTER_PORTABLE | flags),
		 CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
	th_cu(gpu->driver->cuMemcpyHtoDAsync_v2(memory, copy, SEGMENT, stream));
	th_cu(gpu->driver->cuStreamSynchronize(stream));
	assert_int_equal(th_gpu_get(gpu, memory + SEGMENT - 4), VALUE);
	th_cu(gpu->driver->cuMemHostUnregister(copy));
	th_cu_is(gpu->driver->cuMemHostUnregister(copy),
		 CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
	munmap(copy, SEGMENT);
	close(fd);
}

static void test_memfd_can_be_registered(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	check_registered(gpu, PROT_READ | PROT_WRITE, 0);
	th_gpu_exit();
}

static void test_read_only_mapping_can_be_registered(void **state)
{
	const struct th_gpu *gpu = th_gpu_child();

	(void)state;
	if (!gpu)
		return;
	check_registered(gpu, PROT_READ, CU_MEMHOSTREGISTER_READ_ONLY);
	th_gpu_exit();
}

static const struct th_test tests[] = {
	TH_TEST(test_word_behind_a_copy_is_behind_all_of_it),
	TH_TEST(test_wait_in_a_graph_holds_at_each_launch),
	TH_TEST(test_wait_in_a_graph_passes_where_the_word_is),
	TH_TEST(test_wait_in_a_graph_finds_other_memory_there),
	TH_TEST(test_read_only_word_of_another_process_is_waited_for),
	TH_TEST(test_read_only_word_is_waited_for_in_a_graph),
	TH_TEST(test_read_only_word_cannot_be_written),
	TH_TEST(test_streams_pass_one_that_waits),
	TH_TEST(test_urgent_stream_can_be_had),
	TH_TEST(test_time_between_events_is_that_of_the_stream),
	TH_TEST(test_memfd_can_be_registered),
	TH_TEST(test_read_only_mapping_can_be_registered),
};

TH_MAIN("conformance_waits", tests)
