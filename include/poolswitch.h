/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * poolswitch: one pool of GPU memory, reserved once, shared by processes,
 * allocated from in nanoseconds.
 *
 * Words
 *   pool     the memory of one GPU, reserved once. Not one of CUDA's memory
 *            pools (cuMemPoolCreate), and not PyTorch's MemPool.
 *   segment  one physical allocation of the pool; the unit of sharing. All
 *            segments of a pool have the same size, a power of two.
 *   region   a run of segments: the *parameter* region (weights, at the start
 *            of the pool) or the *computation* region (the rest).
 *   window   the GPU addresses of the pool: the same in every process that
 *            has it, so a pointer into the pool means the same everywhere.
 *   offset   a distance in bytes from the start of the pool.
 *
 * Rules for every function
 *   Sizes and offsets are bytes. Outputs come last, end in _out, and are
 *   written only when the function returns PS_OK. Functions that can fail
 *   return an enum ps_status; ps_error_detail() then names the object, the
 *   numbers and the remedy. Every function may be called from any thread at
 *   any time unless its comment says otherwise. A stream is a CUstream or a
 *   cudaStream_t, passed as a void pointer; NULL is the legacy default stream
 *   and (void *)2 the calling thread's own (cudaStreamPerThread).
 *   Where a pool is asked for, NULL means the process's default pool: the one
 *   opened first of those still open.
 */
#ifndef POOLSWITCH_H
#define POOLSWITCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PS_VERSION_MAJOR 0
#define PS_VERSION_MINOR 1
#define PS_VERSION_PATCH 0

#if defined(__GNUC__)
#define PS_API __attribute__((visibility("default")))
#define PS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define PS_API
#define PS_MUST_CHECK
#endif

/* ------------------------------------------------------------------ */
/* Status                                                              */

/**
 * enum ps_status - what a call came to
 *
 * The values are part of the ABI: new ones are added at the end.
 */
enum ps_status {
	PS_OK = 0,
	/* The caller's mistake. */
	PS_INVALID_ARGUMENT = 1, /* a size of zero, an unknown flag, overflow */
	PS_OUT_OF_RANGE = 2,     /* a range that is not inside the pool */
	PS_OVERLAP = 3,          /* a range that is inserted already */
	PS_BUSY = 4,             /* blocks are still allocated */
	PS_NOT_OURS = 5,         /* a pointer that this pool never gave out */
	PS_INTERIOR = 6,         /* a pointer into the middle of a block */
	PS_DOUBLE_FREE = 7,      /* a block that was freed before */
	PS_READ_ONLY = 8,        /* memory shared without write access */
	PS_FORKED = 9,           /* a child used a pool of its parent */
	/* Something ran out. */
	PS_OUT_OF_MEMORY = 10,    /* the ranges inserted here are used up */
	PS_DEVICE_MEMORY = 11,    /* the GPU has less free than was asked for */
	PS_HOST_MEMORY = 12,      /* the process has no host memory left */
	PS_FD_LIMIT = 13,         /* the limit of open files is too low */
	PS_WINDOW_TAKEN = 14,     /* the pool's addresses are in use here */
	PS_ALREADY_RESERVED = 15, /* another pool has this GPU */
	/* The other process. */
	PS_VERSION_MISMATCH = 16, /* the peer speaks another version */
	PS_WRONG_GPU = 17,        /* the pool's GPU is not visible here */
	PS_PROTOCOL = 18,         /* a message broke the protocol */
	PS_PEER_GONE = 19,        /* the peer closed or died */
	PS_TIMED_OUT = 20,        /* the peer did not answer in time */
	PS_REFUSED = 21,          /* the peer said no; the detail says why */
	PS_PERMISSION = 22,       /* the peer is not a user we share with */
	PS_BAD_SEGMENT = 23,      /* a file descriptor that is no segment */
	/* The machine. */
	PS_NO_DRIVER = 24,   /* no usable CUDA driver */
	PS_NO_DEVICE = 25,   /* no such GPU */
	PS_UNSUPPORTED = 26, /* this driver, GPU or mode cannot do it */
	PS_DEVICE_LOST = 27, /* the GPU failed; its contents are gone */
	PS_DRIVER = 28,      /* another error of the CUDA driver */
	PS_SYSTEM = 29,      /* another error of the operating system */
	PS_AGAIN = 30,       /* not yet; ask again */
	PS_NO_DAEMON = 31,   /* no poolswitchd answers at the sockets tried */
	/* Models. */
	PS_NO_MODEL = 32,       /* the daemon has no model of that name */
	PS_MODEL_MISMATCH = 33, /* another layout or other contents */
	PS_LOAD_FAILED = 34,    /* the weights did not arrive whole */
};

/**
 * ps_status_text() - what a status means
 * @status: any value, also one that this library does not know
 *
 * Return: a static English text, never NULL.
 */
PS_API const char *ps_status_text(enum ps_status status);

/**
 * ps_status_name() - the name of a status, such as "PS_OVERLAP"
 * @status: any value
 *
 * Return: a static text, never NULL; "PS_UNKNOWN" for a foreign value.
 */
PS_API const char *ps_status_name(enum ps_status status);

/**
 * ps_error_detail() - what went wrong, with names, numbers and the remedy
 *
 * Return: the text of the last failed call of the calling thread; "" when
 * none failed. It lives until the next failing call on this thread or the
 * thread's end; copy it to keep it.
 */
PS_API const char *ps_error_detail(void);

/**
 * ps_version() - the version of the library that is running
 *
 * Return: a static text such as "0.1.0".
 */
PS_API const char *ps_version(void);

/* ------------------------------------------------------------------ */
/* What to reserve                                                     */

/** enum ps_region - the two parts of a pool */
enum ps_region {
	PS_REGION_PARAMETER = 0,   /* at the start of the pool */
	PS_REGION_COMPUTATION = 1, /* from there to its end */
};

/** enum ps_share_mode - how the pool's memory travels between processes */
enum ps_share_mode {
	/* Segments as file descriptors: read-only where wanted, the same
	 * addresses everywhere. The default. */
	PS_SHARE_VMM = 0,
	/* One allocation by legacy CUDA IPC, for systems where descriptors
	 * cannot travel: always whole and writable, at other addresses in
	 * each process, and gone with the process that reserved it. */
	PS_SHARE_LEGACY_IPC = 1,
};

/** struct ps_pool_config - what ps_alloc_shared() is to reserve; opaque */
struct ps_pool_config;

/**
 * ps_pool_config_new() - a configuration with the defaults
 * @config_out: receives it; the caller frees it
 *
 * One configuration is for one thread at a time.
 *
 * Return: PS_OK or PS_HOST_MEMORY.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_pool_config_new(struct ps_pool_config **config_out);

/**
 * ps_pool_config_free() - free a configuration
 * @config: may be NULL
 */
PS_API void ps_pool_config_free(struct ps_pool_config *config);

/**
 * ps_pool_config_set_gpu() - choose the GPU
 * @config: the configuration
 * @gpu: "0", "1", ... counts the GPUs that CUDA shows to this process;
 *       "GPU-..." is a UUID as nvidia-smi prints it. Copied. NULL: "0".
 *
 * Return: PS_OK, or PS_INVALID_ARGUMENT when it has neither form.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_pool_config_set_gpu(struct ps_pool_config *config, const char *gpu);

/**
 * ps_pool_config_set_size() - set the pool's size
 * @config: the configuration
 * @bytes: rounded down to whole segments; 0 (the default): all memory that
 *         is free, less the headroom
 */
PS_API void ps_pool_config_set_size(struct ps_pool_config *config,
				    uint64_t bytes);

/**
 * ps_pool_config_set_headroom() - leave memory for CUDA contexts
 * @config: the configuration
 * @bytes: left free on the GPU when the pool takes "all"; default: 2 GiB or
 *         an eighth of what is free, whichever is smaller. One context takes
 *         about 500 MiB.
 */
PS_API void ps_pool_config_set_headroom(struct ps_pool_config *config,
					uint64_t bytes);

/**
 * ps_pool_config_set_parameter_size() - set the parameter region's size
 * @config: the configuration
 * @bytes: rounded up to whole segments; default: a quarter of the pool. May
 *         be 0, and may be the whole pool.
 */
PS_API void ps_pool_config_set_parameter_size(struct ps_pool_config *config,
					      uint64_t bytes);

/**
 * ps_pool_config_set_segment_size() - set the segments' size
 * @config: the configuration
 * @bytes: a power of two, at least the GPU's granularity (2 MiB); 0 (the
 *         default): the smallest that gives at most 1,024 segments
 */
PS_API void ps_pool_config_set_segment_size(struct ps_pool_config *config,
					    uint64_t bytes);

/**
 * ps_pool_config_set_mode() - choose how the memory is shared
 * @config: the configuration
 * @mode: default PS_SHARE_VMM
 */
PS_API void ps_pool_config_set_mode(struct ps_pool_config *config,
				    enum ps_share_mode mode);

/* ------------------------------------------------------------------ */
/* The six calls                                                       */

/** struct ps_pool - a pool as this process has it; opaque */
struct ps_pool;

/**
 * ps_alloc_shared() - reserve the memory of one GPU, once
 * @config: NULL: the defaults. Not kept.
 * @pool_out: receives the pool; close it with ps_pool_close()
 *
 * Starts CUDA where it has not started (the device's primary context).
 * Nothing is zeroed. Nothing can be allocated before a range is inserted.
 *
 * Return: PS_OK; PS_NO_DRIVER, PS_NO_DEVICE, PS_UNSUPPORTED;
 * PS_INVALID_ARGUMENT when the numbers do not fit each other;
 * PS_DEVICE_MEMORY with what is free and what was asked for;
 * PS_ALREADY_RESERVED with the process that has a pool on this GPU;
 * PS_WINDOW_TAKEN; PS_FD_LIMIT; PS_HOST_MEMORY; PS_DRIVER.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_alloc_shared(const struct ps_pool_config *config, struct ps_pool **pool_out);

/** Flags of ps_send_shared(), ps_send_range() and ps_recv_shared(). */
enum ps_share_flags {
	/* Send: the receiver may write the parameter region too. */
	PS_SEND_WRITABLE_PARAMETERS = 1u << 0,
	/* Send, receive: accept a peer of any user. Without it the peer must
	 * run as the same user or as root. */
	PS_PEER_ANY_USER = 1u << 1,
};

/** A timeout that stands for the default of 10 seconds. */
#define PS_TIMEOUT_DEFAULT (-1)

/**
 * ps_send_shared() - give the pool to the process at the other end
 * @pool: reserved here. A received pool cannot be sent on: the driver
 *        exports only what its own process created.
 * @socket: a connected AF_UNIX stream or seqpacket socket on which the peer
 *          calls ps_recv_shared(). Stays the caller's and stays open; after
 *          PS_OK it is in step and free for the caller's own use.
 * @flags: of enum ps_share_flags
 * @timeout_ms: for each answer of the peer; PS_TIMEOUT_DEFAULT
 *
 * The parameter region travels read-only: the peer's mapping is, and its GPU
 * refuses writes. That guards against mistakes. A hostile peer holds the file
 * descriptor and could map it writable: send only to processes you trust so
 * far. No lock is held while the peer is waited for.
 *
 * Return: PS_OK when the peer has said that it has everything; PS_PERMISSION;
 * PS_VERSION_MISMATCH; PS_WRONG_GPU; PS_REFUSED with the peer's reason;
 * PS_PROTOCOL; PS_PEER_GONE; PS_TIMED_OUT; PS_UNSUPPORTED for a received
 * pool; PS_INVALID_ARGUMENT; PS_FD_LIMIT; PS_DRIVER; PS_SYSTEM.
 */
PS_API PS_MUST_CHECK enum ps_status ps_send_shared(struct ps_pool *pool,
						   int socket,
						   unsigned int flags,
						   int timeout_ms);

/**
 * ps_send_range() - give some segments of the pool
 * @pool: as for ps_send_shared()
 * @offset: a multiple of the segment size
 * @size: a multiple of the segment size, not 0
 * @socket: as for ps_send_shared()
 * @flags: as for ps_send_shared()
 * @timeout_ms: as for ps_send_shared()
 *
 * The peer's pool has the same size and addresses, but only these segments
 * can be used there. Not for PS_SHARE_LEGACY_IPC (PS_UNSUPPORTED).
 *
 * Return: as ps_send_shared(); PS_OUT_OF_RANGE.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_send_range(struct ps_pool *pool, uint64_t offset, uint64_t size, int socket,
	      unsigned int flags, int timeout_ms);

/**
 * ps_recv_shared() - receive a pool
 * @socket: as for ps_send_shared(), the other end
 * @flags: of enum ps_share_flags
 * @timeout_ms: for each message of the peer; PS_TIMEOUT_DEFAULT
 * @pool_out: receives the pool; close it with ps_pool_close()
 *
 * Starts CUDA where it has not started. Checks the peer's user, protocol,
 * GPU and layout. The pool is usable at once: a segment is mapped when it is
 * first needed, or with ps_pool_map().
 *
 * Return: PS_OK; PS_PERMISSION; PS_VERSION_MISMATCH; PS_WRONG_GPU;
 * PS_REFUSED; PS_PROTOCOL; PS_BAD_SEGMENT; PS_FD_LIMIT with the limit and
 * the number needed; PS_WINDOW_TAKEN; PS_PEER_GONE; PS_TIMED_OUT;
 * PS_NO_DRIVER; PS_HOST_MEMORY; PS_DRIVER; PS_SYSTEM.
 */
PS_API PS_MUST_CHECK enum ps_status ps_recv_shared(int socket,
						   unsigned int flags,
						   int timeout_ms,
						   struct ps_pool **pool_out);

/** Flags of ps_insert_shared() and ps_insert_region(). */
enum ps_insert_flags {
	/* The range may overlap one that is inserted already. It gets GPU
	 * addresses of its own for the same physical memory; the statistics
	 * count the memory once. Who uses which is the caller's business. */
	PS_INSERT_ALIAS = 1u << 0,
};

/** For ps_insert_shared(): the range serves every stream. */
#define PS_ANY_STREAM ((void *)UINTPTR_MAX)

/**
 * ps_insert_shared() - let this process allocate from a range of the pool
 * @pool: the pool
 * @size: a multiple of the segment size, not 0
 * @offset: a multiple of the segment size
 * @stream: PS_ANY_STREAM, or the one stream whose allocations the range
 *          serves
 * @flags: of enum ps_insert_flags
 *
 * Which process inserts which range is agreed between the processes; two that
 * insert the same one write over each other.
 *
 * Return: PS_OK; PS_OUT_OF_RANGE; PS_OVERLAP naming the range that is
 * inserted already; PS_READ_ONLY when it holds a segment that was shared
 * read-only; PS_INVALID_ARGUMENT; PS_UNSUPPORTED for an alias of a legacy
 * pool; PS_OUT_OF_MEMORY when no addresses are left for another alias;
 * PS_HOST_MEMORY.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_insert_shared(struct ps_pool *pool, uint64_t size, uint64_t offset,
		 void *stream, unsigned int flags);

/**
 * ps_insert_region() - let this process allocate from a region
 * @pool: the pool
 * @region: which
 * @stream: as for ps_insert_shared()
 * @flags: as for ps_insert_shared()
 *
 * Return: as ps_insert_shared(). PS_OUT_OF_RANGE when the region is empty.
 */
PS_API PS_MUST_CHECK enum ps_status ps_insert_region(struct ps_pool *pool,
						     enum ps_region region,
						     void *stream,
						     unsigned int flags);

/**
 * ps_clear_shared() - take back all ranges that were inserted
 * @pool: the pool
 *
 * Waits for the GPU to finish with what was freed, then unmaps and forgets
 * the ranges; they may be inserted again. Nothing changes on failure.
 *
 * Return: PS_OK; PS_BUSY when blocks are still allocated: the detail counts
 * them and names the first few; PS_DEVICE_LOST; PS_DRIVER.
 */
PS_API PS_MUST_CHECK enum ps_status ps_clear_shared(struct ps_pool *pool);

/* ------------------------------------------------------------------ */
/* The daemon                                                          */

/** struct ps_attach_config - how to attach; opaque */
struct ps_attach_config;

/**
 * ps_attach_config_new() - a configuration with the defaults
 * @config_out: receives it; the caller frees it
 *
 * One configuration is for one thread at a time.
 *
 * Return: PS_OK or PS_HOST_MEMORY.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_attach_config_new(struct ps_attach_config **config_out);

/**
 * ps_attach_config_free() - free a configuration
 * @config: may be NULL
 */
PS_API void ps_attach_config_free(struct ps_attach_config *config);

/**
 * ps_attach_config_set_socket() - choose the daemon
 * @config: the configuration
 * @path: of its socket; copied. NULL, the default: the first of these that
 *        is set or there: POOLSWITCH_SOCKET, $XDG_RUNTIME_DIR/poolswitch/
 *        socket, /run/poolswitch/socket.
 *
 * Return: PS_OK, or PS_INVALID_ARGUMENT for a path that is empty or longer
 * than a socket's address (107 bytes).
 */
PS_API PS_MUST_CHECK enum ps_status
ps_attach_config_set_socket(struct ps_attach_config *config, const char *path);

/**
 * ps_attach_config_set_name() - name this process for `poolswitch status`
 * @config: the configuration
 * @name: at most 63 bytes of printable ASCII; copied. NULL, the default: the
 *        program's name.
 *
 * Return: PS_OK or PS_INVALID_ARGUMENT.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_attach_config_set_name(struct ps_attach_config *config, const char *name);

/**
 * ps_attach_config_set_reservation() - have bytes guaranteed
 * @config: the configuration
 * @bytes: of the computation region that no other client gets; rounded up to
 *         whole segments; default 0
 */
PS_API void ps_attach_config_set_reservation(struct ps_attach_config *config,
					     uint64_t bytes);

/**
 * ps_attach_config_set_limit() - bound what this process may have
 * @config: the configuration
 * @bytes: of the computation region; rounded down to whole segments; 0, the
 *         default: what the daemon allows
 */
PS_API void ps_attach_config_set_limit(struct ps_attach_config *config,
				       uint64_t bytes);

/**
 * ps_attach_config_set_writable() - ask for write access to the parameters
 * @config: the configuration
 * @writable: granted to the daemon's own user and to root; default false
 */
PS_API void ps_attach_config_set_writable(struct ps_attach_config *config,
					  bool writable);

/**
 * ps_attach() - have memory of the pool that poolswitchd keeps
 * @config: NULL: the defaults. Not kept.
 * @pool_out: receives the pool; leave it with ps_detach() or ps_pool_close()
 *
 * Starts CUDA where it has not started, and one thread with all signals
 * blocked that answers the daemon. Allocations work at once: the pool grows
 * by segments of the computation region that the daemon leases to this
 * process, and gives them back when they are idle or others ask for them. The
 * parameter region can be mapped with ps_pool_map(). Ranges cannot be inserted
 * nor the pool sent on (PS_UNSUPPORTED).
 *
 * The daemon may be restarted at any time: memory and contents stay, and the
 * next call that needs the daemon connects again by itself.
 *
 * A pool has one place in a process: PS_WINDOW_TAKEN when it is attached here
 * already.
 *
 * Return: PS_OK; PS_NO_DAEMON naming the sockets tried and the command that
 * starts one; PS_REFUSED, PS_PERMISSION with the daemon's reason;
 * PS_OUT_OF_MEMORY when the reservation cannot be granted;
 * PS_VERSION_MISMATCH; PS_WRONG_GPU; PS_WINDOW_TAKEN; PS_PROTOCOL;
 * PS_PEER_GONE; PS_TIMED_OUT; PS_FD_LIMIT; PS_NO_DRIVER; PS_HOST_MEMORY;
 * PS_DRIVER; PS_SYSTEM.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_attach(const struct ps_attach_config *config, struct ps_pool **pool_out);

/**
 * ps_detach() - leave the daemon's pool
 * @pool: from ps_attach()
 *
 * Waits for the GPU, unmaps everything, gives every lease back and closes the
 * pool. No other call on this pool may be running or follow. To leave in
 * spite of live blocks call ps_pool_close().
 *
 * Return: PS_OK; PS_BUSY when blocks are still allocated: the detail counts
 * them and names the first few, and the pool stays open; PS_UNSUPPORTED for a
 * pool that was not attached; PS_FORKED. When the daemon could not be told
 * (it is gone) the pool is closed all the same, and PS_OK.
 */
PS_API PS_MUST_CHECK enum ps_status ps_detach(struct ps_pool *pool);

/** enum ps_question - what ps_daemon_ask() asks */
enum ps_question {
	PS_ASK_STATUS = 1,   /* regions, clients, limits */
	PS_ASK_DRAIN = 2,    /* take no new client; end when the last left */
	PS_ASK_SHUTDOWN = 3, /* end now; clients keep what they have mapped */
	PS_ASK_RELOAD = 4,   /* read the limits again */
	PS_ASK_PRESENCE =
		5,         /* its state and GPU, at once: no client is asked */
	PS_ASK_MODELS = 6, /* each model, its state, bytes, users; anybody */
};

/**
 * ps_daemon_ask() - ask poolswitchd something, without attaching
 * @socket: as for ps_attach_config_set_socket()
 * @question: which; all but PS_ASK_STATUS, PS_ASK_PRESENCE and PS_ASK_MODELS
 *            are for the daemon's user and root
 * @timeout_ms: PS_TIMEOUT_DEFAULT
 * @json_out: receives a JSON object (docs/daemon.md has its fields); the
 *            caller frees it with free()
 *
 * Uses no GPU.
 *
 * Return: PS_OK; PS_NO_DAEMON; PS_PERMISSION; PS_REFUSED; PS_TIMED_OUT;
 * PS_PEER_GONE; PS_PROTOCOL; PS_VERSION_MISMATCH; PS_INVALID_ARGUMENT;
 * PS_HOST_MEMORY; PS_SYSTEM.
 */
PS_API PS_MUST_CHECK enum ps_status ps_daemon_ask(const char *socket,
						  enum ps_question question,
						  int timeout_ms,
						  char **json_out);

/** struct ps_finding - one thing that poolswitch needs, and whether it is so */
struct ps_finding {
	const char *need;   /* "value-waits": a name for programs */
	bool ok;            /* whether it is met */
	const char *found;  /* what is there, for people */
	const char *remedy; /* what to do; "" when ok */
};

/** What ps_doctor() calls. */
typedef void (*ps_finding_visit)(void *arg, const struct ps_finding *finding);

/**
 * ps_doctor() - look at everything that poolswitch needs of this machine
 * @gpu: as for ps_pool_config_set_gpu()
 * @visit: called for each finding, in a fixed order; the texts live until it
 *         returns
 * @arg: for @visit
 *
 * Makes a small segment on the GPU, and frees it. Never fails for what it
 * looks for: that is a finding.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_doctor(const char *gpu, ps_finding_visit visit, void *arg);

/* ------------------------------------------------------------------ */
/* A pool's properties                                                 */

/**
 * ps_pool_close() - leave a pool
 * @pool: may be NULL
 *
 * Waits for the GPU, then unmaps and releases everything; blocks that are
 * still allocated end with it. The memory itself is free when the last
 * process has closed. No other call on this pool may be running or follow.
 *
 * In a forked child it frees host memory and closes the child's copies of the
 * pool's file descriptors, nothing else. As long as a child has them the
 * memory stays reserved, whatever becomes of the parent: close-on-exec helps
 * only those that execute a program.
 */
PS_API void ps_pool_close(struct ps_pool *pool);

/**
 * ps_pool_map() - map a range now rather than when it is first needed
 * @pool: the pool
 * @offset: a multiple of the segment size
 * @size: a multiple of the segment size; 0: to the end of what this process
 *        was given
 *
 * Segments that are mapped already stay as they are. On failure some may
 * have been mapped; they stay usable. Of an attached pool the parameter region
 * can be mapped so, and what is leased already; 0: to the end of the region.
 *
 * Return: PS_OK; PS_OUT_OF_RANGE; PS_INVALID_ARGUMENT; PS_BAD_SEGMENT;
 * PS_DEVICE_LOST; PS_DRIVER; of an attached pool what the daemon's refusal, or
 * its absence, gives (ps_attach()).
 */
PS_API PS_MUST_CHECK enum ps_status ps_pool_map(struct ps_pool *pool,
						uint64_t offset, uint64_t size);

/**
 * ps_pool_size() - the size of the whole pool
 * @pool: the pool
 *
 * Return: bytes, a multiple of the segment size.
 */
PS_API uint64_t ps_pool_size(const struct ps_pool *pool);

/**
 * ps_pool_segment_size() - the size of one segment
 * @pool: the pool
 *
 * Return: bytes, a power of two. A legacy pool, which has no segments, says
 * the granularity in which its ranges are inserted.
 */
PS_API uint64_t ps_pool_segment_size(const struct ps_pool *pool);

/**
 * ps_pool_region() - where a region lies
 * @pool: the pool
 * @region: which
 * @offset_out: receives its first byte
 * @size_out: receives its size; 0 when it is empty
 *
 * Return: PS_OK or PS_INVALID_ARGUMENT.
 */
PS_API PS_MUST_CHECK enum ps_status ps_pool_region(const struct ps_pool *pool,
						   enum ps_region region,
						   uint64_t *offset_out,
						   uint64_t *size_out);

/**
 * ps_pool_pointer() - the GPU address of an offset
 * @pool: the pool
 * @offset: smaller than the pool's size
 *
 * The same in every process of a PS_SHARE_VMM pool. What lies there may be
 * used once its segment is mapped: by ps_pool_map(), or by an allocation.
 *
 * Return: the address; NULL for an offset that is out of range.
 */
PS_API void *ps_pool_pointer(const struct ps_pool *pool, uint64_t offset);

/**
 * ps_pool_gpu() - the GPU that the pool is on
 * @pool: the pool
 *
 * Return: its UUID as nvidia-smi prints it; lives as long as the pool.
 */
PS_API const char *ps_pool_gpu(const struct ps_pool *pool);

/* ------------------------------------------------------------------ */
/* Memory                                                              */

/**
 * ps_mem_alloc() - allocate device memory
 * @pool: the pool; NULL: the default pool
 * @size: bytes, not 0; rounded up by at most an eighth
 * @ptr_out: receives the address, aligned to at least 512 bytes
 *
 * For cudaMalloc(). Any stream may use the block at once. Costs no system
 * call and no driver call unless segments have to be mapped or freed memory
 * has to be waited for. Contents are undefined. A block that is longer than
 * every free range is made of free segments that are mapped anew, side by
 * side: its addresses lie behind the pool's own and mean nothing to other
 * processes.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT for size 0; PS_OUT_OF_MEMORY: the detail
 * says what was asked, what is live and what the largest free range is;
 * PS_FORKED; PS_HOST_MEMORY; PS_DEVICE_LOST; PS_DRIVER; PS_BAD_SEGMENT.
 */
PS_API PS_MUST_CHECK enum ps_status ps_mem_alloc(struct ps_pool *pool,
						 size_t size, void **ptr_out);

/**
 * ps_mem_free() - free device memory that any stream may have used
 * @pool: the pool; NULL: the default pool
 * @ptr: what an allocating call gave; NULL: nothing happens
 *
 * For cudaFree(). Returns at once; the block is given out again only when
 * all work that was submitted to any stream of the device's primary context
 * before the call is done. With PS_FREE_WAITS it waits for that work, unless a
 * stream captures or ps_mem_hold_fences() is in force.
 * While a stream captures the fence is put off, if the library knows of the
 * capture: on a blocking stream, or on one that was passed to one of these
 * functions. A capture on another stream would be invalidated by the fence:
 * use ps_mem_free_async() meanwhile.
 *
 * Return: PS_OK; PS_NOT_OURS, PS_INTERIOR or PS_DOUBLE_FREE with the address
 * and what is known of it, nothing changed; PS_FORKED.
 */
PS_API enum ps_status ps_mem_free(struct ps_pool *pool, void *ptr);

/**
 * ps_mem_alloc_pitch() - allocate rows of equal length, each aligned
 * @pool: the pool; NULL: the default pool
 * @width: bytes in a row, not 0
 * @height: rows, not 0
 * @pitch_out: receives the distance of two rows in bytes, a multiple of 512
 * @ptr_out: receives the address; free it with ps_mem_free()
 *
 * For cudaMallocPitch().
 *
 * Return: as ps_mem_alloc(); PS_INVALID_ARGUMENT when the product overflows.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_mem_alloc_pitch(struct ps_pool *pool, size_t width, size_t height,
		   size_t *pitch_out, void **ptr_out);

/**
 * ps_mem_alloc_async() - allocate in the order of a stream
 * @pool: the pool; NULL: the default pool
 * @size: as for ps_mem_alloc()
 * @stream: the stream that uses the block. Another may use it too after it
 *          was made to wait for this one; tell ps_mem_record_stream().
 * @ptr_out: as for ps_mem_alloc()
 *
 * For cudaMallocAsync(). Gets memory back at once that was freed on the same
 * stream.
 *
 * Return: as ps_mem_alloc().
 */
PS_API PS_MUST_CHECK enum ps_status ps_mem_alloc_async(struct ps_pool *pool,
						       size_t size,
						       void *stream,
						       void **ptr_out);

/**
 * ps_mem_free_async() - free in the order of a stream
 * @pool: the pool; NULL: the default pool
 * @ptr: as for ps_mem_free(); also from ps_mem_alloc()
 * @stream: all uses of the block come before this point of the stream
 *
 * For cudaFreeAsync(). The block is reused on @stream at once when it was
 * allocated on it, elsewhere only when an event behind this point has passed.
 * Streams that were recorded with ps_mem_record_stream() are waited for too.
 *
 * Return: as ps_mem_free().
 */
PS_API enum ps_status ps_mem_free_async(struct ps_pool *pool, void *ptr,
					void *stream);

/**
 * ps_mem_record_stream() - say that another stream uses a block too
 * @pool: the pool; NULL: the default pool
 * @ptr: a live block
 * @stream: the stream
 *
 * After the block is freed it comes back only when the work that was in each
 * such stream at that time is done.
 *
 * Return: PS_OK; PS_NOT_OURS, PS_INTERIOR or PS_DOUBLE_FREE; PS_HOST_MEMORY;
 * PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_mem_record_stream(struct ps_pool *pool, void *ptr, void *stream);

/**
 * ps_mem_drop_stream() - forget a stream that is about to be destroyed
 * @pool: the pool; NULL: the default pool
 * @stream: not destroyed yet
 *
 * The driver gives a destroyed stream's handle to a new stream, which knows
 * nothing of the old one's work. Call this before cudaStreamDestroy() for
 * every stream that was passed to one of these functions.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT for the default streams; PS_AGAIN while
 * the stream captures; PS_HOST_MEMORY; PS_DEVICE_LOST; PS_DRIVER. After a
 * failure do not destroy the stream yet: call again.
 */
PS_API PS_MUST_CHECK enum ps_status ps_mem_drop_stream(struct ps_pool *pool,
						       void *stream);

/**
 * ps_mem_usable_size() - how much of a block may be used
 * @pool: the pool; NULL: the default pool
 * @ptr: a live block
 * @size_out: receives bytes, at least what was asked for
 *
 * Return: PS_OK; PS_NOT_OURS, PS_INTERIOR or PS_DOUBLE_FREE; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_mem_usable_size(struct ps_pool *pool, const void *ptr, size_t *size_out);

/**
 * ps_mem_get_info() - free and total memory, as cudaMemGetInfo() says it
 * @pool: the pool; NULL: the default pool
 * @free_out: receives the bytes of the inserted ranges that no live block
 *            holds; fragmentation may keep the last of them from one block
 * @total_out: receives the bytes of the inserted ranges, aliases counted once
 *
 * Of an attached pool: the limit that the daemon set, and what live blocks and
 * memory outside leave of it. Other clients may have part of that now.
 *
 * Return: PS_OK; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_mem_get_info(struct ps_pool *pool, uint64_t *free_out, uint64_t *total_out);

/** The number of entries of ps_mem_stats.classes. */
#define PS_SIZE_CLASSES 32

/**
 * struct ps_mem_stats - a pool's memory in this process, true to the byte
 *
 * Sizes of blocks are counted as rounded, so live + cached = active. New
 * fields are added at the end.
 */
struct ps_mem_stats {
	size_t struct_size;     /* set by the caller: sizeof(struct ...) */
	uint64_t pool;          /* bytes of the whole pool */
	uint64_t inserted;      /* physical bytes inserted, aliases once; of
				 * an attached pool: leased, less parked */
	uint64_t mapped;        /* bytes mapped here, physical bytes once */
	uint64_t reserved;      /* bytes the allocator holds of its owner */
	uint64_t live;          /* bytes in live blocks */
	uint64_t cached;        /* reserved less live */
	uint64_t pending;       /* of cached: waits for a fence */
	uint64_t largest_free;  /* largest block that needs no waiting */
	uint64_t live_blocks;   /* live blocks */
	uint64_t allocs;        /* allocations served */
	uint64_t frees;         /* frees accepted */
	uint64_t failed_allocs; /* allocations refused for want of memory */
	uint64_t fences;        /* fences recorded */
	uint64_t gathered;      /* bytes mapped anew to make one long range */
	uint64_t fence_waits;   /* allocations that waited for one */
	uint64_t peak_live;     /* the most live there was */
	uint64_t peak_reserved; /* the most reserved there was */
	struct {
		uint64_t largest; /* upper bound of the entry's block size */
		uint64_t live_blocks; /* live blocks of such a size */
		uint64_t live;        /* their bytes */
	} classes[PS_SIZE_CLASSES];   /* by size, an entry a power of two */
	uint64_t outside;             /* bytes taken by ps_mem_take_outside() */
	uint64_t passed;              /* bytes noted by ps_mem_note_passed() */
	uint64_t opened; /* bytes of other processes mapped by tickets */
};

/**
 * ps_mem_get_stats() - read the statistics
 * @pool: the pool; NULL: the default pool
 * @stats: struct_size set; the rest is written, as far as it reaches
 *
 * All numbers are of one moment when no other call runs; otherwise each is
 * right by itself.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT for a struct_size that is too small;
 * PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_mem_get_stats(struct ps_pool *pool, struct ps_mem_stats *stats);

/**
 * ps_mem_trim() - unmap segments that hold no block
 * @pool: the pool; NULL: the default pool
 * @keep: bytes that may stay reserved
 * @released_out: receives the bytes unmapped
 *
 * The ranges stay inserted; of an attached pool the segments are given back to
 * the daemon, parked ones too. Waits for nothing: what a fence still guards
 * stays.
 *
 * Return: PS_OK; PS_FORKED; PS_DRIVER.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_mem_trim(struct ps_pool *pool, uint64_t keep, uint64_t *released_out);

/** enum ps_free_mode - what ps_mem_free() does about running work */
enum ps_free_mode {
	PS_FREE_FENCED = 0, /* hold the block back behind a fence */
	PS_FREE_WAITS = 1,  /* wait for the device, as cudaFree() does */
};

/**
 * ps_mem_set_free_mode() - choose what ps_mem_free() does
 * @pool: the pool; NULL: the default pool
 * @mode: default PS_FREE_FENCED
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_mem_set_free_mode(struct ps_pool *pool, enum ps_free_mode mode);

/**
 * ps_mem_check() - check every invariant of the allocator
 * @pool: the pool; NULL: the default pool
 *
 * For tests and for hunting a bug; takes all locks and looks at every block.
 *
 * Return: PS_OK; PS_BUSY never; PS_INVALID_ARGUMENT with the invariant that
 * does not hold; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status ps_mem_check(struct ps_pool *pool);

/* ------------------------------------------------------------------ */
/* Living with the driver's own memory                                 */

/**
 * ps_mem_take_outside() - count memory that the pool cannot hold
 * @pool: an attached pool; NULL: the default pool
 * @bytes: that the caller is about to take from the driver: managed memory,
 *         arrays, graphs' memory, memory objects of its own
 *
 * The daemon has the whole GPU, so it frees as many segments as it takes for
 * @bytes and all that was taken before, within this process's limit: they
 * count as leased until ps_mem_give_outside(). Asks the driver nothing.
 *
 * Return: PS_OK: there is room now. PS_OUT_OF_MEMORY, and what ps_attach()
 * says of a daemon that refuses or is gone; PS_UNSUPPORTED for a pool that was
 * not attached, PS_INVALID_ARGUMENT, PS_DEVICE_LOST, PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status ps_mem_take_outside(struct ps_pool *pool,
							uint64_t bytes);

/**
 * ps_mem_give_outside() - the driver has that memory back
 * @pool: as for ps_mem_take_outside()
 * @bytes: at most what was taken and not given
 *
 * Whole segments that this leaves unused go back to the daemon, at once or
 * when the process is idle.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT for more than was taken; PS_FORKED.
 */
PS_API enum ps_status ps_mem_give_outside(struct ps_pool *pool, uint64_t bytes);

/**
 * ps_mem_note_passed() - count memory that went to the driver for no room here
 * @pool: as for ps_mem_take_outside()
 * @bytes: more, or less where negative
 *
 * For `poolswitch status` only; takes no room.
 *
 * Return: PS_OK; PS_UNSUPPORTED; PS_FORKED.
 */
PS_API enum ps_status ps_mem_note_passed(struct ps_pool *pool, int64_t bytes);

/**
 * ps_mem_hold_fences() - record no fence behind all streams for a while
 * @pool: the pool; NULL: the default pool
 * @hold: true: from now on; false: one hold less. They are counted.
 *
 * For who knows that a stream captures which this library cannot see: a fence
 * behind all streams would invalidate the capture. Blocks freed by
 * ps_mem_free() wait meanwhile. Returns only when no such fence is being
 * recorded.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT for a release without a hold; PS_FORKED.
 */
PS_API enum ps_status ps_mem_hold_fences(struct ps_pool *pool, bool hold);

/**
 * ps_mem_is_inside() - whether an address is one of the pool's
 * @pool: the pool; NULL: the default pool
 * @ptr: any address
 *
 * Costs a few loads.
 *
 * Return: true for every address that this pool gives out, by a ticket too,
 * and in a forked child; it says nothing of a live block being there.
 */
PS_API bool ps_mem_is_inside(const struct ps_pool *pool, const void *ptr);

/**
 * ps_mem_export_segment() - a descriptor of the segment at an address
 * @pool: an attached pool; NULL: the default pool
 * @ptr: in memory that is mapped here
 * @fd_out: receives a descriptor, close-on-exec, the caller's, as
 *          cuMemExportToShareableHandle() gives one of memory that the process
 *          created itself
 *
 * Whoever gets it can map all of the segment for good. So the daemon destroys
 * this segment and creates another before anybody else gets it.
 *
 * Return: PS_OK; PS_NOT_OURS, also for the parameters and for what a ticket
 * opened; PS_UNSUPPORTED for a pool that was not attached;
 * PS_FD_LIMIT; PS_NO_DAEMON; PS_REFUSED; PS_DEVICE_LOST; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_mem_export_segment(struct ps_pool *pool, const void *ptr, int *fd_out);

/**
 * ps_pool_allow_peer() - let another GPU of this process use the pool's memory
 * @pool: the pool; NULL: the default pool
 * @ordinal: CUDA's number of that GPU in this process
 *
 * As cuCtxEnablePeerAccess() does for other memory: for all that is mapped
 * now and later.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT; PS_UNSUPPORTED when the two cannot;
 * PS_DRIVER; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status ps_pool_allow_peer(struct ps_pool *pool,
						       int ordinal);

/** The first eight bytes of every ticket, without an end. */
#define PS_TICKET_MAGIC "psTicket"

/** struct ps_ticket - permission to open some memory of another process */
struct ps_ticket {
	unsigned char bytes[64]; /* plain data; may be sent and stored */
};

/**
 * ps_ticket_issue() - name memory for another process of the same pool
 * @pool: an attached pool; NULL: the default pool
 * @ptr: the start of a live block: the ticket is for the block; or where a
 *       segment is mapped: for the segment, and for blocks that begin in it,
 *       to their end. An address inside a block otherwise: for the block.
 * @ticket_out: receives it
 *
 * Of the same user only. It is good until the memory is given back to the
 * daemon, and whoever has it open keeps the memory, also when this process
 * ends. That the block is not freed meanwhile is the caller's business, as
 * with CUDA IPC.
 *
 * Return: PS_OK; PS_NOT_OURS; PS_UNSUPPORTED for a pool that was not
 * attached, or for a block whose segments are scattered too widely for a
 * ticket; PS_NO_DAEMON; PS_REFUSED; PS_DEVICE_LOST; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_ticket_issue(struct ps_pool *pool, const void *ptr,
		struct ps_ticket *ticket_out);

/**
 * ps_ticket_open() - map what a ticket names
 * @pool: attached to the same daemon; NULL: the default pool
 * @ticket: as issued
 * @ptr_out: receives the address here; ps_ticket_close() it
 *
 * Opened twice it is mapped once, at the same address, and must be closed
 * twice. What is open is neither freed nor exported nor named by a ticket here
 * (PS_NOT_OURS).
 *
 * Return: PS_OK; PS_REFUSED: a ticket that nobody issued, of another pool,
 * user or owner that is gone, or older than the memory's last lease;
 * PS_NOT_OURS: issued by this process itself; PS_UNSUPPORTED;
 * PS_OUT_OF_MEMORY: no addresses are left; PS_NO_DAEMON; PS_FD_LIMIT;
 * PS_BAD_SEGMENT; PS_DRIVER; PS_DEVICE_LOST; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_ticket_open(struct ps_pool *pool, const struct ps_ticket *ticket,
	       void **ptr_out);

/**
 * ps_ticket_close() - what was opened is not used any more
 * @pool: as for ps_ticket_open()
 * @ptr: what that gave
 *
 * The last one waits for the work of this process and unmaps; ps_detach() and
 * ps_pool_close() close the rest.
 *
 * Return: PS_OK; PS_NOT_OURS; PS_AGAIN while a stream captures, nothing
 * changed; PS_UNSUPPORTED; PS_DRIVER; PS_DEVICE_LOST; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status ps_ticket_close(struct ps_pool *pool,
						    void *ptr);

/**
 * ps_mem_write() - copy from the host into the pool and wait for it
 * @pool: the pool; NULL: the default pool
 * @dst: a GPU address inside mapped memory of the pool
 * @src: host memory
 * @size: bytes
 *
 * A plain copy for programs that do not use CUDA otherwise; not ordered with
 * work on streams.
 *
 * Return: PS_OK; PS_OUT_OF_RANGE; PS_READ_ONLY; PS_DEVICE_LOST; PS_DRIVER.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_mem_write(struct ps_pool *pool, void *dst, const void *src, size_t size);

/**
 * ps_mem_read() - copy from the pool to the host and wait for it
 * @pool: the pool; NULL: the default pool
 * @dst: host memory
 * @src: a GPU address inside mapped memory of the pool
 * @size: bytes
 *
 * Return: as ps_mem_write().
 */
PS_API PS_MUST_CHECK enum ps_status ps_mem_read(struct ps_pool *pool, void *dst,
						const void *src, size_t size);

/* ------------------------------------------------------------------ */
/* Models                                                              */

/*
 * poolswitchd keeps models in the parameter region: tensors from safetensors
 * files, laid out once, at an address in the window that stays theirs as long
 * as the pool lives. A model that is needed travels to the GPU in groups of
 * tensors while its first layers already compute; one that nobody uses makes
 * room, and comes back at the same address. Every process has the same memory,
 * read-only.
 *
 *   add             once: the daemon reads and checks the files
 *   attach          in each process: what the model is and where it will lie
 *   use .. release  around each run: until then the weights stay. Asks for
 *                   the transfer and does not wait for it
 *   wait            in between, on a stream: what is behind it on that stream
 *                   begins when this tensor and all before it have landed
 *
 * A process that uses no model any more keeps it attached, and mapped for the
 * next time, at no cost to others. Without poolswitchd: PS_UNSUPPORTED.
 */

#define PS_MODEL_HASH_BYTES 32
#define PS_MODEL_NAME_MAX 127 /* bytes: letters, digits and -_.:/@+ */
#define PS_TENSOR_RANK_MAX 8

/** enum ps_model_flags - of ps_model_add() */
enum ps_model_flags {
	/* Whoever may attach to the daemon may attach to the model; else its
	 * user, the daemon's and root. */
	PS_MODEL_PUBLIC = 1u << 0,
};

/** enum ps_model_plan - how the tensors of a model are grouped to travel */
enum ps_model_plan {
	PS_PLAN_BEST = 0,   /* the soonest finish, by what was measured */
	PS_PLAN_TENSOR = 1, /* each tensor by itself */
	PS_PLAN_LAYER = 2,  /* neighbours of one module: the name's start */
	PS_PLAN_ONE = 3,    /* one group */
	PS_PLAN_GROUPS = 4, /* as many groups as asked for, alike in bytes */
};

/**
 * struct ps_model_source - where a model comes from
 *
 * A safetensors file, or the index of a sharded one
 * (model.safetensors.index.json), whose parts lie beside it.
 */
struct ps_model_source {
	size_t struct_size;      /* sizeof(struct ps_model_source) */
	const char *name;        /* what it will be called */
	const char *path;        /* NULL: fd */
	int fd;                  /* of a safetensors file; stays the caller's */
	unsigned int flags;      /* of enum ps_model_flags */
	enum ps_model_plan plan; /* PS_PLAN_BEST */
	uint32_t groups;         /* PS_PLAN_GROUPS: how many; else 0 */
};

/**
 * ps_model_add() - have the daemon read and check a model
 * @socket: as for ps_attach_config_set_socket(); NULL: looked for
 * @source: what
 * @timeout_ms: in all; PS_TIMEOUT_DEFAULT: as long as it takes
 * @hash_out: receives the hash over layout and contents; NULL: not wanted
 *
 * The caller opens the files, so the daemon reads nothing that the caller may
 * not. They are copied into the daemon's host memory and hashed; afterwards
 * they may change. Returns when that is done. Adding what is there already,
 * with the same hash, is well.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT naming the tensor, the numbers and the
 * rule that a file breaks, or that it changed while it was read; PS_REFUSED:
 * the name is another model's, or there are too many; PS_OUT_OF_RANGE: larger
 * than the parameter region, or no addresses are left; PS_HOST_MEMORY: above
 * the daemon's budget; PS_UNSUPPORTED: beyond a limit of the reader;
 * PS_PERMISSION; PS_NO_DAEMON; PS_TIMED_OUT (the daemon goes on); PS_SYSTEM.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_model_add(const char *socket, const struct ps_model_source *source,
	     int timeout_ms, unsigned char *hash_out);

/** enum ps_model_action - of ps_model_order() */
enum ps_model_action {
	PS_MODEL_LOAD = 1,     /* onto the GPU; returns when it is there */
	PS_MODEL_PREFETCH = 2, /* the same, behind all others; does not wait */
	PS_MODEL_EVICT = 3,    /* off the GPU, when nobody uses it any more */
	PS_MODEL_PIN = 4,      /* load it, and never evict it for others */
	PS_MODEL_UNPIN = 5,
	PS_MODEL_REMOVE = 6, /* forget it; nobody may have it attached */
};

/**
 * ps_model_order() - have the daemon do something with a model
 * @socket: as for ps_model_add()
 * @action: what
 * @name: of the model
 * @timeout_ms: how long to wait for users to release what is in the way;
 *              PS_TIMEOUT_DEFAULT
 *
 * For the model's user, the daemon's and root; loading and prefetching for all
 * who may attach to it.
 *
 * Return: PS_OK; PS_NO_MODEL; PS_BUSY naming who uses it; PS_OUT_OF_MEMORY
 * naming what is in the way; PS_LOAD_FAILED; PS_PERMISSION; PS_TIMED_OUT;
 * PS_NO_DAEMON; PS_DEVICE_LOST; PS_INVALID_ARGUMENT.
 */
PS_API PS_MUST_CHECK enum ps_status ps_model_order(const char *socket,
						   enum ps_model_action action,
						   const char *name,
						   int timeout_ms);

/** struct ps_model - a model that this process is attached to; opaque */
struct ps_model;

/** struct ps_model_info - what a model is */
struct ps_model_info {
	size_t struct_size; /* sizeof(struct ps_model_info), by the caller */
	const char *name;   /* lives as long as the attachment */
	unsigned char hash[PS_MODEL_HASH_BYTES];
	void *address;    /* of its first byte on the GPU, in every process */
	uint64_t bytes;   /* from there to the end of the last tensor, whole
			   * multiples of 256 */
	uint32_t tensors; /* how many */
};

/** struct ps_tensor - one tensor of a model */
struct ps_tensor {
	const char *name;  /* UTF-8; lives as long as the attachment */
	const char *dtype; /* as safetensors writes it: "BF16"; static */
	void *address;     /* on the GPU */
	uint64_t offset;   /* bytes from the model's address; multiple of 256 */
	uint64_t bytes;    /* 0 when a dimension is */
	uint32_t rank;     /* dimensions; 0: one element */
	uint64_t shape[PS_TENSOR_RANK_MAX]; /* the rest are 0 */
};

/**
 * ps_model_attach() - find a model and where it lies
 * @pool: from ps_attach(); NULL: the default pool
 * @name: of the model; NULL: any that has @hash
 * @hash: what it must be, PS_MODEL_HASH_BYTES; NULL: whatever it is
 * @model_out: receives the model; ps_model_detach() it
 *
 * Needs no memory on the GPU. Attached again in the same process it is the
 * same model, counted.
 *
 * Return: PS_OK; PS_NO_MODEL; PS_MODEL_MISMATCH: that name has another hash;
 * PS_AGAIN: it is still being read; PS_PERMISSION; PS_UNSUPPORTED: the pool was
 * not attached, or the daemon is too old; PS_NO_DAEMON; PS_FD_LIMIT;
 * PS_HOST_MEMORY; PS_DEVICE_LOST; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_model_attach(struct ps_pool *pool, const char *name,
		const unsigned char *hash, struct ps_model **model_out);

/**
 * ps_model_detach() - give the model up
 * @model: from ps_model_attach(); NULL: nothing to do
 *
 * The last one waits for the work behind the releases and unmaps. Views of
 * the weights and captured graphs end with it. ps_detach() detaches from all.
 *
 * Return: PS_OK; PS_BUSY: it is in use; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status ps_model_detach(struct ps_model *model);

/**
 * ps_model_get_info() - what the model is
 * @model: from ps_model_attach()
 * @info: struct_size set by the caller; receives as much as that holds
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT: struct_size is not set, or no model.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_model_get_info(const struct ps_model *model, struct ps_model_info *info);

/**
 * ps_model_get_tensor() - one tensor by its number
 * @model: from ps_model_attach()
 * @number: from 0, in the order in which they lie and travel
 * @tensor_out: receives it
 *
 * Return: PS_OK; PS_OUT_OF_RANGE.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_model_get_tensor(const struct ps_model *model, uint32_t number,
		    struct ps_tensor *tensor_out);

/**
 * ps_model_find_tensor() - the number of a tensor by its name
 * @model: from ps_model_attach()
 * @name: as it stands in the file
 * @number_out: receives the number
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT: the model has none of that name.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_model_find_tensor(const struct ps_model *model, const char *name,
		     uint32_t *number_out);

/** Of ps_model_use(). Larger is sooner; PS_MODEL_PREFETCH has 0. */
#define PS_PRIORITY_DEFAULT 100u

/**
 * ps_model_use() - from here on the weights stay, and are on their way
 * @model: from ps_model_attach()
 * @priority: among loads that wait for the wire
 * @timeout_ms: for other models to be released, when there is no room;
 *              PS_TIMEOUT_DEFAULT
 *
 * Maps the memory when this process has not. Does not wait for the weights:
 * submit ps_model_wait() before what reads them. A model that is there and was
 * used here before costs no message. Counted: each wants its release.
 *
 * Return: PS_OK; PS_OUT_OF_MEMORY naming the models in use that fill the
 * region; PS_TIMED_OUT; PS_LOAD_FAILED: with the reason, of this attempt;
 * PS_NO_MODEL: it was removed; PS_NO_DAEMON; PS_PEER_GONE; PS_DEVICE_LOST;
 * PS_FD_LIMIT; PS_DRIVER; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_model_use(struct ps_model *model, uint32_t priority, int timeout_ms);

/**
 * ps_model_wait() - what follows on a stream waits for a tensor
 * @model: in use; or @stream captures
 * @stream: a CUstream of the current context
 * @tensor: its number; all before it have landed too
 *
 * A stream operation, not a wait of the caller. Where the tensor has landed and
 * @stream does not capture, nothing is submitted. In a captured graph the wait
 * is part of the graph and right at each launch, also after the model was
 * evicted and came back: use and release the model around each launch. Load the
 * code that runs behind it before (a launch that loads a kernel waits for the
 * stream).
 *
 * Return: PS_OK; PS_OUT_OF_RANGE: no such tensor; PS_INVALID_ARGUMENT: not in
 * use; PS_UNSUPPORTED: this GPU cannot wait for values; PS_DRIVER;
 * PS_DEVICE_LOST; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_model_wait(struct ps_model *model, void *stream, uint32_t tensor);

/** ps_model_release(): all work that uses the weights is done already. */
#define PS_STREAM_DONE ((void *)(intptr_t)-1)
/** The same: it may run on any stream of the current context. */
#define PS_STREAM_ANY ((void *)(intptr_t)-2)

/**
 * ps_model_release() - this run has no more to read
 * @model: in use
 * @stream: the one on which it ran; PS_STREAM_DONE; PS_STREAM_ANY
 *
 * Returns at once; the model stays until the work submitted so far on @stream
 * is done. A run on several streams joins them first.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT: not in use; PS_AGAIN: the stream
 * captures (of PS_STREAM_ANY: any does), release after the launch; PS_DRIVER:
 * released all the same, behind all work of the device; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status ps_model_release(struct ps_model *model,
						     void *stream);

/**
 * ps_model_check() - whether what was computed used whole weights
 * @model: whose run is done
 *
 * A load that fails half-way lets every wait pass, so that nobody hangs. Ask
 * this when the results are there, before they are believed; and before the
 * model is used here again, for that asks for another load.
 *
 * Return: PS_OK; PS_LOAD_FAILED: a load failed since the first ps_model_use()
 * that was not released then; PS_DEVICE_LOST; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status ps_model_check(struct ps_model *model);

/**
 * ps_model_set_costs() - how long each part computes
 * @model: from ps_model_attach()
 * @nanoseconds: for each tensor what computes when it has landed, until the
 *               next tensor is needed; of one run with the model resident
 * @count: of tensors: all of them
 *
 * From now on PS_PLAN_BEST groups by them. The last one who says it counts.
 *
 * Return: PS_OK; PS_INVALID_ARGUMENT: another number of tensors;
 * PS_PERMISSION; PS_NO_DAEMON; PS_PEER_GONE; PS_FORKED.
 */
PS_API PS_MUST_CHECK enum ps_status
ps_model_set_costs(struct ps_model *model, const uint32_t *nanoseconds,
		   uint32_t count);

#ifdef __cplusplus
}
#endif

#endif /* POOLSWITCH_H */
