/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The module: its types, its functions, the numbers of the C API. */
#include "python_shim/ext/ext.h"

static PyMethodDef functions[] = {
	{ "statuses", py_statuses, METH_NOARGS, NULL },
	{ "add", py_add, METH_VARARGS, NULL },
	{ "order", py_order, METH_VARARGS, NULL },
	{ "ask", py_ask, METH_VARARGS, NULL },
	{ "set_settle", py_set_settle, METH_O, NULL },
	{ "wait_for_file", py_wait_for_file, METH_VARARGS, NULL },
	{ 0 },
};

static struct PyModuleDef definition = {
	PyModuleDef_HEAD_INIT,
	.m_name = "poolswitch._native",
	.m_doc = "The C API of poolswitch, thin. Use the package's.",
	.m_size = -1,
	.m_methods = functions,
};

static const struct {
	const char *name;
	long value;
} numbers[] = {
	{ "SEND_WRITABLE_PARAMETERS", PS_SEND_WRITABLE_PARAMETERS },
	{ "PEER_ANY_USER", PS_PEER_ANY_USER },
	{ "INSERT_ALIAS", PS_INSERT_ALIAS },
	{ "REGION_PARAMETER", PS_REGION_PARAMETER },
	{ "REGION_COMPUTATION", PS_REGION_COMPUTATION },
	{ "MODEL_PUBLIC", PS_MODEL_PUBLIC },
	{ "PLAN_BEST", PS_PLAN_BEST },
	{ "PLAN_TENSOR", PS_PLAN_TENSOR },
	{ "PLAN_LAYER", PS_PLAN_LAYER },
	{ "PLAN_ONE", PS_PLAN_ONE },
	{ "PLAN_GROUPS", PS_PLAN_GROUPS },
	{ "MODEL_LOAD", PS_MODEL_LOAD },
	{ "MODEL_PREFETCH", PS_MODEL_PREFETCH },
	{ "MODEL_EVICT", PS_MODEL_EVICT },
	{ "MODEL_PIN", PS_MODEL_PIN },
	{ "MODEL_UNPIN", PS_MODEL_UNPIN },
	{ "MODEL_REMOVE", PS_MODEL_REMOVE },
	{ "PRIORITY_DEFAULT", PS_PRIORITY_DEFAULT },
	{ "ASK_STATUS", PS_ASK_STATUS },
	{ "ASK_DRAIN", PS_ASK_DRAIN },
	{ "ASK_SHUTDOWN", PS_ASK_SHUTDOWN },
	{ "ASK_RELOAD", PS_ASK_RELOAD },
	{ "ASK_PRESENCE", PS_ASK_PRESENCE },
	{ "ASK_MODELS", PS_ASK_MODELS },
	{ "TIMEOUT_DEFAULT", PS_TIMEOUT_DEFAULT },
};

static bool add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out)
{
	PyObject *type = PyType_FromSpec(spec);

	*out = (PyTypeObject *)type;
	return type && PyModule_AddType(module, *out) == 0;
}

static bool fill(PyObject *module)
{
	size_t i;

	for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (PyModule_AddIntConstant(module, numbers[i].name,
					    numbers[i].value) != 0)
			return false;
	return add_type(module, &py_pool_spec, &py_pool_type) &&
	       add_type(module, &py_model_spec, &py_model_type) &&
	       add_type(module, &py_tensor_spec, &py_tensor_type) &&
	       add_type(module, &py_hook_spec, &py_hook_type) &&
	       PyModule_AddStringConstant(module, "version", ps_version()) == 0;
}

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
	PyObject *module = PyModule_Create(&definition);

	if (module && !fill(module))
		Py_CLEAR(module);
	return module;
}
