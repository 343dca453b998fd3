#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""NumPy looks at the simulated GPU's memory."""

import unittest

import support

support.skip_without("numpy")

import numpy
import poolswitch


class BlockTest(support.DaemonTest):
    def test_array_is_the_pools_memory(self):
        pool = self.attach()
        tensor = pool.empty((3, 4), "F32")
        array = numpy.from_dlpack(tensor)
        array[:] = numpy.arange(12, dtype="f4").reshape(3, 4)
        self.assertEqual(pool.read(tensor.address, 48), array.tobytes())
        self.assertEqual(array.__array_interface__["data"][0], tensor.address)
        del array, tensor

    def test_each_dtype_of_numpy_is_known(self):
        pool = self.attach()
        for dtype, numpys in (("BOOL", "bool"), ("U8", "uint8"), ("I8", "int8"),
                              ("I16", "int16"), ("U16", "uint16"),
                              ("F16", "float16"), ("I32", "int32"),
                              ("U32", "uint32"), ("F32", "float32"),
                              ("I64", "int64"), ("U64", "uint64"),
                              ("F64", "float64"), ("C64", "complex64")):
            self.assertEqual(numpy.from_dlpack(pool.empty(2, dtype)).dtype, numpys)

    def test_scalar_and_nothing_have_their_shapes(self):
        pool = self.attach()
        self.assertEqual(numpy.from_dlpack(pool.empty((), "I64")).shape, ())
        self.assertEqual(numpy.from_dlpack(pool.empty((0, 5))).shape, (0, 5))


if __name__ == "__main__":
    support.main()
