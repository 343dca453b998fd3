/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "lib/config.h"

#include "base/status.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct ps_pool_config defaults = { .gpu = "0" };

enum ps_status ps_pool_config_new(struct ps_pool_config **config_out)
{
	struct ps_pool_config *config = malloc(sizeof(*config));

	if (config == NULL)
		return bs_fail(PS_HOST_MEMORY, "no host memory for a "
					       "configuration");
	*config = defaults;
	*config_out = config;
	return PS_OK;
}

void ps_pool_config_free(struct ps_pool_config *config)
{
	free(config);
}

static bool is_number(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits > 0 && digits <= 3 && text[digits] == '\0';
}

static bool is_uuid(const char *text)
{
	static const char form[] = "GPU-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

	if (strlen(text) != sizeof(form) - 1)
		return false;
	for (size_t i = 0; form[i] != '\0'; i++) {
		if (form[i] == 'x' ? !isxdigit((unsigned char)text[i])
				   : text[i] != form[i])
			return false;
	}
	return true;
}

enum ps_status ps_pool_config_set_gpu(struct ps_pool_config *config,
				      const char *gpu)
{
	if (gpu == NULL)
		gpu = "0";
	if (!is_number(gpu) && !is_uuid(gpu))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "gpu \"%.60s\" is neither a number such as "
			       "\"0\" nor a UUID such as \"GPU-01234567-89ab-"
			       "cdef-0123-456789abcdef\"",
			       gpu);
	memcpy(config->gpu, gpu, strlen(gpu) + 1);
	return PS_OK;
}

void ps_pool_config_set_size(struct ps_pool_config *config, uint64_t bytes)
{
	config->wish.size = bytes;
}

void ps_pool_config_set_headroom(struct ps_pool_config *config, uint64_t bytes)
{
	config->wish.headroom = bytes;
	config->wish.has_headroom = true;
}

void ps_pool_config_set_parameter_size(struct ps_pool_config *config,
				       uint64_t bytes)
{
	config->wish.parameter = bytes;
	config->wish.has_parameter = true;
}

void ps_pool_config_set_segment_size(struct ps_pool_config *config,
				     uint64_t bytes)
{
	config->wish.segment_size = bytes;
}

void ps_pool_config_set_mode(struct ps_pool_config *config,
			     enum ps_share_mode mode)
{
	config->wish.mode = mode;
}

const struct ip_wish *lb_config_wish(const struct ps_pool_config *config)
{
	return config == NULL ? &defaults.wish : &config->wish;
}
