/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "demo/data.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"

#define MAX_IMAGES 100000u

static enum ps_status open_file(const char *folder, const char *name,
				int *fd_out)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s.safetensors", folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return bs_fail_errno("cannot open %s; name its folder with "
				     "--data",
				     path);
	*fd_out = fd;
	return PS_OK;
}

enum ps_status dm_model_open(const char *folder, const char *name,
			     struct dm_model *model_out)
{
	struct dm_model model = { .fd = -1 };
	enum ps_status status = open_file(folder, name, &model.fd);

	if (status != PS_OK)
		return status;
	status = md_file_read(model.fd, &model.file);
	if (status != PS_OK)
		goto close_fd;
	status = md_layout_init(&model.file, &model.layout);
	if (status != PS_OK)
		goto done_file;
	*model_out = model;
	return PS_OK;
done_file:
	md_file_done(&model.file);
close_fd:
	close(model.fd);
	return bs_fail_prefix(status, "%s.safetensors", name);
}

void dm_model_close(struct dm_model *model)
{
	if (model->layout.tensors == NULL)
		return;
	md_layout_done(&model->layout);
	md_file_done(&model->file);
	close(model->fd);
}

static enum ps_status read_tensor(int fd, const struct md_tensor *tensor,
				  void *buffer)
{
	uint64_t done = 0;

	while (done < tensor->bytes) {
		ssize_t got =
			pread(fd, (char *)buffer + done, tensor->bytes - done,
			      (off_t)(tensor->offset + done));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return bs_fail_errno("reading tensor %s failed",
					     tensor->name);
		if (got == 0)
			return bs_fail(PS_INVALID_ARGUMENT,
				       "the file was cut off inside tensor %s",
				       tensor->name);
		done += (uint64_t)got;
	}
	return PS_OK;
}

enum ps_status dm_model_read(const struct dm_model *model, size_t index,
			     void *buffer)
{
	return read_tensor(model->fd, &model->file.tensors[index], buffer);
}

enum ps_status dm_model_number(const struct dm_model *model, const char *key,
			       uint32_t *number_out)
{
	const char *text = md_file_metadata(&model->file, key);
	unsigned long number;
	char *end;

	if (text == NULL || *text < '0' || *text > '9')
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the model's metadata has no number %s; "
			       "demo/train.py writes it",
			       key);
	number = strtoul(text, &end, 10);
	if (*end != '\0' || number > UINT32_MAX)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "the model's metadata has %s = %s", key, text);
	*number_out = (uint32_t)number;
	return PS_OK;
}

/* ---- digits ---- */

static enum ps_status check_digits(const struct md_tensor *images,
				   const struct md_tensor *labels)
{
	if (images == NULL || labels == NULL)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "no tensor images or no tensor labels");
	if (images->dtype != MD_U8 || labels->dtype != MD_U8 ||
	    labels->bytes == 0 || labels->bytes > MAX_IMAGES ||
	    images->bytes != labels->bytes * DM_PIXELS)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%" PRIu64 " bytes of images and %" PRIu64
			       " of labels; %u bytes an image are expected",
			       images->bytes, labels->bytes, DM_PIXELS);
	return PS_OK;
}

static enum ps_status read_images(int fd, const struct md_tensor *images,
				  float *pixels)
{
	uint8_t *raw = malloc(images->bytes);
	enum ps_status status;

	if (raw == NULL)
		return bs_fail(PS_HOST_MEMORY,
			       "no memory for %" PRIu64 " bytes of images",
			       images->bytes);
	status = read_tensor(fd, images, raw);
	for (uint64_t i = 0; status == PS_OK && i < images->bytes; i++)
		pixels[i] = (float)raw[i] / 16;
	free(raw);
	return status;
}

static enum ps_status read_digits(int fd, const struct md_file *file,
				  struct dm_digits *digits_out)
{
	const struct md_tensor *images = md_file_find(file, "images");
	const struct md_tensor *labels = md_file_find(file, "labels");
	struct dm_digits digits = { 0 };
	enum ps_status status = check_digits(images, labels);

	if (status != PS_OK)
		return status;
	digits.count = (uint32_t)labels->bytes;
	digits.pixels = calloc(images->bytes, sizeof(float));
	digits.labels = calloc(labels->bytes, 1);
	if (digits.pixels == NULL || digits.labels == NULL)
		status = bs_fail(PS_HOST_MEMORY, "no memory for %u images",
				 digits.count);
	if (status == PS_OK)
		status = read_images(fd, images, digits.pixels);
	if (status == PS_OK)
		status = read_tensor(fd, labels, digits.labels);
	if (status != PS_OK) {
		dm_digits_free(&digits);
		return status;
	}
	*digits_out = digits;
	return PS_OK;
}

enum ps_status dm_digits_load(const char *folder, struct dm_digits *digits_out)
{
	struct md_file file;
	enum ps_status status;
	int fd = -1;

	status = open_file(folder, "digits-test", &fd);
	if (status != PS_OK)
		return status;
	status = md_file_read(fd, &file);
	if (status == PS_OK) {
		status = read_digits(fd, &file, digits_out);
		md_file_done(&file);
	}
	close(fd);
	if (status != PS_OK)
		bs_fail_prefix(status, "digits-test.safetensors");
	return status;
}

void dm_digits_free(struct dm_digits *digits)
{
	free(digits->pixels);
	free(digits->labels);
	*digits = (struct dm_digits){ 0 };
}
