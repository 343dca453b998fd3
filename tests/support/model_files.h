/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Safetensors files for tests, in memory (memfd). The bytes of a tensor follow
 * from its name, so that whoever knows the name can check them.
 */
#ifndef TESTS_SUPPORT_MODEL_FILES_H
#define TESTS_SUPPORT_MODEL_FILES_H

#include <stddef.h>
#include <stdint.h>

/* A tensor of U8, one dimension. */
struct th_tensor {
	const char *name;
	uint64_t bytes;
};

/* Such a file, with tensors in this order. Its times are long past, so that
 * any change shows. The caller's. */
int th_model_file(const struct th_tensor *tensors, size_t count);
/* A file with this header, whatever it says, and so many bytes behind it. */
int th_raw_model_file(const char *header, size_t data_bytes);

/* Byte @at of a tensor. */
uint8_t th_tensor_byte(const char *name, uint64_t at);
/* Asserts all of them. */
void th_assert_tensor(const uint8_t *memory, const struct th_tensor *tensor);

#endif /* TESTS_SUPPORT_MODEL_FILES_H */
