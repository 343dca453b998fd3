/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What is asked of the daemon by a process that need not be attached. */
#include "python_shim/ext/ext.h"

#include <stdlib.h>
#include <string.h>

PyObject *py_add(PyObject *self, PyObject *args)
{
	struct ps_model_source source = { .struct_size = sizeof(source) };
	unsigned char hash[PS_MODEL_HASH_BYTES];
	enum ps_status status;
	const char *socket;
	int plan, timeout_ms;

	(void)self;
	if (!PyArg_ParseTuple(args, "zszIiiIi", &socket, &source.name,
			      &source.path, &source.flags, &source.fd, &plan,
			      &source.groups, &timeout_ms))
		return NULL;
	source.plan = (enum ps_model_plan)plan;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_model_add(socket, &source, timeout_ms, hash);
	Py_END_ALLOW_THREADS;
	if (status != PS_OK)
		return py_raise(status);
	return PyBytes_FromStringAndSize((const char *)hash, sizeof(hash));
}

PyObject *py_order(PyObject *self, PyObject *args)
{
	const char *socket, *name;
	enum ps_status status;
	int action, timeout_ms;

	(void)self;
	if (!PyArg_ParseTuple(args, "zisi", &socket, &action, &name,
			      &timeout_ms))
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_model_order(socket, (enum ps_model_action)action, name,
				timeout_ms);
	Py_END_ALLOW_THREADS;
	return py_none(status);
}

PyObject *py_ask(PyObject *self, PyObject *args)
{
	enum ps_status status;
	const char *socket;
	int question, timeout_ms;
	char *json = NULL;
	PyObject *text;

	(void)self;
	if (!PyArg_ParseTuple(args, "zii", &socket, &question, &timeout_ms))
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_daemon_ask(socket, (enum ps_question)question, timeout_ms,
			       &json);
	Py_END_ALLOW_THREADS;
	if (status != PS_OK)
		return py_raise(status);
	text = PyUnicode_DecodeUTF8(json, (Py_ssize_t)strlen(json), "replace");
	free(json);
	return text;
}
