/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Arguments that are more than a number. */
#include "python_shim/ext/ext.h"

static bool stream_of_number(PyObject *number, void **stream_out)
{
	void *stream;

	if (!number)
		return false;
	stream = PyLong_AsVoidPtr(number);
	if (PyErr_Occurred())
		return false;
	*stream_out = stream;
	return true;
}

/* __cuda_stream__() gives a version, 0, and the handle. */
static PyObject *asked_handle(PyObject *object)
{
	PyObject *pair = PyObject_CallMethod(object, "__cuda_stream__", NULL);
	PyObject *handle;

	if (!pair)
		return NULL;
	handle = PySequence_GetItem(pair, 1);
	Py_DECREF(pair);
	return handle;
}

int py_stream(PyObject *object, void *stream_out)
{
	PyObject *handle;
	bool ok;

	if (object == Py_None) {
		*(void **)stream_out = NULL;
		return 1;
	}
	if (PyLong_Check(object))
		return stream_of_number(object, stream_out);
	handle = PyObject_GetAttrString(object, "cuda_stream");
	if (!handle) {
		PyErr_Clear();
		handle = asked_handle(object);
	}
	ok = stream_of_number(handle, stream_out);
	Py_XDECREF(handle);
	if (!ok && PyErr_ExceptionMatches(PyExc_AttributeError))
		PyErr_Format(PyExc_TypeError,
			     "%R is no stream: None, a handle, or an object "
			     "with cuda_stream or __cuda_stream__",
			     object);
	return ok;
}

int py_hash(PyObject *object, void *hash_out)
{
	Py_ssize_t length;
	char *bytes;

	if (object == Py_None) {
		*(const unsigned char **)hash_out = NULL;
		return 1;
	}
	if (PyBytes_AsStringAndSize(object, &bytes, &length) != 0)
		return 0;
	if (length != PS_MODEL_HASH_BYTES) {
		PyErr_Format(PyExc_ValueError,
			     "a model's hash has %d bytes, this %zd",
			     PS_MODEL_HASH_BYTES, length);
		return 0;
	}
	*(const unsigned char **)hash_out = (unsigned char *)bytes;
	return 1;
}
