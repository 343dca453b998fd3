/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A program of the CUDA runtime, which run.py compiles with the runtime static
 * and shared, with the legacy default stream and with one for each thread:
 * each finds the driver's functions by another way. Prints sums, waits for a
 * line, and ends.
 */
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(call)                                                            \
	do {                                                                   \
		cudaError_t result = (call);                                   \
		if (result != cudaSuccess) {                                   \
			fprintf(stderr, "%s: %s\n", #call,                     \
				cudaGetErrorString(result));                   \
			exit(1);                                               \
		}                                                              \
	} while (0)

static const int words = 1 << 22;

__global__ void fill(unsigned int *out, unsigned int seed, int count)
{
	int i = blockIdx.x * blockDim.x + threadIdx.x;

	if (i < count)
		out[i] = i * 2654435761u + seed;
}

static unsigned long long sum_of(const unsigned int *device)
{
	unsigned int *host = (unsigned int *)malloc(words * sizeof(*host));
	unsigned long long sum = 0;

	CHECK(cudaMemcpy(host, device, words * sizeof(*host),
			 cudaMemcpyDeviceToHost));
	for (int i = 0; i < words; i++)
		sum = sum * 31 + host[i];
	free(host);
	return sum;
}

int main()
{
	unsigned int *plain, *ordered, *pitched;
	size_t pitch;

	CHECK(cudaMalloc(&plain, words * sizeof(*plain)));
	CHECK(cudaMallocAsync(&ordered, words * sizeof(*ordered), 0));
	CHECK(cudaMallocPitch(&pitched, &pitch, 4096 * sizeof(*pitched),
			      words / 4096));
	fill<<<words / 256, 256>>>(plain, 1, words);
	fill<<<words / 256, 256>>>(ordered, 2, words);
	fill<<<words / 256, 256>>>(pitched, 3, words);
	CHECK(cudaDeviceSynchronize());
	printf("%llx %llx %llx\n", sum_of(plain), sum_of(ordered),
	       sum_of(pitched));
	fflush(stdout);
	getchar();
	CHECK(cudaFree(pitched));
	CHECK(cudaFreeAsync(ordered, 0));
	CHECK(cudaFree(plain));
	CHECK(cudaDeviceSynchronize());
	return 0;
}
