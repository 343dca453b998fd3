/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* cuGetProcAddress(): a function by its plain name and a version of CUDA. */
#include "device/sim/per_thread.h"

#include <string.h>

typedef void function(void);

/*
 * A second address for each function, whose code is a jump to the first: for
 * tests of what must not rely on one address being another.
 */
#if defined(__x86_64__)
#define JUMP "jmp "
#else
#define JUMP "b "
#endif
#define SECOND(name)                                                           \
	void second_##name(void);                                              \
	__asm__(".pushsection .text\n"                                         \
		"second_" #name ": " JUMP #name "\n"                           \
		".popsection\n");
#define SYMBOL(need, type, name, params) SECOND(name)
#include "device/symbols.def"
#undef SYMBOL
#define PER_THREAD(name, params, args) SECOND(name##_ptsz)
#include "device/sim/per_thread.def"
#undef PER_THREAD
SECOND(cuMemcpyHtoD_v2_ptds)
SECOND(cuMemcpyDtoH_v2_ptds)
SECOND(cuMemcpyDtoD_v2_ptds)
SECOND(cuMemsetD8_v2_ptds)
SECOND(cuMemsetD32_v2_ptds)

static const struct version {
	const char *name;
	int from; /* the first version of CUDA that means this one */
	function *plain[2];
	function *per_thread[2];
} versions[] = {
#define VERSION(name, from, plain, per_thread)                                 \
	{ #name,                                                               \
	  from,                                                                \
	  { (function *)plain, second_##plain },                               \
	  { (function *)per_thread, second_##per_thread } },
#include "device/sim/versions.def"
#undef VERSION
};

/* The newest that the version knows; NULL and why there is none. */
static const struct version *find(const char *name, int version,
				  CUdriverProcAddressQueryResult *status)
{
	const struct version *found = NULL;
	const struct version *each;
	size_t i;

	*status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
	for (i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
		each = &versions[i];
		if (strcmp(each->name, name) != 0)
			continue;
		if (each->from <= version &&
		    (!found || each->from > found->from))
			found = each;
		*status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
	}
	if (found)
		*status = CU_GET_PROC_ADDRESS_SUCCESS;
	return found;
}

static CUresult check(const char *symbol, void **address, int version,
		      cuuint64_t flags)
{
	int driver;

	if (!symbol || !address ||
	    flags > CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
		return CUDA_ERROR_INVALID_VALUE;
	if (cuDriverGetVersion(&driver) != CUDA_SUCCESS || version > driver)
		return CUDA_ERROR_INVALID_VALUE;
	return CUDA_SUCCESS;
}

/* Finding none is a success with NULL. */
static CUresult answer(const char *symbol, void **address, int version,
		       cuuint64_t flags, CUdriverProcAddressQueryResult *status)
{
	CUresult result = check(symbol, address, version, flags);
	CUdriverProcAddressQueryResult how;
	const struct version *found;
	function *chosen = NULL;
	unsigned int which;

	if (result != CUDA_SUCCESS)
		return result;
	found = find(symbol, version, &how);
	which = sim_setting("POOLSWITCH_SIM_SECOND_ADDRESSES", 0) != 0;
	if (found && flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
		chosen = found->per_thread[which];
	else if (found)
		chosen = found->plain[which];
	memcpy(address, &chosen, sizeof(chosen));
	if (status)
		*status = how;
	return CUDA_SUCCESS;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **address, int version,
			     cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	ENTER_IF(cuGetProcAddress_v2, SIM_ALWAYS);
	return answer(symbol, address, version, flags, status);
}

CUresult cuGetProcAddress_v2_ptsz(const char *symbol, void **address,
				  int version, cuuint64_t flags,
				  CUdriverProcAddressQueryResult *status)
{
	ENTER_IF(cuGetProcAddress_v2_ptsz, SIM_ALWAYS);
	if (flags == CU_GET_PROC_ADDRESS_DEFAULT)
		flags = CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
	return answer(symbol, address, version, flags, status);
}

/* CUDA 11's, to which nothing found is an error. */
CUresult cuGetProcAddress(const char *symbol, void **address, int version,
			  cuuint64_t flags)
{
	CUdriverProcAddressQueryResult how;
	CUresult result;

	ENTER_IF(cuGetProcAddress, SIM_ALWAYS);
	result = answer(symbol, address, version, flags, &how);
	if (result == CUDA_SUCCESS && how != CU_GET_PROC_ADDRESS_SUCCESS)
		result = CUDA_ERROR_NOT_FOUND;
	return result;
}
