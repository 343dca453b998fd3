/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Models that this process is attached to. */
#include "python_shim/ext/ext.h"

PyTypeObject *py_model_type;

struct ps_model *py_model_enter(struct py_model *self)
{
	if (!self->model || !self->owner->pool) {
		PyErr_SetString(PyExc_ValueError, "the model is detached");
		return NULL;
	}
	self->users++;
	self->owner->users++;
	return self->model;
}

void py_model_leave(struct py_model *self)
{
	self->users--;
	self->owner->users--;
}

/* ---- attaching ---- */

static PyObject *model_attach(PyObject *object, PyObject *args)
{
	struct py_model *self = (struct py_model *)object;
	const unsigned char *hash;
	struct ps_model *model;
	enum ps_status status;
	struct py_pool *owner;
	struct ps_pool *pool;
	const char *name;

	if (!PyArg_ParseTuple(args, "O!zO&", py_pool_type, &owner, &name,
			      py_hash, (void *)&hash))
		return NULL;
	if (self->owner) {
		PyErr_SetString(PyExc_ValueError, "attached already");
		return NULL;
	}
	pool = py_pool_enter(owner);
	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_model_attach(pool, name, hash, &model);
	Py_END_ALLOW_THREADS;
	py_pool_leave(owner);
	if (status != PS_OK)
		return py_raise(status);
	Py_INCREF(owner);
	self->owner = owner;
	self->model = model;
	Py_RETURN_NONE;
}

/* What is attached is held open by nobody but its views and calls: a pool may
 * be closed with models attached. */
static struct ps_model *take(struct py_model *self)
{
	struct ps_model *model = self->model;

	self->model = NULL;
	/* A pool that is closed has detached from all. */
	return self->owner && self->owner->pool ? model : NULL;
}

static PyObject *model_detach(PyObject *object, PyObject *unused)
{
	struct py_model *self = (struct py_model *)object;
	enum ps_status status;
	struct ps_model *model;

	(void)unused;
	if (self->users)
		return PyErr_Format(PyExc_BufferError,
				    "%zd views or calls still use the model",
				    self->users);
	model = take(self);
	if (!model)
		Py_RETURN_NONE;
	self->owner->users++;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_model_detach(model);
	Py_END_ALLOW_THREADS;
	self->owner->users--;
	if (status != PS_OK)
		self->model = model;
	return py_none(status);
}

/* Behind all that was submitted, whatever the stream. While one captures it
 * stays in use, and attached. */
static void drop(struct ps_model *model, Py_ssize_t uses)
{
	enum ps_status status = PS_OK;

	for (; uses > 0 && status != PS_AGAIN; uses--)
		status = ps_model_release(model, PS_STREAM_ANY);
	status = ps_model_detach(model);
	(void)status;
}

static void model_dealloc(PyObject *object)
{
	struct py_model *self = (struct py_model *)object;
	PyTypeObject *type = Py_TYPE(object);
	struct py_pool *owner = self->owner;
	struct ps_model *model = take(self);
	Py_ssize_t uses = self->uses;

	if (model) {
		owner->users++;
		Py_BEGIN_ALLOW_THREADS;
		drop(model, uses);
		Py_END_ALLOW_THREADS;
		owner->users--;
	}
	Py_XDECREF(owner);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

/* ---- what it is ---- */

static PyObject *model_info(PyObject *object, PyObject *unused)
{
	struct py_model *self = (struct py_model *)object;
	struct ps_model_info info = { .struct_size = sizeof(info) };
	struct ps_model *model = py_model_enter(self);
	enum ps_status status;

	(void)unused;
	if (!model)
		return NULL;
	status = ps_model_get_info(model, &info);
	py_model_leave(self);
	if (status != PS_OK)
		return py_raise(status);
	return Py_BuildValue(
		"sy#NKI", info.name, info.hash, (Py_ssize_t)PS_MODEL_HASH_BYTES,
		PyLong_FromVoidPtr(info.address),
		(unsigned long long)info.bytes, (unsigned int)info.tensors);
}

static PyObject *model_tensor(PyObject *object, PyObject *args)
{
	struct py_model *self = (struct py_model *)object;
	struct ps_tensor tensor;
	struct ps_model *model;
	enum ps_status status;
	PyObject *made = NULL;
	unsigned int number;

	if (!PyArg_ParseTuple(args, "I", &number))
		return NULL;
	model = py_model_enter(self);
	if (!model)
		return NULL;
	status = ps_model_get_tensor(model, number, &tensor);
	if (status == PS_OK)
		made = py_tensor_new(self->owner, self, &tensor, number, false);
	py_model_leave(self);
	return status == PS_OK ? made : py_raise(status);
}

/* All of it as bytes. */
static PyObject *model_flat(PyObject *object, PyObject *unused)
{
	struct py_model *self = (struct py_model *)object;
	struct ps_model_info info = { .struct_size = sizeof(info) };
	struct ps_tensor flat = { .dtype = "U8", .rank = 1 };
	struct ps_model *model = py_model_enter(self);
	enum ps_status status;
	PyObject *made = NULL;

	(void)unused;
	if (!model)
		return NULL;
	status = ps_model_get_info(model, &info);
	flat.address = info.address;
	flat.bytes = info.bytes;
	flat.shape[0] = info.bytes;
	if (status == PS_OK)
		made = py_tensor_new(self->owner, self, &flat,
				     info.tensors ? info.tensors - 1 : 0,
				     false);
	py_model_leave(self);
	return status == PS_OK ? made : py_raise(status);
}

static PyObject *model_find(PyObject *object, PyObject *args)
{
	struct py_model *self = (struct py_model *)object;
	struct ps_model *model;
	enum ps_status status;
	const char *name;
	uint32_t number;

	if (!PyArg_ParseTuple(args, "s", &name))
		return NULL;
	model = py_model_enter(self);
	if (!model)
		return NULL;
	status = ps_model_find_tensor(model, name, &number);
	py_model_leave(self);
	return status == PS_OK ? PyLong_FromUnsignedLong(number)
			       : py_raise(status);
}

/* ---- running ---- */

enum ps_status py_model_use(struct py_model *self, struct ps_model *model,
			    unsigned int priority, int timeout_ms)
{
	enum ps_status status;

	Py_BEGIN_ALLOW_THREADS;
	status = ps_model_use(model, priority, timeout_ms);
	Py_END_ALLOW_THREADS;
	if (status == PS_OK)
		self->uses++;
	return status;
}

enum ps_status py_model_release(struct py_model *self, struct ps_model *model,
				void *stream)
{
	enum ps_status status;

	Py_BEGIN_ALLOW_THREADS;
	status = ps_model_release(model, stream);
	Py_END_ALLOW_THREADS;
	if (status == PS_OK || status == PS_DRIVER)
		self->uses--;
	return status;
}

enum ps_status py_model_wait(struct ps_model *model, void *stream,
			     uint32_t tensor)
{
	enum ps_status status;

	Py_BEGIN_ALLOW_THREADS;
	status = ps_model_wait(model, stream, tensor);
	Py_END_ALLOW_THREADS;
	return status;
}

static PyObject *model_use(PyObject *object, PyObject *args)
{
	struct py_model *self = (struct py_model *)object;
	struct ps_model *model;
	enum ps_status status;
	unsigned int priority;
	int timeout_ms;

	if (!PyArg_ParseTuple(args, "Ii", &priority, &timeout_ms))
		return NULL;
	model = py_model_enter(self);
	if (!model)
		return NULL;
	status = py_model_use(self, model, priority, timeout_ms);
	py_model_leave(self);
	return py_none(status);
}

static PyObject *model_wait(PyObject *object, PyObject *args)
{
	struct py_model *self = (struct py_model *)object;
	struct ps_model *model;
	enum ps_status status;
	unsigned int tensor;
	void *stream;

	if (!PyArg_ParseTuple(args, "O&I", py_stream, (void *)&stream, &tensor))
		return NULL;
	model = py_model_enter(self);
	if (!model)
		return NULL;
	status = py_model_wait(model, stream, tensor);
	py_model_leave(self);
	return py_none(status);
}

static PyObject *model_release(PyObject *object, PyObject *args)
{
	struct py_model *self = (struct py_model *)object;
	struct ps_model *model;
	enum ps_status status;
	void *stream;

	if (!PyArg_ParseTuple(args, "O&", py_stream, (void *)&stream))
		return NULL;
	model = py_model_enter(self);
	if (!model)
		return NULL;
	status = py_model_release(self, model, stream);
	py_model_leave(self);
	return py_none(status);
}

static PyObject *model_check(PyObject *object, PyObject *unused)
{
	struct py_model *self = (struct py_model *)object;
	struct ps_model *model = py_model_enter(self);
	enum ps_status status;

	(void)unused;
	if (!model)
		return NULL;
	status = ps_model_check(model);
	py_model_leave(self);
	return py_none(status);
}

/* PyMem_Free() it. NULL and an exception for what is no such list. */
static uint32_t *costs_of(PyObject *list, Py_ssize_t count)
{
	uint32_t *costs = PyMem_Calloc((size_t)count + 1, sizeof(*costs));
	unsigned long long value;
	Py_ssize_t i;

	if (!costs)
		PyErr_NoMemory();
	for (i = 0; costs && i < count; i++) {
		value = PyLong_AsUnsignedLongLong(PyList_GetItem(list, i));
		if (!PyErr_Occurred() && value > UINT32_MAX)
			PyErr_SetString(PyExc_OverflowError,
					"a part takes more than 4 seconds");
		if (PyErr_Occurred()) {
			PyMem_Free(costs);
			return NULL;
		}
		costs[i] = (uint32_t)value;
	}
	return costs;
}

static PyObject *model_set_costs(PyObject *object, PyObject *args)
{
	struct py_model *self = (struct py_model *)object;
	struct ps_model *model;
	enum ps_status status;
	uint32_t *costs;
	Py_ssize_t count;
	PyObject *list;

	if (!PyArg_ParseTuple(args, "O!", &PyList_Type, &list))
		return NULL;
	count = PyList_Size(list);
	costs = costs_of(list, count);
	if (!costs)
		return NULL;
	model = py_model_enter(self);
	if (!model) {
		PyMem_Free(costs);
		return NULL;
	}
	Py_BEGIN_ALLOW_THREADS;
	status = ps_model_set_costs(model, costs, (uint32_t)count);
	Py_END_ALLOW_THREADS;
	py_model_leave(self);
	PyMem_Free(costs);
	return py_none(status);
}

static PyObject *get_uses(PyObject *object, void *unused)
{
	(void)unused;
	return PyLong_FromSsize_t(((struct py_model *)object)->uses);
}

static PyObject *get_pool(PyObject *object, void *unused)
{
	struct py_pool *owner = ((struct py_model *)object)->owner;
	PyObject *pool = owner ? (PyObject *)owner : Py_None;

	(void)unused;
	Py_INCREF(pool);
	return pool;
}

static PyMethodDef methods[] = {
	{ "_attach", model_attach, METH_VARARGS, NULL },
	{ "_detach", model_detach, METH_NOARGS, NULL },
	{ "_info", model_info, METH_NOARGS, NULL },
	{ "_tensor", model_tensor, METH_VARARGS, NULL },
	{ "_flat", model_flat, METH_NOARGS, NULL },
	{ "_find", model_find, METH_VARARGS, NULL },
	{ "_use", model_use, METH_VARARGS, NULL },
	{ "_wait", model_wait, METH_VARARGS, NULL },
	{ "_release", model_release, METH_VARARGS, NULL },
	{ "_check", model_check, METH_NOARGS, NULL },
	{ "_set_costs", model_set_costs, METH_VARARGS, NULL },
	{ 0 },
};

static PyGetSetDef properties[] = {
	{ "uses", get_uses, NULL, "How many uses wait for their release.",
	  NULL },
	{ "pool", get_pool, NULL, "The pool that it lies in.", NULL },
	{ 0 },
};

static PyType_Slot slots[] = {
	{ Py_tp_dealloc, model_dealloc },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, properties },
	{ 0 },
};

PyType_Spec py_model_spec = {
	.name = "poolswitch._native.Model",
	.basicsize = sizeof(struct py_model),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};
