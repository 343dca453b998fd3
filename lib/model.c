/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Models: none yet. */
#include "include/poolswitch.h"

#include "base/status.h"

static enum ps_status none(void)
{
	return bs_fail(PS_UNSUPPORTED, "this library has no models");
}

enum ps_status ps_model_add(const char *socket,
			    const struct ps_model_source *source,
			    int timeout_ms, unsigned char *hash_out)
{
	(void)socket, (void)source, (void)timeout_ms, (void)hash_out;
	return none();
}

enum ps_status ps_model_order(const char *socket, enum ps_model_action action,
			      const char *name, int timeout_ms)
{
	(void)socket, (void)action, (void)name, (void)timeout_ms;
	return none();
}

enum ps_status ps_model_attach(struct ps_pool *pool, const char *name,
			       const unsigned char *hash,
			       struct ps_model **model_out)
{
	(void)pool, (void)name, (void)hash, (void)model_out;
	return none();
}

enum ps_status ps_model_detach(struct ps_model *model)
{
	return model == NULL ? PS_OK : none();
}

enum ps_status ps_model_get_info(const struct ps_model *model,
				 struct ps_model_info *info)
{
	(void)model, (void)info;
	return none();
}

enum ps_status ps_model_get_tensor(const struct ps_model *model,
				   uint32_t number,
				   struct ps_tensor *tensor_out)
{
	(void)model, (void)number, (void)tensor_out;
	return none();
}

enum ps_status ps_model_find_tensor(const struct ps_model *model,
				    const char *name, uint32_t *number_out)
{
	(void)model, (void)name, (void)number_out;
	return none();
}

enum ps_status ps_model_use(struct ps_model *model, uint32_t priority,
			    int timeout_ms)
{
	(void)model, (void)priority, (void)timeout_ms;
	return none();
}

enum ps_status ps_model_wait(struct ps_model *model, void *stream,
			     uint32_t tensor)
{
	(void)model, (void)stream, (void)tensor;
	return none();
}

enum ps_status ps_model_release(struct ps_model *model, void *stream)
{
	(void)model, (void)stream;
	return none();
}

enum ps_status ps_model_check(struct ps_model *model)
{
	(void)model;
	return none();
}

enum ps_status ps_model_set_costs(struct ps_model *model,
				  const uint32_t *nanoseconds, uint32_t count)
{
	(void)model, (void)nanoseconds, (void)count;
	return none();
}
