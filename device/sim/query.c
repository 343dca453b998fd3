/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What the driver says of an address. */
#include "device/sim/address.h"
#include "device/sim/entry.h"

#include <string.h>

static size_t size_of(CUpointer_attribute attribute)
{
	switch (attribute) {
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
	case CU_POINTER_ATTRIBUTE_MAPPED:
		return sizeof(bool);
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		return sizeof(int);
	default:
		return sizeof(uint64_t);
	}
}

static bool is_host(const struct sim_mapping *mapping)
{
	return mapping->kind == SIM_HOST || mapping->kind == SIM_REGISTERED ||
	       mapping->range.is_host;
}

/* A value of one of the sizes above, all of them little-endian. */
static CUresult find_value(CUpointer_attribute attribute, uint64_t address,
			   const struct sim_mapping *mapping, uint64_t *value)
{
	bool is_async = mapping->kind == SIM_ASYNC;
	bool is_of_graph = mapping->kind == SIM_GRAPH;

	switch (attribute) {
	case CU_POINTER_ATTRIBUTE_CONTEXT:
		*value = is_async || is_of_graph ? 0 : (uint64_t)mapping->owner;
		break;
	case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
		*value = is_host(mapping) ? CU_MEMORYTYPE_HOST
					  : CU_MEMORYTYPE_DEVICE;
		break;
	case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
		*value = address;
		break;
	case CU_POINTER_ATTRIBUTE_HOST_POINTER:
		if (!is_host(mapping) && mapping->kind != SIM_MANAGED)
			return CUDA_ERROR_INVALID_VALUE;
		*value = address;
		break;
	case CU_POINTER_ATTRIBUTE_BUFFER_ID:
		*value = mapping->range.serial;
		break;
	case CU_POINTER_ATTRIBUTE_IS_MANAGED:
		*value = mapping->kind == SIM_MANAGED;
		break;
	case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
		*value = mapping->range.device;
		break;
	case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
		*value = mapping->kind == SIM_ALLOC;
		break;
	case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
	case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
		*value = mapping->address;
		break;
	case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
	case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
		*value = mapping->bytes;
		break;
	case CU_POINTER_ATTRIBUTE_MAPPED:
		*value = 1;
		break;
	case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
		*value = mapping->kind == SIM_SEGMENT
				 ? CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR
				 : CU_MEM_HANDLE_TYPE_NONE;
		break;
	case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
		*value = is_async ? (uint64_t)mapping->owner : 0;
		break;
	default:
		return CUDA_ERROR_INVALID_VALUE;
	}
	return CUDA_SUCCESS;
}

/* The mapping that a program may know of. */
static bool find_mapping(uint64_t address, struct sim_mapping *mapping_out)
{
	return sim_address_find(address, mapping_out) &&
	       mapping_out->kind != SIM_ARRAY;
}

CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute,
			       CUdeviceptr address)
{
	struct sim_mapping mapping;
	CUresult result;
	uint64_t number;

	ENTER_CONTEXT(cuPointerGetAttribute);
	if (!value || !find_mapping(address, &mapping))
		return CUDA_ERROR_INVALID_VALUE;
	result = find_value(attribute, address, &mapping, &number);
	if (result == CUDA_SUCCESS)
		memcpy(value, &number, size_of(attribute));
	return result;
}

/* What does not apply, or an address that is not the GPU's, reads as zeros. */
CUresult cuPointerGetAttributes(unsigned int count,
				CUpointer_attribute *attributes, void **values,
				CUdeviceptr address)
{
	struct sim_mapping mapping;
	uint64_t number;
	bool is_known;
	unsigned int i;

	ENTER_CONTEXT(cuPointerGetAttributes);
	if (!count || !attributes || !values)
		return CUDA_ERROR_INVALID_VALUE;
	is_known = find_mapping(address, &mapping);
	for (i = 0; i < count; i++) {
		number = 0;
		if (is_known)
			find_value(attributes[i], address, &mapping, &number);
		memcpy(values[i], &number, size_of(attributes[i]));
	}
	return CUDA_SUCCESS;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes,
				 CUdeviceptr address)
{
	struct sim_mapping mapping;

	ENTER_CONTEXT(cuMemGetAddressRange_v2);
	if (!find_mapping(address, &mapping) || is_host(&mapping))
		return CUDA_ERROR_NOT_FOUND;
	if (base)
		*base = mapping.address;
	if (bytes)
		*bytes = mapping.bytes;
	return CUDA_SUCCESS;
}
