/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Plain device memory, as programs ask for it. */
#include "tests/preload/program.h"

#include <errno.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

static CUdeviceptr take(size_t bytes)
{
	CUdeviceptr address = 0;

	TH_CU(th_cu.cuMemAlloc_v2(&address, bytes));
	TH_CHECK(address % 512 == 0 && address != 0);
	return address;
}

/* Host memory is copied there and back. */
static void use(CUdeviceptr address, size_t bytes)
{
	unsigned char in[4096], out[4096];

	memset(in, 0x5a, sizeof(in));
	TH_CU(th_cu.cuMemcpyHtoD_v2(address + bytes - sizeof(in), in,
				    sizeof(in)));
	TH_CU(th_cu.cuMemcpyDtoH_v2(out, address + bytes - sizeof(out),
				    sizeof(out)));
	TH_CHECK(memcmp(in, out, sizeof(in)) == 0);
}

static void frees(void)
{
	CUdeviceptr address;

	th_cuda_open();
	address = take(3 * MIB);
	use(address, 3 * MIB);
	TH_CU(th_cu.cuMemFree_v2(address));
	TH_CU_IS(th_cu.cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE);
	TH_CU(th_cu.cuMemFree_v2(0));
}

/* The test looks at the daemon meanwhile. */
static void holds(void)
{
	CUdeviceptr address;

	th_cuda_open();
	address = take(3 * MIB);
	use(address, 3 * MIB);
	th_program_pause();
	TH_CU(th_cu.cuMemFree_v2(address));
}

static void wrong(void)
{
	CUdeviceptr address = 7;

	th_cuda_open();
	TH_CU_IS(th_cu.cuMemAlloc_v2(&address, 0), CUDA_ERROR_INVALID_VALUE);
	TH_CU_IS(th_cu.cuMemAlloc_v2(NULL, 512), CUDA_ERROR_INVALID_VALUE);
	TH_CHECK(address == 7);
	address = take(4096);
	TH_CU_IS(th_cu.cuMemFree_v2(address + 512), CUDA_ERROR_INVALID_VALUE);
	TH_CU(th_cu.cuMemFree_v2(address));
}

static void small(void)
{
	CUdeviceptr first, second;

	th_cuda_open();
	first = take(1);
	second = take(1);
	TH_CHECK(first != second);
	TH_CU(th_cu.cuMemFree_v2(first));
	TH_CU(th_cu.cuMemFree_v2(second));
}

TH_PROGRAM({ "frees", frees }, { "holds", holds }, { "wrong", wrong },
	   { "small", small })
