/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Pools: reserved, received or attached, and their memory. */
#include "python_shim/ext/ext.h"

PyTypeObject *py_pool_type;

struct ps_pool *py_pool_enter(struct py_pool *self)
{
	if (!self->pool) {
		PyErr_SetString(PyExc_ValueError, "the pool is closed");
		return NULL;
	}
	self->users++;
	return self->pool;
}

void py_pool_leave(struct py_pool *self)
{
	self->users--;
}

/* ---- opening ---- */

/* True, or false with an exception: one object is one pool. */
static bool is_new(const struct py_pool *self)
{
	bool is_fresh = !self->was_opened && !self->users;

	if (!is_fresh)
		PyErr_SetString(PyExc_ValueError, "this is a pool already");
	return is_fresh;
}

static PyObject *opened(struct py_pool *self, enum ps_status status,
			struct ps_pool *pool)
{
	self->users--;
	if (status != PS_OK)
		return py_raise(status);
	self->pool = pool;
	self->was_opened = true;
	Py_RETURN_NONE;
}

static enum ps_status attach(const char *socket, const char *name,
			     unsigned long long reservation,
			     unsigned long long limit, int writable,
			     struct ps_pool **pool_out)
{
	struct ps_attach_config *config;
	enum ps_status status = ps_attach_config_new(&config);

	if (status != PS_OK)
		return status;
	status = ps_attach_config_set_socket(config, socket);
	if (status == PS_OK)
		status = ps_attach_config_set_name(config, name);
	ps_attach_config_set_reservation(config, reservation);
	ps_attach_config_set_limit(config, limit);
	ps_attach_config_set_writable(config, writable);
	if (status == PS_OK)
		status = ps_attach(config, pool_out);
	ps_attach_config_free(config);
	return status;
}

static PyObject *pool_attach(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	struct ps_pool *pool = NULL;
	unsigned long long reservation, limit;
	const char *socket, *name;
	enum ps_status status;
	int writable;

	if (!PyArg_ParseTuple(args, "zzKKp", &socket, &name, &reservation,
			      &limit, &writable) ||
	    !is_new(self))
		return NULL;
	self->users++;
	Py_BEGIN_ALLOW_THREADS;
	status = attach(socket, name, reservation, limit, writable, &pool);
	Py_END_ALLOW_THREADS;
	return opened(self, status, pool);
}

/* What is to be reserved; negative numbers: the default. */
struct wish {
	const char *gpu;
	unsigned long long size;
	long long headroom;
	long long parameters;
	unsigned long long segment;
	int legacy;
};

static enum ps_status reserve(const struct wish *wish,
			      struct ps_pool **pool_out)
{
	struct ps_pool_config *config;
	enum ps_status status = ps_pool_config_new(&config);

	if (status != PS_OK)
		return status;
	status = ps_pool_config_set_gpu(config, wish->gpu);
	ps_pool_config_set_size(config, wish->size);
	if (wish->headroom >= 0)
		ps_pool_config_set_headroom(config, (uint64_t)wish->headroom);
	if (wish->parameters >= 0)
		ps_pool_config_set_parameter_size(config,
						  (uint64_t)wish->parameters);
	ps_pool_config_set_segment_size(config, wish->segment);
	if (wish->legacy)
		ps_pool_config_set_mode(config, PS_SHARE_LEGACY_IPC);
	if (status == PS_OK)
		status = ps_alloc_shared(config, pool_out);
	ps_pool_config_free(config);
	return status;
}

static PyObject *pool_reserve(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	struct ps_pool *pool = NULL;
	enum ps_status status;
	struct wish wish;

	if (!PyArg_ParseTuple(args, "zKLLKp", &wish.gpu, &wish.size,
			      &wish.headroom, &wish.parameters, &wish.segment,
			      &wish.legacy) ||
	    !is_new(self))
		return NULL;
	self->users++;
	Py_BEGIN_ALLOW_THREADS;
	status = reserve(&wish, &pool);
	Py_END_ALLOW_THREADS;
	return opened(self, status, pool);
}

static PyObject *pool_receive(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	struct ps_pool *pool = NULL;
	enum ps_status status;
	int socket, timeout_ms;
	unsigned int flags;

	if (!PyArg_ParseTuple(args, "iIi", &socket, &flags, &timeout_ms) ||
	    !is_new(self))
		return NULL;
	self->users++;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_recv_shared(socket, flags, timeout_ms, &pool);
	Py_END_ALLOW_THREADS;
	return opened(self, status, pool);
}

/* ---- sharing ---- */

static PyObject *pool_send(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	unsigned long long offset, size;
	enum ps_status status;
	struct ps_pool *pool;
	int socket, timeout_ms;
	unsigned int flags;

	if (!PyArg_ParseTuple(args, "KKiIi", &offset, &size, &socket, &flags,
			      &timeout_ms))
		return NULL;
	pool = py_pool_enter(self);
	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = size ? ps_send_range(pool, offset, size, socket, flags,
				      timeout_ms)
		      : ps_send_shared(pool, socket, flags, timeout_ms);
	Py_END_ALLOW_THREADS;
	py_pool_leave(self);
	return py_none(status);
}

static PyObject *pool_insert(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	unsigned long long size, offset;
	enum ps_status status;
	struct ps_pool *pool;
	unsigned int flags;
	void *stream;

	if (!PyArg_ParseTuple(args, "KKO&I", &size, &offset, py_stream,
			      (void *)&stream, &flags))
		return NULL;
	pool = py_pool_enter(self);
	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_insert_shared(pool, size, offset, stream, flags);
	Py_END_ALLOW_THREADS;
	py_pool_leave(self);
	return py_none(status);
}

static PyObject *pool_clear(PyObject *object, PyObject *unused)
{
	struct py_pool *self = (struct py_pool *)object;
	struct ps_pool *pool = py_pool_enter(self);
	enum ps_status status;

	(void)unused;
	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_clear_shared(pool);
	Py_END_ALLOW_THREADS;
	py_pool_leave(self);
	return py_none(status);
}

static PyObject *pool_map(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	unsigned long long offset, size;
	enum ps_status status;
	struct ps_pool *pool;

	if (!PyArg_ParseTuple(args, "KK", &offset, &size))
		return NULL;
	pool = py_pool_enter(self);
	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_pool_map(pool, offset, size);
	Py_END_ALLOW_THREADS;
	py_pool_leave(self);
	return py_none(status);
}

/* ---- memory ---- */

static enum ps_status block_of(struct ps_pool *pool, size_t size, void *stream,
			       void **ptr_out)
{
	enum ps_status status;

	Py_BEGIN_ALLOW_THREADS;
	status = stream == PS_ANY_STREAM
			 ? ps_mem_alloc(pool, size, ptr_out)
			 : ps_mem_alloc_async(pool, size, stream, ptr_out);
	Py_END_ALLOW_THREADS;
	return status;
}

static PyObject *pool_alloc(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	struct ps_pool *pool;
	enum ps_status status;
	void *stream;
	void *ptr = NULL;
	Py_ssize_t size;

	if (!PyArg_ParseTuple(args, "nO&", &size, py_stream, (void *)&stream))
		return NULL;
	pool = py_pool_enter(self);
	if (!pool)
		return NULL;
	/* A negative size becomes one that is too large. */
	status = block_of(pool, (size_t)size, stream, &ptr);
	py_pool_leave(self);
	return status == PS_OK ? PyLong_FromVoidPtr(ptr) : py_raise(status);
}

static PyObject *pool_free(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	enum ps_status status;
	struct ps_pool *pool;
	void *stream;
	void *ptr;

	if (!PyArg_ParseTuple(args, "O&O&", py_stream, (void *)&ptr, py_stream,
			      (void *)&stream))
		return NULL;
	pool = py_pool_enter(self);
	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = stream == PS_ANY_STREAM ? ps_mem_free(pool, ptr)
					 : ps_mem_free_async(pool, ptr, stream);
	Py_END_ALLOW_THREADS;
	py_pool_leave(self);
	return py_none(status);
}

static PyObject *pool_write(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	enum ps_status status;
	struct ps_pool *pool;
	const char *bytes;
	Py_ssize_t size;
	void *ptr;

	if (!PyArg_ParseTuple(args, "O&y#", py_stream, (void *)&ptr, &bytes,
			      &size))
		return NULL;
	pool = py_pool_enter(self);
	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_mem_write(pool, ptr, bytes, (size_t)size);
	Py_END_ALLOW_THREADS;
	py_pool_leave(self);
	return py_none(status);
}

static PyObject *pool_read(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	enum ps_status status;
	struct ps_pool *pool;
	PyObject *bytes;
	Py_ssize_t size;
	char *into;
	void *ptr;

	if (!PyArg_ParseTuple(args, "O&n", py_stream, (void *)&ptr, &size))
		return NULL;
	bytes = PyBytes_FromStringAndSize(NULL, size);
	if (!bytes)
		return NULL;
	pool = py_pool_enter(self);
	if (!pool) {
		Py_DECREF(bytes);
		return NULL;
	}
	into = PyBytes_AsString(bytes);
	Py_BEGIN_ALLOW_THREADS;
	status = ps_mem_read(pool, into, ptr, (size_t)size);
	Py_END_ALLOW_THREADS;
	py_pool_leave(self);
	if (status == PS_OK)
		return bytes;
	Py_DECREF(bytes);
	return py_raise(status);
}

/* An array of its own: dtype, bytes, shape, stream. */
static PyObject *pool_empty(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	struct ps_tensor tensor = { 0 };
	unsigned long long bytes;
	enum ps_status status;
	struct ps_pool *pool;
	PyObject *shape, *made = NULL;
	Py_ssize_t i, rank;
	void *stream;

	if (!PyArg_ParseTuple(args, "sKO!O&", &tensor.dtype, &bytes,
			      &PyTuple_Type, &shape, py_stream,
			      (void *)&stream))
		return NULL;
	rank = PyTuple_Size(shape);
	if (rank > PS_TENSOR_RANK_MAX)
		return PyErr_Format(PyExc_ValueError,
				    "%zd dimensions, %d at "
				    "most",
				    rank, PS_TENSOR_RANK_MAX);
	for (i = 0; i < rank; i++)
		tensor.shape[i] =
			PyLong_AsUnsignedLongLong(PyTuple_GetItem(shape, i));
	if (PyErr_Occurred())
		return NULL;
	tensor.rank = (uint32_t)rank;
	tensor.bytes = bytes;
	pool = py_pool_enter(self);
	if (!pool)
		return NULL;
	/* An address also for an array of nothing. */
	status = block_of(pool, bytes ? bytes : 1, stream, &tensor.address);
	if (status == PS_OK)
		made = py_tensor_new(self, NULL, &tensor, 0, true);
	else
		py_raise(status);
	if (status == PS_OK && !made)
		ps_mem_free(pool, tensor.address);
	py_pool_leave(self);
	return made;
}

/* ---- properties ---- */

static PyObject *get_size(PyObject *object, void *unused)
{
	struct py_pool *self = (struct py_pool *)object;

	(void)unused;
	return PyLong_FromUnsignedLongLong(self->pool ? ps_pool_size(self->pool)
						      : 0);
}

static PyObject *get_segment_size(PyObject *object, void *unused)
{
	struct py_pool *self = (struct py_pool *)object;

	(void)unused;
	return PyLong_FromUnsignedLongLong(
		self->pool ? ps_pool_segment_size(self->pool) : 0);
}

static PyObject *get_gpu(PyObject *object, void *unused)
{
	struct py_pool *self = (struct py_pool *)object;

	(void)unused;
	return PyUnicode_FromString(self->pool ? ps_pool_gpu(self->pool) : "");
}

static PyObject *get_closed(PyObject *object, void *unused)
{
	(void)unused;
	return PyBool_FromLong(!((struct py_pool *)object)->pool);
}

static PyObject *get_device(PyObject *object, void *unused)
{
	(void)unused;
	return PyLong_FromLong(((struct py_pool *)object)->device);
}

static int set_device(PyObject *object, PyObject *value, void *unused)
{
	long device = value ? PyLong_AsLong(value) : -1;

	(void)unused;
	if (PyErr_Occurred())
		return -1;
	if (device < 0 || device > 1023) {
		PyErr_SetString(PyExc_ValueError, "no number of a GPU");
		return -1;
	}
	((struct py_pool *)object)->device = (int)device;
	return 0;
}

/* ---- the end ---- */

/* The pool, not this object's any more; NULL and an exception when it is in
 * use. */
static bool take(struct py_pool *self, struct ps_pool **pool_out)
{
	if (self->users) {
		PyErr_Format(PyExc_BufferError,
			     "%zd views or calls still use the pool",
			     self->users);
		return false;
	}
	*pool_out = self->pool;
	self->pool = NULL;
	return true;
}

static PyObject *pool_close(PyObject *object, PyObject *unused)
{
	struct ps_pool *pool;

	(void)unused;
	if (!take((struct py_pool *)object, &pool))
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	ps_pool_close(pool);
	Py_END_ALLOW_THREADS;
	Py_RETURN_NONE;
}

static PyObject *pool_detach(PyObject *object, PyObject *unused)
{
	struct py_pool *self = (struct py_pool *)object;
	enum ps_status status = PS_OK;
	struct ps_pool *pool;

	(void)unused;
	if (!take(self, &pool))
		return NULL;
	if (!pool)
		Py_RETURN_NONE;
	self->users++;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_detach(pool);
	Py_END_ALLOW_THREADS;
	self->users--;
	if (status != PS_OK)
		self->pool = pool;
	return py_none(status);
}

static void pool_dealloc(PyObject *object)
{
	struct py_pool *self = (struct py_pool *)object;
	PyTypeObject *type = Py_TYPE(object);
	struct ps_pool *pool = self->pool;

	self->pool = NULL;
	Py_BEGIN_ALLOW_THREADS;
	ps_pool_close(pool);
	Py_END_ALLOW_THREADS;
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

static PyMethodDef methods[] = {
	{ "_attach", pool_attach, METH_VARARGS, NULL },
	{ "_reserve", pool_reserve, METH_VARARGS, NULL },
	{ "_receive", pool_receive, METH_VARARGS, NULL },
	{ "_send", pool_send, METH_VARARGS, NULL },
	{ "_insert", pool_insert, METH_VARARGS, NULL },
	{ "_clear", pool_clear, METH_NOARGS, NULL },
	{ "_map", pool_map, METH_VARARGS, NULL },
	{ "_alloc", pool_alloc, METH_VARARGS, NULL },
	{ "_free", pool_free, METH_VARARGS, NULL },
	{ "_write", pool_write, METH_VARARGS, NULL },
	{ "_read", pool_read, METH_VARARGS, NULL },
	{ "_empty", pool_empty, METH_VARARGS, NULL },
	{ "_stats", py_pool_stats, METH_NOARGS, NULL },
	{ "_info", py_pool_info, METH_NOARGS, NULL },
	{ "_region", py_pool_region, METH_VARARGS, NULL },
	{ "_pointer", py_pool_pointer, METH_VARARGS, NULL },
	{ "_close", pool_close, METH_NOARGS, NULL },
	{ "_detach", pool_detach, METH_NOARGS, NULL },
	{ 0 },
};

static PyGetSetDef properties[] = {
	{ "size", get_size, NULL, "Bytes of the whole pool.", NULL },
	{ "segment_size", get_segment_size, NULL, "Bytes of a segment.", NULL },
	{ "gpu", get_gpu, NULL, "The GPU's UUID, as nvidia-smi prints it.",
	  NULL },
	{ "closed", get_closed, NULL, "Whether the pool is closed.", NULL },
	{ "device", get_device, set_device,
	  "CUDA's number of the GPU in this process, for DLPack; 0 unless "
	  "set.",
	  NULL },
	{ 0 },
};

static PyType_Slot slots[] = {
	{ Py_tp_dealloc, pool_dealloc },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, properties },
	{ 0 },
};

PyType_Spec py_pool_spec = {
	.name = "poolswitch._native.Pool",
	.basicsize = sizeof(struct py_pool),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};
