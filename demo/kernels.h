/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What one thread of each of the demo's kernels does, in the words that C and
 * CUDA C share: demo/kernels.cu makes GPU kernels of it, demo/kernels_sim.c
 * the same kernels for the simulated GPU.
 *
 * Layouts: x and y are [batch, channels, height, width] or [batch, features];
 * a dense w is [in, out], a 3x3 w is [out, in, 3, 3]. i counts the elements
 * of the output; the caller guards its end.
 */
#ifndef DEMO_KERNELS_H
#define DEMO_KERNELS_H

#ifdef __CUDACC__
#define DM_THREAD static __device__ __forceinline__
#define DM_RESTRICT __restrict__
#else
#define DM_THREAD static inline
#define DM_RESTRICT restrict
#endif

/* What y[i] of a dense layer is. */
DM_THREAD void dm_dense_at(unsigned int i, const float *DM_RESTRICT x,
			   const float *DM_RESTRICT w,
			   const float *DM_RESTRICT b, float *DM_RESTRICT y,
			   unsigned int n_in, unsigned int n_out,
			   unsigned int relu)
{
	unsigned int row = i / n_out;
	unsigned int column = i % n_out;
	float sum = b[column];

	for (unsigned int k = 0; k < n_in; k++)
		sum += x[row * n_in + k] * w[k * n_out + column];
	y[i] = relu && sum < 0 ? 0 : sum;
}

/* What one input plane adds to a 3x3 neighbourhood; zeros outside. */
DM_THREAD float dm_conv3x3_plane(const float *DM_RESTRICT plane,
				 const float *DM_RESTRICT w, int row,
				 int column, int size)
{
	float sum = 0;

	for (int dy = -1; dy <= 1; dy++) {
		for (int dx = -1; dx <= 1; dx++) {
			int yy = row + dy;
			int xx = column + dx;

			if (yy >= 0 && yy < size && xx >= 0 && xx < size)
				sum += plane[yy * size + xx] *
				       w[(dy + 1) * 3 + dx + 1];
		}
	}
	return sum;
}

/* What y[i] of a 3x3 convolution with relu is; size x size planes. */
DM_THREAD void dm_conv3x3_at(unsigned int i, const float *DM_RESTRICT x,
			     const float *DM_RESTRICT w,
			     const float *DM_RESTRICT b, float *DM_RESTRICT y,
			     unsigned int n_in, unsigned int n_out,
			     unsigned int size)
{
	unsigned int area = size * size;
	unsigned int channel = i / area % n_out;
	unsigned int image = i / area / n_out;
	int row = (int)(i % area / size);
	int column = (int)(i % size);
	float sum = b[channel];

	for (unsigned int k = 0; k < n_in; k++)
		sum += dm_conv3x3_plane(&x[(image * n_in + k) * area],
					&w[(channel * n_in + k) * 9], row,
					column, (int)size);
	y[i] = sum < 0 ? 0 : sum;
}

/* What y[i] of a 2x2 max pool is; size is that of the input planes, even. */
DM_THREAD void dm_maxpool2_at(unsigned int i, const float *DM_RESTRICT x,
			      float *DM_RESTRICT y, unsigned int size)
{
	unsigned int half = size / 2;
	unsigned int plane = i / (half * half);
	unsigned int row = i / half % half * 2;
	unsigned int column = i % half * 2;
	const float *at = &x[(plane * size + row) * size + column];
	float best = at[0];

	best = at[1] > best ? at[1] : best;
	best = at[size] > best ? at[size] : best;
	best = at[size + 1] > best ? at[size + 1] : best;
	y[i] = best;
}

/* The best class of row i; the first of equals. */
DM_THREAD void dm_argmax_at(unsigned int i, const float *DM_RESTRICT x,
			    unsigned int *DM_RESTRICT y, unsigned int classes)
{
	unsigned int best = 0;

	for (unsigned int k = 1; k < classes; k++)
		if (x[i * classes + k] > x[i * classes + best])
			best = k;
	y[i] = best;
}

#endif /* DEMO_KERNELS_H */
