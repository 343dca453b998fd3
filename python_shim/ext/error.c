/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* A status becomes an exception: which one, poolswitch/_errors.py decides. */
#include "python_shim/ext/ext.h"

#include <string.h>

static PyObject *exception_of(enum ps_status status)
{
	const char *detail = ps_error_detail();
	PyObject *module = PyImport_ImportModule("poolswitch._errors");
	PyObject *text = NULL;
	PyObject *error = NULL;

	if (!module)
		return NULL;
	text = PyUnicode_DecodeUTF8(detail, (Py_ssize_t)strlen(detail),
				    "replace");
	if (text)
		error = PyObject_CallMethod(module, "error_of", "iO",
					    (int)status, text);
	Py_XDECREF(text);
	Py_DECREF(module);
	return error;
}

PyObject *py_raise(enum ps_status status)
{
	PyObject *error = exception_of(status);

	if (error) {
		PyErr_SetObject((PyObject *)Py_TYPE(error), error);
		Py_DECREF(error);
	}
	return NULL;
}

PyObject *py_none(enum ps_status status)
{
	if (status != PS_OK)
		return py_raise(status);
	Py_RETURN_NONE;
}

PyObject *py_statuses(PyObject *self, PyObject *unused)
{
	PyObject *list = PyList_New(0);
	PyObject *item;
	int i;

	(void)self;
	(void)unused;
	for (i = 0; list; i++) {
		const char *name = ps_status_name((enum ps_status)i);

		if (strcmp(name, "PS_UNKNOWN") == 0)
			break;
		item = Py_BuildValue("iss", i, name,
				     ps_status_text((enum ps_status)i));
		if (!item || PyList_Append(list, item) != 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}
