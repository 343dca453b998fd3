/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What moves bytes: copies, fills, and the values that streams wait for. */
#include "device/sim/address.h"
#include "device/sim/entry.h"
#include "device/sim/work.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Work holds the address lock for no longer than this takes. */
#define PIECE_BYTES (1u << 20)

/* Whoever writes a value wakes those who wait for it; what a kernel or a copy
 * writes is seen at the next look. */
#define LOOK_NANOSECONDS 200000

static pthread_once_t bandwidth_once = PTHREAD_ONCE_INIT;
static const char *bandwidth_file; /* NULL: it is fixed */
static uint64_t bytes_a_second;    /* 0: as fast as it goes */

struct transfer {
	struct sim_op op;
	uint64_t dst;
	uint64_t src; /* of a copy */
	uint64_t bytes;
	bool is_dst_device;
	bool is_src_device;
	unsigned int value; /* of a fill... */
	unsigned int unit;  /* ...with items of 1 or 4 bytes; 0: a copy */
};

struct value_op {
	struct sim_op op;
	uint64_t address;
	uint32_t value;
	unsigned int flags;
};

/*
 * The simulated GPU's own hands on memory: in assembly, because no sanitizer
 * should look for races in what real hardware would touch.
 */
static void move_bytes(uint64_t dst, uint64_t src, uint64_t bytes)
{
	__asm__ volatile("rep movsb"
			 : "+D"(dst), "+S"(src), "+c"(bytes)
			 :
			 : "memory");
}

static void fill_bytes(uint64_t dst, unsigned char value, uint64_t count)
{
	__asm__ volatile("rep stosb"
			 : "+D"(dst), "+c"(count)
			 : "a"(value)
			 : "memory");
}

static void fill_words(uint64_t dst, unsigned int value, uint64_t count)
{
	__asm__ volatile("rep stosl"
			 : "+D"(dst), "+c"(count)
			 : "a"(value)
			 : "memory");
}

static uint32_t load_word(uint64_t address)
{
	uint32_t value;

	__asm__ volatile("movl (%1), %0"
			 : "=r"(value)
			 : "r"(address)
			 : "memory");
	return value;
}

static void store_word(uint64_t address, uint32_t value)
{
	__asm__ volatile("xchgl %0, (%1)"
			 : "+r"(value)
			 : "r"(address)
			 : "memory");
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* With a unit: of bytes a second. */
static uint64_t rate_of(uint64_t value)
{
	return value < 1024 ? value * 1000000000u : value;
}

static void read_bandwidth(void)
{
	const char *text = getenv("POOLSWITCH_SIM_BANDWIDTH");

	bandwidth_file = text && text[0] == '/' ? text : NULL;
	if (!bandwidth_file)
		bytes_a_second =
			rate_of(sim_setting("POOLSWITCH_SIM_BANDWIDTH", 0));
}

/* 0: as fast as it goes. What the file says is asked for each time. */
static uint64_t bandwidth(void)
{
	char text[32] = "";
	FILE *file;

	pthread_once(&bandwidth_once, read_bandwidth);
	if (!bandwidth_file)
		return bytes_a_second;
	file = fopen(bandwidth_file, "re");
	if (!file)
		return 0;
	if (!fgets(text, sizeof(text), file))
		text[0] = '\0';
	fclose(file);
	return rate_of(sim_number(text));
}

/* Returns no earlier than the configured bandwidth allows. */
static void take_time(uint64_t start, uint64_t bytes)
{
	const uint64_t rate = bandwidth();
	struct timespec until;
	uint64_t end;

	if (!rate)
		return;
	end = start + (uint64_t)((double)bytes * 1e9 / (double)rate);
	until.tv_sec = (time_t)(end / 1000000000u);
	until.tv_nsec = (long)(end % 1000000000u);
	while (!sim_work_is_ending() && now() < end)
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static bool enter_both(const struct transfer *transfer, uint64_t at,
		       uint64_t bytes)
{
	if (transfer->is_src_device &&
	    !sim_address_allows(transfer->src + at, bytes, false))
		return false;
	if (transfer->is_dst_device)
		return sim_address_enter(transfer->dst + at, bytes, true);
	return sim_address_enter(transfer->src + at, bytes, false);
}

static void do_piece(const struct transfer *transfer, uint64_t at,
		     uint64_t bytes)
{
	if (transfer->unit == 1)
		fill_bytes(transfer->dst + at, (unsigned char)transfer->value,
			   bytes);
	else if (transfer->unit == 4)
		fill_words(transfer->dst + at, transfer->value, bytes / 4);
	else
		move_bytes(transfer->dst + at, transfer->src + at, bytes);
}

/* In pieces: memory may be unmapped under it, which ends it with an error. */
static CUresult run_transfer(struct sim_op *op)
{
	const struct transfer *transfer = (const struct transfer *)op;
	uint64_t start = now();
	uint64_t bytes;
	uint64_t at;

	for (at = 0; at < transfer->bytes; at += bytes) {
		bytes = transfer->bytes - at;
		if (bytes > PIECE_BYTES)
			bytes = PIECE_BYTES;
		if (!enter_both(transfer, at, bytes))
			return CUDA_ERROR_ILLEGAL_ADDRESS;
		do_piece(transfer, at, bytes);
		sim_address_leave();
	}
	take_time(start, transfer->bytes);
	return CUDA_SUCCESS;
}

/* What the driver refuses at the call. */
static bool is_allowed(const struct transfer *transfer)
{
	if (transfer->is_dst_device &&
	    !sim_address_allows(transfer->dst, transfer->bytes, true))
		return false;
	return !transfer->is_src_device ||
	       sim_address_allows(transfer->src, transfer->bytes, false);
}

static CUresult submit_transfer(const struct transfer *wanted, CUstream stream,
				bool is_waited_for)
{
	struct transfer *transfer;
	struct sim_op op;

	if (wanted->bytes == 0)
		return CUDA_SUCCESS;
	if (!is_allowed(wanted))
		return CUDA_ERROR_INVALID_VALUE;
	transfer = sim_op_new(sizeof(*transfer), run_transfer);
	if (!transfer)
		return CUDA_ERROR_OUT_OF_MEMORY;
	op = transfer->op;
	*transfer = *wanted;
	transfer->op = op;
	return is_waited_for ? sim_submit_and_wait(stream, &transfer->op)
			     : sim_submit(stream, &transfer->op);
}

static struct transfer host_to_device(CUdeviceptr dst, const void *src,
				      size_t bytes)
{
	return (struct transfer){ .dst = dst,
				  .src = (uint64_t)src,
				  .bytes = bytes,
				  .is_dst_device = true };
}

static struct transfer device_to_host(void *dst, CUdeviceptr src, size_t bytes)
{
	return (struct transfer){ .dst = (uint64_t)dst,
				  .src = src,
				  .bytes = bytes,
				  .is_src_device = true };
}

static struct transfer device_to_device(CUdeviceptr dst, CUdeviceptr src,
					size_t bytes)
{
	return (struct transfer){ .dst = dst,
				  .src = src,
				  .bytes = bytes,
				  .is_dst_device = true,
				  .is_src_device = true };
}

static struct transfer fill(CUdeviceptr dst, unsigned int value,
			    unsigned int unit, size_t count)
{
	return (struct transfer){ .dst = dst,
				  .bytes = count * unit,
				  .is_dst_device = true,
				  .value = value,
				  .unit = unit };
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr dst, const void *src, size_t bytes)
{
	struct transfer transfer = host_to_device(dst, src, bytes);

	ENTER_CONTEXT(cuMemcpyHtoD_v2);
	return submit_transfer(&transfer, NULL, true);
}

CUresult cuMemcpyDtoH_v2(void *dst, CUdeviceptr src, size_t bytes)
{
	struct transfer transfer = device_to_host(dst, src, bytes);

	ENTER_CONTEXT(cuMemcpyDtoH_v2);
	return submit_transfer(&transfer, NULL, true);
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr dst, CUdeviceptr src, size_t bytes)
{
	struct transfer transfer = device_to_device(dst, src, bytes);

	ENTER_CONTEXT(cuMemcpyDtoD_v2);
	return submit_transfer(&transfer, NULL, true);
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr dst, const void *src, size_t bytes,
			      CUstream stream)
{
	struct transfer transfer = host_to_device(dst, src, bytes);

	ENTER_CONTEXT(cuMemcpyHtoDAsync_v2);
	return submit_transfer(&transfer, stream, false);
}

/* A copy that runs into host memory which is not pinned blocks the caller. */
static bool is_copy_waited_for(const void *dst, CUstream stream)
{
	CUstreamCaptureStatus capture = CU_STREAM_CAPTURE_STATUS_NONE;
	struct sim_mapping pinned;

	return !sim_address_find((uint64_t)dst, &pinned) &&
	       sim_capture_status(stream, &capture) == CUDA_SUCCESS &&
	       capture == CU_STREAM_CAPTURE_STATUS_NONE;
}

CUresult cuMemcpyDtoHAsync_v2(void *dst, CUdeviceptr src, size_t bytes,
			      CUstream stream)
{
	struct transfer transfer = device_to_host(dst, src, bytes);

	ENTER_CONTEXT(cuMemcpyDtoHAsync_v2);
	return submit_transfer(&transfer, stream,
			       is_copy_waited_for(dst, stream));
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr dst, CUdeviceptr src, size_t bytes,
			      CUstream stream)
{
	struct transfer transfer = device_to_device(dst, src, bytes);

	ENTER_CONTEXT(cuMemcpyDtoDAsync_v2);
	return submit_transfer(&transfer, stream, false);
}

CUresult cuMemsetD8_v2(CUdeviceptr dst, unsigned char value, size_t count)
{
	struct transfer transfer = fill(dst, value, 1, count);

	ENTER_CONTEXT(cuMemsetD8_v2);
	return submit_transfer(&transfer, NULL, true);
}

CUresult cuMemsetD32_v2(CUdeviceptr dst, unsigned int value, size_t count)
{
	struct transfer transfer = fill(dst, value, 4, count);

	ENTER_CONTEXT(cuMemsetD32_v2);
	return submit_transfer(&transfer, NULL, true);
}

CUresult cuMemsetD8Async(CUdeviceptr dst, unsigned char value, size_t count,
			 CUstream stream)
{
	struct transfer transfer = fill(dst, value, 1, count);

	ENTER_CONTEXT(cuMemsetD8Async);
	return submit_transfer(&transfer, stream, false);
}

CUresult cuMemsetD32Async(CUdeviceptr dst, unsigned int value, size_t count,
			  CUstream stream)
{
	struct transfer transfer = fill(dst, value, 4, count);

	ENTER_CONTEXT(cuMemsetD32Async);
	return submit_transfer(&transfer, stream, false);
}

/* ---- values ---- */

static bool is_met(uint32_t now_there, const struct value_op *wait)
{
	switch (wait->flags) {
	case CU_STREAM_WAIT_VALUE_GEQ:
		return (int32_t)(now_there - wait->value) >= 0;
	case CU_STREAM_WAIT_VALUE_EQ:
		return now_there == wait->value;
	case CU_STREAM_WAIT_VALUE_AND:
		return (now_there & wait->value) != 0;
	default:
		return ~(now_there | wait->value) != 0;
	}
}

static CUresult run_wait(struct sim_op *op)
{
	const struct value_op *wait = (const struct value_op *)op;
	const struct timespec until_look = { 0, LOOK_NANOSECONDS };
	uint32_t there;

	while (!sim_work_is_ending()) {
		if (!sim_address_enter(wait->address, 4, false))
			return CUDA_ERROR_ILLEGAL_ADDRESS;
		there = load_word(wait->address);
		sim_address_leave();
		if (is_met(there, wait))
			break;
		syscall(SYS_futex, wait->address, FUTEX_WAIT, there,
			&until_look, NULL, 0);
	}
	return CUDA_SUCCESS;
}

static CUresult run_write(struct sim_op *op)
{
	const struct value_op *write = (const struct value_op *)op;

	if (!sim_address_enter(write->address, 4, true))
		return CUDA_ERROR_ILLEGAL_ADDRESS;
	store_word(write->address, write->value);
	sim_address_leave();
	syscall(SYS_futex, write->address, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
	return CUDA_SUCCESS;
}

static CUresult submit_value(CUstream stream,
			     CUresult (*run)(struct sim_op *op),
			     uint64_t address, uint32_t value,
			     unsigned int flags)
{
	struct value_op *op;

	if (address % 4 != 0 ||
	    !sim_address_allows(address, 4, run == run_write))
		return CUDA_ERROR_INVALID_VALUE;
	op = sim_op_new(sizeof(*op), run);
	if (!op)
		return CUDA_ERROR_OUT_OF_MEMORY;
	op->address = address;
	op->value = value;
	op->flags = flags;
	return sim_submit(stream, &op->op);
}

CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr address,
				cuuint32_t value, unsigned int flags)
{
	ENTER_CONTEXT(cuStreamWaitValue32_v2);
	if (flags > CU_STREAM_WAIT_VALUE_NOR)
		return CUDA_ERROR_INVALID_VALUE;
	return submit_value(stream, run_wait, address, value, flags);
}

CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr address,
				 cuuint32_t value, unsigned int flags)
{
	ENTER_CONTEXT(cuStreamWriteValue32_v2);
	if (flags != CU_STREAM_WRITE_VALUE_DEFAULT)
		return CUDA_ERROR_INVALID_VALUE;
	return submit_value(stream, run_write, address, value, flags);
}
