/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/hooks.h"

CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes,
			   unsigned int flags)
{
	return PL_FORWARD(cuMemAllocManaged, (address, bytes, flags));
}

CUresult cuArrayCreate_v2(CUarray *array,
			  const CUDA_ARRAY_DESCRIPTOR *descriptor)
{
	return PL_FORWARD(cuArrayCreate_v2, (array, descriptor));
}

CUresult cuArray3DCreate_v2(CUarray *array,
			    const CUDA_ARRAY3D_DESCRIPTOR *descriptor)
{
	return PL_FORWARD(cuArray3DCreate_v2, (array, descriptor));
}

CUresult cuArrayDestroy(CUarray array)
{
	return PL_FORWARD(cuArrayDestroy, (array));
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *array,
				const CUDA_ARRAY3D_DESCRIPTOR *descriptor,
				unsigned int levels)
{
	return PL_FORWARD(cuMipmappedArrayCreate, (array, descriptor, levels));
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray array)
{
	return PL_FORWARD(cuMipmappedArrayDestroy, (array));
}

CUresult cuGraphAddMemAllocNode(CUgraphNode *node, CUgraph graph,
				const CUgraphNode *dependencies, size_t count,
				CUDA_MEM_ALLOC_NODE_PARAMS *params)
{
	return PL_FORWARD(cuGraphAddMemAllocNode,
			  (node, graph, dependencies, count, params));
}

CUresult cuDeviceGraphMemTrim(CUdevice device)
{
	return PL_FORWARD(cuDeviceGraphMemTrim, (device));
}
