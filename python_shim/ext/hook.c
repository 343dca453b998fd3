/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What stands in a module's place of forward(): waits on the current stream
 * until a tensor has landed, then calls what was there. Of the whole module:
 * uses the model before, and releases it behind the run.
 *
 * In C, because a network of some hundred modules passes here once for each
 * of them, between two launches of kernels.
 */
#include "python_shim/ext/ext.h"

PyTypeObject *py_hook_type;

struct hook {
	PyObject_HEAD struct py_model *model; /* a reference, as the rest */
	PyObject *forward;                    /* what was there */
	PyObject *stream_of;   /* gives the current stream's handle, or None */
	PyObject *stream_args; /* the arguments of that */
	long long tensor;      /* to wait for; negative: none */
	unsigned int priority; /* of the use */
	int timeout_ms;        /* the same */
	int is_run;            /* uses and releases */
	unsigned long long calls;
};

/* ---- one call ---- */

static bool current_stream(struct hook *self, void **stream_out)
{
	PyObject *handle;
	bool ok;

	if (self->stream_of == Py_None) {
		*stream_out = NULL;
		return true;
	}
	handle = PyObject_Call(self->stream_of, self->stream_args, NULL);
	if (!handle)
		return false;
	ok = py_stream(handle, stream_out);
	Py_DECREF(handle);
	return ok;
}

/* True, or false with an exception. */
static bool wait_here(struct hook *self, struct ps_model *model)
{
	enum ps_status status;
	void *stream;

	if (self->tensor < 0)
		return true;
	if (!current_stream(self, &stream))
		return false;
	status = py_model_wait(model, stream, (uint32_t)self->tensor);
	if (status != PS_OK) {
		py_raise(status);
		return false;
	}
	return py_settle(stream) == 0;
}

static PyObject *wait_and_call(struct hook *self, struct ps_model *model,
			       PyObject *args, PyObject *keywords)
{
	self->calls++;
	if (!wait_here(self, model))
		return NULL;
	return PyObject_Call(self->forward, args, keywords);
}

/* Behind what the run has submitted. A capture has run nothing: whoever
 * launches it uses the model then. */
static enum ps_status release(struct hook *self, struct ps_model *model)
{
	void *stream;
	enum ps_status status;

	if (!current_stream(self, &stream)) {
		PyErr_Clear();
		stream = PS_STREAM_ANY;
	}
	status = py_model_release(self->model, model, stream);
	if (status == PS_AGAIN)
		status = py_model_release(self->model, model, PS_STREAM_DONE);
	return status;
}

/* The result of a run, unless its release failed; an exception of the run goes
 * before one of the release. */
static PyObject *after(struct hook *self, struct ps_model *model,
		       PyObject *result)
{
	PyObject *type, *value, *trace;
	enum ps_status status;

	PyErr_Fetch(&type, &value, &trace);
	status = release(self, model);
	if (type) {
		PyErr_Restore(type, value, trace);
	} else if (status != PS_OK) {
		Py_CLEAR(result);
		py_raise(status);
	}
	return result;
}

static PyObject *run(struct hook *self, struct ps_model *model, PyObject *args,
		     PyObject *keywords)
{
	enum ps_status status = py_model_use(self->model, model, self->priority,
					     self->timeout_ms);

	if (status != PS_OK)
		return py_raise(status);
	return after(self, model, wait_and_call(self, model, args, keywords));
}

static PyObject *hook_call(PyObject *object, PyObject *args, PyObject *keywords)
{
	struct hook *self = (struct hook *)object;
	struct ps_model *model = py_model_enter(self->model);
	PyObject *result;

	if (!model)
		return NULL;
	/* It may be taken away while it runs. */
	Py_INCREF(object);
	result = self->is_run ? run(self, model, args, keywords)
			      : wait_and_call(self, model, args, keywords);
	py_model_leave(self->model);
	Py_DECREF(object);
	return result;
}

/* Only the wait: for who calls forward() in another way. */
static PyObject *hook_wait(PyObject *object, PyObject *unused)
{
	struct hook *self = (struct hook *)object;
	struct ps_model *model = py_model_enter(self->model);
	bool ok;

	(void)unused;
	if (!model)
		return NULL;
	self->calls++;
	ok = wait_here(self, model);
	py_model_leave(self->model);
	if (!ok)
		return NULL;
	Py_RETURN_NONE;
}

/* ---- the object ---- */

static PyObject *hook_new(PyTypeObject *type, PyObject *args, PyObject *unused)
{
	allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
	struct hook is = { 0 };
	struct hook *self;

	(void)unused;
	if (!PyArg_ParseTuple(args, "O!OOO!LIip", py_model_type, &is.model,
			      &is.forward, &is.stream_of, &PyTuple_Type,
			      &is.stream_args, &is.tensor, &is.priority,
			      &is.timeout_ms, &is.is_run))
		return NULL;
	if (is.tensor > UINT32_MAX)
		return PyErr_Format(PyExc_ValueError, "no tensor %lld",
				    is.tensor);
	self = (struct hook *)alloc(type, 0);
	if (!self)
		return NULL;
	Py_INCREF(is.model);
	self->model = is.model;
	Py_INCREF(is.forward);
	self->forward = is.forward;
	Py_INCREF(is.stream_of);
	self->stream_of = is.stream_of;
	Py_INCREF(is.stream_args);
	self->stream_args = is.stream_args;
	self->tensor = is.tensor;
	self->priority = is.priority;
	self->timeout_ms = is.timeout_ms;
	self->is_run = is.is_run;
	return (PyObject *)self;
}

static int hook_traverse(PyObject *object, visitproc visit, void *arg)
{
	struct hook *self = (struct hook *)object;

	Py_VISIT(Py_TYPE(object));
	Py_VISIT(self->model);
	Py_VISIT(self->forward);
	Py_VISIT(self->stream_of);
	Py_VISIT(self->stream_args);
	return 0;
}

static int hook_clear(PyObject *object)
{
	struct hook *self = (struct hook *)object;

	Py_CLEAR(self->model);
	Py_CLEAR(self->forward);
	Py_CLEAR(self->stream_of);
	Py_CLEAR(self->stream_args);
	return 0;
}

static void hook_dealloc(PyObject *object)
{
	PyTypeObject *type = Py_TYPE(object);

	PyObject_GC_UnTrack(object);
	hook_clear(object);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

static PyObject *get_forward(PyObject *object, void *unused)
{
	PyObject *forward = ((struct hook *)object)->forward;

	(void)unused;
	Py_INCREF(forward);
	return forward;
}

static PyObject *get_tensor(PyObject *object, void *unused)
{
	(void)unused;
	return PyLong_FromLongLong(((struct hook *)object)->tensor);
}

static PyObject *get_calls(PyObject *object, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(((struct hook *)object)->calls);
}

static PyMethodDef methods[] = {
	{ "wait", hook_wait, METH_NOARGS, "The wait alone." },
	{ 0 },
};

static PyGetSetDef properties[] = {
	{ "forward", get_forward, NULL, "What is called behind the wait.",
	  NULL },
	{ "tensor", get_tensor, NULL, "What is waited for; negative: nothing.",
	  NULL },
	{ "calls", get_calls, NULL, "How often.", NULL },
	{ 0 },
};

static PyType_Slot slots[] = {
	{ Py_tp_new, hook_new },           { Py_tp_call, hook_call },
	{ Py_tp_traverse, hook_traverse }, { Py_tp_clear, hook_clear },
	{ Py_tp_dealloc, hook_dealloc },   { Py_tp_methods, methods },
	{ Py_tp_getset, properties },      { 0 },
};

PyType_Spec py_hook_spec = {
	.name = "poolswitch._native.Hook",
	.basicsize = sizeof(struct hook),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = slots,
};
