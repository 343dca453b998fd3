/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How arrays are handed to other libraries in a process: the binary layout
 * that DLPack 1.1 publishes, of which this is as much as is used here.
 */
#ifndef PYTHON_SHIM_EXT_DLPACK_H
#define PYTHON_SHIM_EXT_DLPACK_H

#include <stdint.h>

#define DL_NAME "dltensor"
#define DL_NAME_VERSIONED "dltensor_versioned"

enum dl_device_kind { DL_CPU = 1, DL_CUDA = 2 };

struct dl_device {
	int32_t kind;
	int32_t number;
};

enum dl_code {
	DL_INT = 0,
	DL_UINT = 1,
	DL_FLOAT = 2,
	DL_BFLOAT = 4,
	DL_COMPLEX = 5,
	DL_BOOL = 6,
	DL_F8_E4M3FN = 10,
	DL_F8_E4M3FNUZ = 11,
	DL_F8_E5M2 = 12,
	DL_F8_E5M2FNUZ = 13,
	DL_F8_E8M0FNU = 14,
};

struct dl_dtype {
	uint8_t code;
	uint8_t bits;
	uint16_t lanes;
};

struct dl_tensor {
	void *data;
	struct dl_device device;
	int32_t rank;
	struct dl_dtype dtype;
	int64_t *shape;
	int64_t *strides; /* in elements */
	uint64_t byte_offset;
};

/* What a capsule of DL_NAME points to. */
struct dl_managed {
	struct dl_tensor tensor;
	void *context;
	void (*deleter)(struct dl_managed *self);
};

#define DL_READ_ONLY UINT64_C(1)

/* And one of DL_NAME_VERSIONED. */
struct dl_versioned {
	uint32_t major;
	uint32_t minor;
	void *context;
	void (*deleter)(struct dl_versioned *self);
	uint64_t flags;
	struct dl_tensor tensor;
};

#endif /* PYTHON_SHIM_EXT_DLPACK_H */
