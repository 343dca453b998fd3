/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* cuGetProcAddress(): a function by its plain name and a version of CUDA. */
#include "device/sim/per_thread.h"

#include <string.h>

typedef void function(void);

static const struct version {
	const char *name;
	int from; /* the first version of CUDA that means this one */
	function *plain;
	function *per_thread;
} versions[] = {
#define VERSION(name, from, plain, per_thread)                                 \
	{ #name, from, (function *)plain, (function *)per_thread },
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

	if (result != CUDA_SUCCESS)
		return result;
	found = find(symbol, version, &how);
	if (found && flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
		chosen = found->per_thread;
	else if (found)
		chosen = found->plain;
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
