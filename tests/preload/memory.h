/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the programs do with memory that they have, and with each other. */
#ifndef TESTS_PRELOAD_MEMORY_H
#define TESTS_PRELOAD_MEMORY_H

#include "tests/preload/program.h"

#include <sys/types.h>

/* Words that tell whose they are and where; the second fails the program at
 * the first that is another. */
void th_fill(CUdeviceptr at, size_t bytes, uint32_t seed);
void th_check_filled(CUdeviceptr at, size_t bytes, uint32_t seed);

/* Whether it can be shared by a legacy handle: the pool's memory cannot. */
bool th_is_legacy(CUdeviceptr address);

/*
 * Forks a process that runs @run with a socket to this one; returns the other
 * end. pre: no CUDA here yet. It dies with this one.
 */
int th_peer_start(void (*run)(int link), pid_t *pid_out);
void th_peer_send(int link, const void *data, size_t bytes);
void th_peer_receive(int link, void *data, size_t bytes);
/* A byte and nothing more. */
void th_peer_tell(int link);
void th_peer_await(int link);
void th_peer_send_fd(int link, int fd);
int th_peer_receive_fd(int link);
/* Waits for the peer's end; it must have ended with 0. */
void th_peer_finish(pid_t pid);

#endif /* TESTS_PRELOAD_MEMORY_H */
