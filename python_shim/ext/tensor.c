/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Tensors: weights of a model, blocks of a pool. Other libraries look at them
 * by DLPack or by CUDA's array interface; nothing is copied.
 *
 * Invariant: whoever got a capsule holds the tensor, and a tensor holds the
 * model and the pool open.
 */
#include "python_shim/ext/dlpack.h"
#include "python_shim/ext/ext.h"

#include <stdlib.h>
#include <string.h>

PyTypeObject *py_tensor_type;

/* ---- dtypes ---- */

/* clang-format off */
static const struct kind {
	const char *name;    /* as safetensors writes it */
	uint8_t code;
	uint8_t bits;
	const char *typestr; /* of NumPy; NULL: it has none */
} kinds[] = {
	{ "BOOL", DL_BOOL, 8, "|b1" },
	{ "U8", DL_UINT, 8, "|u1" },
	{ "I8", DL_INT, 8, "|i1" },
	{ "I16", DL_INT, 16, "<i2" },
	{ "U16", DL_UINT, 16, "<u2" },
	{ "F16", DL_FLOAT, 16, "<f2" },
	{ "BF16", DL_BFLOAT, 16, NULL },
	{ "I32", DL_INT, 32, "<i4" },
	{ "U32", DL_UINT, 32, "<u4" },
	{ "F32", DL_FLOAT, 32, "<f4" },
	{ "I64", DL_INT, 64, "<i8" },
	{ "U64", DL_UINT, 64, "<u8" },
	{ "F64", DL_FLOAT, 64, "<f8" },
	{ "C64", DL_COMPLEX, 64, "<c8" },
	{ "F8_E4M3", DL_F8_E4M3FN, 8, NULL },
	{ "F8_E5M2", DL_F8_E5M2, 8, NULL },
	{ "F8_E8M0", DL_F8_E8M0FNU, 8, NULL },
	{ "F8_E4M3FNUZ", DL_F8_E4M3FNUZ, 8, NULL },
	{ "F8_E5M2FNUZ", DL_F8_E5M2FNUZ, 8, NULL },
};
/* clang-format on */

/* NULL and an exception for elements that no array library knows. */
static const struct kind *kind_of(const struct py_tensor *self)
{
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, self->is.dtype) == 0)
			return &kinds[i];
	return (void *)PyErr_Format(PyExc_BufferError,
				    "DLPack has no %s; the address is known",
				    self->is.dtype);
}

/* The same text, for as long as the process lives. */
static const char *static_dtype(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return kinds[i].name;
	PyErr_Format(PyExc_ValueError, "no dtype is called %s", name);
	return NULL;
}

/* ---- making ---- */

PyObject *py_tensor_new(struct py_pool *pool, struct py_model *model,
			const struct ps_tensor *is, uint32_t number,
			bool is_block)
{
	allocfunc alloc =
		(allocfunc)PyType_GetSlot(py_tensor_type, Py_tp_alloc);
	const char *dtype = is_block ? static_dtype(is->dtype) : is->dtype;
	struct py_tensor *self;

	if (!dtype)
		return NULL;
	self = (struct py_tensor *)alloc(py_tensor_type, 0);
	if (!self)
		return NULL;
	self->is = *is;
	self->is.dtype = dtype;
	self->number = number;
	self->name = is->name ? PyUnicode_FromString(is->name)
			      : PyUnicode_FromString("");
	Py_INCREF(pool);
	pool->users++;
	self->pool = pool;
	Py_XINCREF(model);
	if (model)
		model->users++;
	self->model = model;
	/* Only now: what fails before leaves the block to the caller. */
	if (self->name)
		self->is_block = is_block;
	else
		Py_CLEAR(self);
	return (PyObject *)self;
}

static void tensor_dealloc(PyObject *object)
{
	struct py_tensor *self = (struct py_tensor *)object;
	PyTypeObject *type = Py_TYPE(object);
	struct ps_pool *pool = self->pool->pool;

	if (self->is_block) {
		Py_BEGIN_ALLOW_THREADS;
		ps_mem_free(pool, self->is.address);
		Py_END_ALLOW_THREADS;
	}
	if (self->model)
		self->model->users--;
	self->pool->users--;
	Py_XDECREF(self->model);
	Py_DECREF(self->pool);
	Py_XDECREF(self->name);
	((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
	Py_DECREF(type);
}

/* ---- when it may be read ---- */

bool py_is_simulated(void)
{
	const char *driver = getenv("POOLSWITCH_DRIVER");

	return driver && strcmp(driver, "sim") == 0;
}

/* Guarded by the interpreter's lock; NULL: none. */
static PyObject *settle;

PyObject *py_set_settle(PyObject *self, PyObject *function)
{
	(void)self;
	Py_INCREF(function);
	Py_XDECREF(settle);
	settle = function;
	Py_RETURN_NONE;
}

int py_settle(void *stream)
{
	PyObject *handle, *done;

	if (!settle || !py_is_simulated())
		return 0;
	handle = PyLong_FromVoidPtr(stream);
	if (!handle)
		return -1;
	done = PyObject_CallFunctionObjArgs(settle, handle, NULL);
	Py_DECREF(handle);
	Py_XDECREF(done);
	return done ? 0 : -1;
}

/* Puts the consumer's stream behind the weights' arrival. 0 or -1. */
static int make_ready(struct py_tensor *self, void *stream)
{
	enum ps_status status;
	struct ps_model *model;

	if (!self->model)
		return py_settle(stream);
	if (self->model->uses == 0) {
		PyErr_SetString(PyExc_BufferError,
				"the model is not in use: its weights may be "
				"elsewhere; Model.use() first");
		return -1;
	}
	model = py_model_enter(self->model);
	if (!model)
		return -1;
	status = py_model_wait(model, stream, self->number);
	py_model_leave(self->model);
	if (status != PS_OK) {
		py_raise(status);
		return -1;
	}
	return py_settle(stream);
}

/* ---- DLPack ---- */

/* What a capsule owns. */
struct export
{
	struct dl_managed plain;
	struct dl_versioned versioned;
	struct py_tensor *tensor; /* a reference */
	int64_t shape[PS_TENSOR_RANK_MAX];
	int64_t strides[PS_TENSOR_RANK_MAX];
};

static void end_export(struct export *export)
{
	PyGILState_STATE state = PyGILState_Ensure();

	Py_DECREF(export->tensor);
	free(export);
	PyGILState_Release(state);
}

static void delete_plain(struct dl_managed *managed)
{
	end_export(managed->context);
}

static void delete_versioned(struct dl_versioned *versioned)
{
	end_export(versioned->context);
}

/* A capsule that nobody took. */
static void drop_capsule(PyObject *capsule)
{
	struct dl_versioned *versioned;
	struct dl_managed *managed;

	if (PyCapsule_IsValid(capsule, DL_NAME)) {
		managed = PyCapsule_GetPointer(capsule, DL_NAME);
		managed->deleter(managed);
	} else if (PyCapsule_IsValid(capsule, DL_NAME_VERSIONED)) {
		versioned = PyCapsule_GetPointer(capsule, DL_NAME_VERSIONED);
		versioned->deleter(versioned);
	}
}

static struct dl_device device_of(const struct py_tensor *self)
{
	struct dl_device device = { DL_CUDA, self->pool->device };

	if (py_is_simulated()) {
		device.kind = DL_CPU;
		device.number = 0;
	}
	return device;
}

static void fill_shape(struct export *export, const struct ps_tensor *is)
{
	int64_t stride = 1;
	uint32_t i;

	for (i = is->rank; i-- > 0;) {
		export->shape[i] = (int64_t)is->shape[i];
		export->strides[i] = stride;
		stride *= export->shape[i] ? export->shape[i] : 1;
	}
}

static struct export *new_export(struct py_tensor *self)
{
	const struct kind *kind = kind_of(self);
	struct dl_tensor *tensor;
	struct export *export;

	if (!kind)
		return NULL;
	export = calloc(1, sizeof(*export));
	if (!export)
		return (void *)PyErr_NoMemory();
	fill_shape(export, &self->is);
	Py_INCREF(self);
	export->tensor = self;
	tensor = &export->plain.tensor;
	tensor->data = self->is.address;
	tensor->device = device_of(self);
	tensor->rank = (int32_t)self->is.rank;
	tensor->dtype.code = kind->code;
	tensor->dtype.bits = kind->bits;
	tensor->dtype.lanes = 1;
	tensor->shape = export->shape;
	tensor->strides = export->strides;
	export->plain.context = export;
	export->plain.deleter = delete_plain;
	export->versioned.major = 1;
	export->versioned.minor = 1;
	export->versioned.flags = self->is_block ? 0 : DL_READ_ONLY;
	export->versioned.tensor = *tensor;
	export->versioned.context = export;
	export->versioned.deleter = delete_versioned;
	return export;
}

static PyObject *capsule_of(struct py_tensor *self, bool versioned)
{
	struct export *export = new_export(self);
	PyObject *capsule;

	if (!export)
		return NULL;
	if (versioned)
		capsule = PyCapsule_New(&export->versioned, DL_NAME_VERSIONED,
					drop_capsule);
	else
		capsule = PyCapsule_New(&export->plain, DL_NAME, drop_capsule);
	if (!capsule)
		end_export(export);
	return capsule;
}

/* The protocol's numbers for streams: None and 1 are the legacy default one, 2
 * the thread's own, -1 asks for no ordering. */
static bool stream_wanted(PyObject *object, void **stream_out, bool *wait_out)
{
	*wait_out = true;
	if (!object || object == Py_None)
		*stream_out = NULL;
	else if (!py_stream(object, stream_out))
		return false;
	if (*stream_out == (void *)1)
		*stream_out = NULL;
	if (*stream_out == (void *)(intptr_t)-1)
		*wait_out = false;
	return true;
}

/* Whether a consumer knows versioned capsules: max_version is (1, ...). */
static bool wants_versioned(PyObject *max_version)
{
	PyObject *major;
	long number;

	if (!max_version || max_version == Py_None)
		return false;
	major = PySequence_GetItem(max_version, 0);
	number = major ? PyLong_AsLong(major) : 0;
	Py_XDECREF(major);
	PyErr_Clear();
	return number >= 1;
}

static bool check_device(struct py_tensor *self, PyObject *wanted)
{
	struct dl_device device = device_of(self);
	int kind, number;

	if (!wanted || wanted == Py_None)
		return true;
	if (!PyArg_ParseTuple(wanted, "ii", &kind, &number))
		return false;
	if (kind != device.kind || number != device.number)
		PyErr_Format(PyExc_BufferError,
			     "device (%d, %d) is wanted, this is on (%d, %d)",
			     kind, number, (int)device.kind,
			     (int)device.number);
	return !PyErr_Occurred();
}

static PyObject *tensor_dlpack(PyObject *object, PyObject *args,
			       PyObject *keywords)
{
	static const char *const names[] = { "stream", "max_version",
					     "dl_device", "copy", NULL };
	struct py_tensor *self = (struct py_tensor *)object;
	PyObject *stream_is = NULL, *max_version = NULL, *device = NULL;
	PyObject *copy = NULL;
	void *stream;
	bool wait;

	if (!PyArg_ParseTupleAndKeywords(args, keywords, "|$OOOO:__dlpack__",
					 (char **)names, &stream_is,
					 &max_version, &device, &copy) ||
	    !stream_wanted(stream_is, &stream, &wait) ||
	    !check_device(self, device))
		return NULL;
	if (copy && copy == Py_True) {
		PyErr_SetString(PyExc_BufferError,
				"shared weights are not copied here");
		return NULL;
	}
	if (wait && make_ready(self, stream) != 0)
		return NULL;
	return capsule_of(self, wants_versioned(max_version));
}

static PyObject *tensor_dlpack_device(PyObject *object, PyObject *unused)
{
	struct dl_device device = device_of((struct py_tensor *)object);

	(void)unused;
	return Py_BuildValue("ii", (int)device.kind, (int)device.number);
}

/* ---- attributes ---- */

static PyObject *shape_of(const struct py_tensor *self)
{
	PyObject *shape = PyTuple_New((Py_ssize_t)self->is.rank);
	PyObject *length;
	uint32_t i;

	for (i = 0; shape && i < self->is.rank; i++) {
		length = PyLong_FromUnsignedLongLong(self->is.shape[i]);
		if (!length || PyTuple_SetItem(shape, i, length) != 0)
			Py_CLEAR(shape);
	}
	return shape;
}

/* CuPy's, Numba's and PyTorch's older way; not for host memory. */
static PyObject *get_interface(PyObject *object, void *unused)
{
	struct py_tensor *self = (struct py_tensor *)object;
	const struct kind *kind;

	(void)unused;
	if (py_is_simulated()) {
		PyErr_SetString(PyExc_AttributeError,
				"__cuda_array_interface__: a simulated GPU");
		return NULL;
	}
	kind = kind_of(self);
	if (!kind)
		return NULL;
	if (!kind->typestr) {
		PyErr_Format(PyExc_AttributeError,
			     "__cuda_array_interface__: it has no %s",
			     self->is.dtype);
		return NULL;
	}
	if (make_ready(self, NULL) != 0)
		return NULL;
	return Py_BuildValue(
		"{s:N,s:s,s:(NO),s:i,s:i}", "shape", shape_of(self), "typestr",
		kind->typestr, "data", PyLong_FromVoidPtr(self->is.address),
		self->is_block ? Py_False : Py_True, "version", 3, "stream", 1);
}

static PyObject *get_shape(PyObject *object, void *unused)
{
	(void)unused;
	return shape_of((struct py_tensor *)object);
}

static PyObject *get_name(PyObject *object, void *unused)
{
	PyObject *name = ((struct py_tensor *)object)->name;

	(void)unused;
	Py_INCREF(name);
	return name;
}

static PyObject *get_dtype(PyObject *object, void *unused)
{
	(void)unused;
	return PyUnicode_FromString(((struct py_tensor *)object)->is.dtype);
}

static PyObject *get_address(PyObject *object, void *unused)
{
	(void)unused;
	return PyLong_FromVoidPtr(((struct py_tensor *)object)->is.address);
}

static PyObject *get_offset(PyObject *object, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(
		((struct py_tensor *)object)->is.offset);
}

static PyObject *get_bytes(PyObject *object, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(
		((struct py_tensor *)object)->is.bytes);
}

static PyObject *get_number(PyObject *object, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLong(((struct py_tensor *)object)->number);
}

static PyObject *get_readonly(PyObject *object, void *unused)
{
	(void)unused;
	return PyBool_FromLong(!((struct py_tensor *)object)->is_block);
}

static PyMethodDef methods[] = {
	{ "__dlpack__", (PyCFunction)(void (*)(void))tensor_dlpack,
	  METH_VARARGS | METH_KEYWORDS,
	  "A capsule for from_dlpack() of NumPy, PyTorch, CuPy, JAX.\n\n"
	  "stream: the consumer's; what it does there waits for the weights.\n"
	  "-1: nothing waits, and the model need not be in use." },
	{ "__dlpack_device__", tensor_dlpack_device, METH_NOARGS,
	  "(kind, number): (2, n) a GPU, (1, 0) the simulated one." },
	{ 0 },
};

static PyGetSetDef properties[] = {
	{ "name", get_name, NULL, "In the model; \"\": a block.", NULL },
	{ "dtype", get_dtype, NULL, "As safetensors writes it.", NULL },
	{ "shape", get_shape, NULL, "Lengths in elements.", NULL },
	{ "address", get_address, NULL, "On the GPU.", NULL },
	{ "offset", get_offset, NULL, "Bytes from the model's address.", NULL },
	{ "bytes", get_bytes, NULL, "Bytes.", NULL },
	{ "number", get_number, NULL, "In the order of arrival, from 0.",
	  NULL },
	{ "readonly", get_readonly, NULL, "Whether it may not be written.",
	  NULL },
	{ "__cuda_array_interface__", get_interface, NULL, NULL, NULL },
	{ 0 },
};

static PyType_Slot slots[] = {
	{ Py_tp_dealloc, tensor_dealloc },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, properties },
	{ Py_tp_doc, (void *)(uintptr_t) "Memory of the pool, with a shape." },
	{ 0 },
};

PyType_Spec py_tensor_spec = {
	.name = "poolswitch._native.Tensor",
	.basicsize = sizeof(struct py_tensor),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = slots,
};
