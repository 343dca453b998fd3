/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * poolswitch._native: the public header for Python, thin. Arguments are
 * positional and plain numbers; names, defaults and units are the package's
 * business (poolswitch/).
 *
 * Invariants: the interpreter's lock is not held while a call may wait or
 * reach the driver. What a caller still uses is not closed below it: a pool
 * counts the calls that run on it and the views of its memory that are alive.
 */
#ifndef PYTHON_SHIM_EXT_H
#define PYTHON_SHIM_EXT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "include/poolswitch.h"

/* All of these are guarded by the interpreter's lock. */
struct py_pool {
	PyObject_HEAD struct ps_pool *pool; /* NULL: not opened, or closed */
	Py_ssize_t users; /* calls that run, views that are alive */
	int device;       /* CUDA's number of the GPU here */
	bool was_opened;  /* an object is one pool, once */
};

struct py_model {
	PyObject_HEAD struct py_pool *owner; /* a reference */
	struct ps_model *model; /* NULL: not attached, or detached */
	Py_ssize_t users;       /* as for a pool, which counts them too */
	Py_ssize_t uses;        /* not released */
};

/* Memory that others may look at. */
struct py_tensor {
	PyObject_HEAD struct py_pool
		*pool;          /* a reference, and one of its users */
	struct py_model *model; /* the same; NULL: a block of the pool */
	struct ps_tensor is;    /* name is unused */
	PyObject *name;         /* text or None */
	uint32_t number;        /* in the model */
	bool is_block;          /* freed with the object */
};

extern PyTypeObject *py_pool_type;
extern PyTypeObject *py_model_type;
extern PyTypeObject *py_tensor_type;
extern PyTypeObject *py_hook_type;

/* The types' definitions. */
extern PyType_Spec py_pool_spec;
extern PyType_Spec py_model_spec;
extern PyType_Spec py_tensor_spec;
extern PyType_Spec py_hook_spec;

/* ---- error.c ---- */

/* Raises the exception of a status with its detail. Always NULL. */
PyObject *py_raise(enum ps_status status);
/* None, or raises. */
PyObject *py_none(enum ps_status status);
/* text of the status' number, its name and its meaning; NULL at the end. */
PyObject *py_statuses(PyObject *self, PyObject *unused);

/* ---- argument.c ---- */

/* For "O&": None, a number, or an object that knows its stream. */
int py_stream(PyObject *object, void *stream_out);
/* For "O&": None or 32 bytes. */
int py_hash(PyObject *object, void *hash_out);

/* ---- pool.c ---- */

/* The pool, held open until py_pool_leave(); NULL and an exception when it is
 * closed. */
struct ps_pool *py_pool_enter(struct py_pool *self);
void py_pool_leave(struct py_pool *self);

/* ---- pool_numbers.c: methods ---- */

PyObject *py_pool_stats(PyObject *object, PyObject *unused);
PyObject *py_pool_info(PyObject *object, PyObject *unused);
PyObject *py_pool_region(PyObject *object, PyObject *args);
PyObject *py_pool_pointer(PyObject *object, PyObject *args);

/* ---- model.c ---- */

/* As for the pool. */
struct ps_model *py_model_enter(struct py_model *self);
void py_model_leave(struct py_model *self);
enum ps_status py_model_use(struct py_model *self, struct ps_model *model,
			    unsigned int priority, int timeout_ms);
enum ps_status py_model_release(struct py_model *self, struct ps_model *model,
				void *stream);
/* Without the interpreter's lock. */
enum ps_status py_model_wait(struct ps_model *model, void *stream,
			     uint32_t tensor);
/* ps_model_add(), ps_model_order(), ps_daemon_ask() */
PyObject *py_add(PyObject *self, PyObject *args);
PyObject *py_order(PyObject *self, PyObject *args);
PyObject *py_ask(PyObject *self, PyObject *args);

/* ---- tensor.c ---- */

PyObject *py_tensor_new(struct py_pool *pool, struct py_model *model,
			const struct ps_tensor *is, uint32_t number,
			bool is_block);
/* What makes memory of the simulated GPU ready for the host. */
PyObject *py_set_settle(PyObject *self, PyObject *function);
/* 0, or -1 and an exception. */
int py_settle(void *stream);
/* Whether GPU memory is host memory. */
bool py_is_simulated(void);

/* ---- meet.c ---- */

/* Waits until a file has the name. */
PyObject *py_wait_for_file(PyObject *self, PyObject *args);

#endif /* PYTHON_SHIM_EXT_H */
