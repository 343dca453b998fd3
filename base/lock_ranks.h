/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every lock of the project, outermost first: a thread that holds one takes
 * only locks of a later line. Debug builds check it (base/lock.c).
 *
 * LOCK(rank, what it guards)
 */
LOCK(BS_RANK_PRELOAD, "preload: who attaches; contexts, captures, CUDA's pools")
LOCK(BS_RANK_PROCESS, "lib: the process's list of pools")
LOCK(BS_RANK_LEASE, "lib: the talk of one attached pool with the daemon")
LOCK(BS_RANK_MODELS, "lib: who uses which model of one attached pool")
LOCK(BS_RANK_POOL, "lib: segments and inserted ranges of one pool")
LOCK(BS_RANK_AL_MOVERS, "allocator: how many threads have memory in hand")
LOCK(BS_RANK_AL_SHARD, "allocator: the pages of one shard")
LOCK(BS_RANK_AL_ROOM, "allocator: free ranges and large blocks")
LOCK(BS_RANK_AL_PEAK, "allocator: the peak and who may reach it")
LOCK(BS_RANK_GPU_JOBS, "poold: what the GPU's thread is to do and has done")
LOCK(BS_RANK_HOSTS, "poold: which models are being read")
LOCK(BS_RANK_LOADER, "poold: what the loader's threads are to do and have done")
LOCK(BS_RANK_DEVICE, "device: the process's driver and device handles")
LOCK(BS_RANK_LEDGER, "preload: what the driver gave beside the pool")
LOCK(BS_RANK_TEST, "tests: the reference of a model-based test")
