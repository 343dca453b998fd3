/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* ps_model_add() and ps_model_order(): visits to the daemon, without a pool
 * and a GPU. ps_model_set_costs(), of a model that is attached. */
#include "lib/model.h"
#include "lib/model_files.h"

#include "base/status.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ORDER_MS 10000

/* ---- a visit ---- */

static enum ps_status check_timeout(int timeout_ms)
{
	if (timeout_ms >= 0 || timeout_ms == PS_TIMEOUT_DEFAULT)
		return PS_OK;
	return bs_fail(PS_INVALID_ARGUMENT,
		       "timeout is %d ms, must be at least 0, or "
		       "PS_TIMEOUT_DEFAULT (%d)",
		       timeout_ms, PS_TIMEOUT_DEFAULT);
}

static enum ps_status check_name(const char *name,
				 char name_out[IP_MODEL_NAME_BYTES])
{
	size_t length = name == NULL ? 0 : strnlen(name, IP_MODEL_NAME_BYTES);

	memset(name_out, 0, IP_MODEL_NAME_BYTES);
	if (length < IP_MODEL_NAME_BYTES && length > 0)
		memcpy(name_out, name, length);
	if (ip_model_name_is_ok(name_out))
		return PS_OK;
	return bs_fail(PS_INVALID_ARGUMENT,
		       "a model's name has 1 to %u letters, digits and "
		       "-_.:/@+, \"%.*s\" has other bytes or another length",
		       PS_MODEL_NAME_MAX, PS_MODEL_NAME_MAX,
		       name == NULL ? "" : name);
}

static enum ps_status visit(const char *socket, int *fd_out,
			    struct ip_client *client_out)
{
	char path[IP_PATH_BYTES];
	struct ip_paths paths;
	enum ps_status status = ip_paths_find(socket, &paths);
	int fd;

	if (status == PS_OK)
		status = ip_connect(&paths, &fd, path);
	if (status != PS_OK)
		return status;
	status = ip_client_init(client_out, fd, LB_ANSWER_MS);
	if (status == PS_OK)
		*fd_out = fd;
	else
		close(fd);
	return status;
}

/* ---- add ---- */

static enum ps_status check_plan(const struct ps_model_source *source)
{
	bool counts = source->plan == PS_PLAN_GROUPS;

	if ((int)source->plan < PS_PLAN_BEST || source->plan > PS_PLAN_GROUPS)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "%d is no plan: use one of enum ps_model_plan",
			       (int)source->plan);
	if (counts != (source->groups > 0))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "groups is %" PRIu32 ", must be %s",
			       source->groups,
			       counts ? "at least 1 with PS_PLAN_GROUPS"
				      : "0 with this plan");
	return PS_OK;
}

static enum ps_status check_source(const struct ps_model_source *source)
{
	if (source->struct_size < sizeof(*source))
		return bs_fail(PS_INVALID_ARGUMENT,
			       "struct_size is %zu and must be at least %zu: "
			       "set it to sizeof(struct ps_model_source)",
			       source->struct_size, sizeof(*source));
	if ((source->flags & ~(unsigned int)PS_MODEL_PUBLIC) != 0)
		return bs_fail(PS_INVALID_ARGUMENT,
			       "flags are %#x, of which only %#x is known",
			       source->flags, PS_MODEL_PUBLIC);
	return check_plan(source);
}

/* For people: what cannot be printed becomes '?', and the end is what counts
 * of a path that is too long. */
static void describe(const struct ps_model_source *source,
		     char text[IP_SOURCE_BYTES])
{
	const char *from = source->path == NULL ? "" : source->path;
	size_t length = strlen(from), n = 0;

	if (length >= IP_SOURCE_BYTES)
		from += length - (IP_SOURCE_BYTES - 1);
	for (; *from != '\0'; from++)
		text[n++] = *from >= ' ' && *from <= '~' ? *from : '?';
}

static enum ps_status add(const char *socket, struct ip_add *add,
			  const struct lb_files *files, int timeout_ms,
			  uint8_t hash[PS_MODEL_HASH_BYTES])
{
	struct ip_client client;
	int fd = -1;
	enum ps_status status = visit(socket, &fd, &client);

	if (status != PS_OK)
		return status;
	status = ip_client_add(&client, add, files->fd, files->count,
			       timeout_ms, hash);
	close(fd);
	return status;
}

enum ps_status ps_model_add(const char *socket,
			    const struct ps_model_source *source,
			    int timeout_ms, unsigned char *hash_out)
{
	uint8_t hash[PS_MODEL_HASH_BYTES];
	struct lb_files files;
	struct ip_add message = { 0 };
	enum ps_status status = check_source(source);

	if (status == PS_OK)
		status = check_timeout(timeout_ms);
	if (status == PS_OK)
		status = check_name(source->name, message.name);
	if (status == PS_OK)
		status = lb_files_open(source, &files);
	if (status != PS_OK)
		return status;
	message.flags = source->flags;
	message.plan = (uint32_t)source->plan;
	message.groups = source->groups;
	describe(source, message.source);
	status = add(socket, &message, &files, timeout_ms, hash);
	lb_files_close(&files);
	if (status == PS_OK && hash_out != NULL)
		memcpy(hash_out, hash, sizeof(hash));
	return status;
}

/* ---- order ---- */

enum ps_status ps_model_order(const char *socket, enum ps_model_action action,
			      const char *name, int timeout_ms)
{
	struct ip_order order = { .order = (uint32_t)action };
	struct ip_client client;
	int fd = -1;
	enum ps_status status = check_timeout(timeout_ms);

	if (status == PS_OK &&
	    ((int)action < PS_MODEL_LOAD || action > PS_MODEL_REMOVE))
		status = bs_fail(PS_INVALID_ARGUMENT,
				 "%d is nothing to do with a model: use one of "
				 "enum ps_model_action",
				 (int)action);
	if (status == PS_OK)
		status = check_name(name, order.name);
	if (status == PS_OK)
		status = visit(socket, &fd, &client);
	if (status != PS_OK)
		return status;
	order.wait_ms = timeout_ms == PS_TIMEOUT_DEFAULT ? ORDER_MS
							 : (uint32_t)timeout_ms;
	if (order.wait_ms > IP_ORDER_WAIT_MAX_MS)
		order.wait_ms = IP_ORDER_WAIT_MAX_MS;
	status = ip_client_order(&client, &order);
	close(fd);
	return status;
}

/* ---- costs ---- */

#define COST_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

static enum ps_status fill_costs(int fd, const uint32_t *nanoseconds,
				 uint32_t count)
{
	size_t bytes = count * sizeof(*nanoseconds), done = 0;
	ssize_t put;

	while (done < bytes) {
		put = pwrite(fd, (const char *)nanoseconds + done, bytes - done,
			     (off_t)done);
		if (put <= 0)
			return bs_fail_errno("writing %zu bytes of costs",
					     bytes);
		done += (size_t)put;
	}
	if (fcntl(fd, F_ADD_SEALS, COST_SEALS) != 0)
		return bs_fail_errno("sealing %zu bytes of costs", bytes);
	return PS_OK;
}

struct costing {
	const struct ps_model *model;
	int fd;
	enum ps_status denial;
};

static enum ps_status say_costs(struct lb_lease *lease, void *arg)
{
	struct costing *costing = arg;
	enum ps_status status = ip_client_costs(
		&lease->client, costing->model->number,
		(uint32_t)costing->model->manifest.count, costing->fd);

	costing->denial = PS_OK;
	return lb_model_heard(lease, status, &costing->denial);
}

static enum ps_status send_costs(const struct ps_model *model, int fd)
{
	struct lb_lease *lease = model->models->lease;
	struct costing costing = { .model = model, .fd = fd };
	enum ps_status status;

	bs_lock_take(&lease->requests);
	status = lb_session_ask(lease, say_costs, &costing);
	bs_lock_drop(&lease->requests);
	return status == PS_OK ? costing.denial : status;
}

enum ps_status ps_model_set_costs(struct ps_model *model,
				  const uint32_t *nanoseconds, uint32_t count)
{
	enum ps_status status = lb_model_enter(model);
	int fd;

	if (status == PS_OK && count != model->manifest.count)
		status = bs_fail(PS_INVALID_ARGUMENT,
				 "%" PRIu32 " costs of model %s, which has %zu "
				 "tensors: give one for each",
				 count, model->name, model->manifest.count);
	if (status != PS_OK)
		return status;
	fd = memfd_create("poolswitch-costs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return bs_fail_errno("no memory to send costs in");
	status = fill_costs(fd, nanoseconds, count);
	if (status == PS_OK)
		status = send_costs(model, fd);
	close(fd);
	return status;
}
