/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every dtype of the safetensors format, by the name that files use. The
 * order is part of a layout's hash: add at the end.
 *
 * DTYPE(name, bits of one element)
 */
DTYPE(BOOL, 8)
DTYPE(U8, 8)
DTYPE(I8, 8)
DTYPE(I16, 16)
DTYPE(U16, 16)
DTYPE(F16, 16)
DTYPE(BF16, 16)
DTYPE(I32, 32)
DTYPE(U32, 32)
DTYPE(F32, 32)
DTYPE(I64, 64)
DTYPE(U64, 64)
DTYPE(F64, 64)
DTYPE(C64, 64)
DTYPE(F8_E4M3, 8)
DTYPE(F8_E5M2, 8)
DTYPE(F8_E8M0, 8)
DTYPE(F8_E4M3FNUZ, 8)
DTYPE(F8_E5M2FNUZ, 8)
DTYPE(F6_E2M3, 6)
DTYPE(F6_E3M2, 6)
DTYPE(F4, 4)
