/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* What is asked of a pool. */
#include "python_shim/ext/ext.h"

#include <stddef.h>
#include <string.h>

static PyObject *classes_of(const struct ps_mem_stats *stats)
{
	PyObject *list = PyList_New(0);
	PyObject *item;
	size_t i;

	for (i = 0; list && i < PS_SIZE_CLASSES; i++) {
		item = Py_BuildValue(
			"KKK", (unsigned long long)stats->classes[i].largest,
			(unsigned long long)stats->classes[i].live_blocks,
			(unsigned long long)stats->classes[i].live);
		if (!item || PyList_Append(list, item) != 0)
			Py_CLEAR(list);
		Py_XDECREF(item);
	}
	return list;
}

#define STAT(field)                                                            \
	{                                                                      \
#field, offsetof(struct ps_mem_stats, field)                   \
	}

static const struct {
	const char *name;
	size_t at;
} stat_fields[] = {
	STAT(pool),      STAT(inserted),      STAT(mapped),
	STAT(reserved),  STAT(live),          STAT(cached),
	STAT(pending),   STAT(largest_free),  STAT(live_blocks),
	STAT(allocs),    STAT(frees),         STAT(failed_allocs),
	STAT(fences),    STAT(gathered),      STAT(fence_waits),
	STAT(peak_live), STAT(peak_reserved), STAT(outside),
	STAT(passed),    STAT(opened),
};

static bool put(PyObject *dict, const char *name, PyObject *value)
{
	bool ok = value && PyDict_SetItemString(dict, name, value) == 0;

	Py_XDECREF(value);
	return ok;
}

static PyObject *dict_of(const struct ps_mem_stats *stats)
{
	PyObject *dict = PyDict_New();
	uint64_t value;
	bool ok = dict;
	size_t i;

	for (i = 0; ok && i < sizeof(stat_fields) / sizeof(*stat_fields); i++) {
		memcpy(&value, (const char *)stats + stat_fields[i].at,
		       sizeof(value));
		ok = put(dict, stat_fields[i].name,
			 PyLong_FromUnsignedLongLong(value));
	}
	ok = ok && put(dict, "classes", classes_of(stats));
	if (!ok)
		Py_CLEAR(dict);
	return dict;
}

PyObject *py_pool_stats(PyObject *object, PyObject *unused)
{
	struct py_pool *self = (struct py_pool *)object;
	struct ps_mem_stats stats = { .struct_size = sizeof(stats) };
	struct ps_pool *pool = py_pool_enter(self);
	enum ps_status status;

	(void)unused;
	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_mem_get_stats(pool, &stats);
	Py_END_ALLOW_THREADS;
	py_pool_leave(self);
	return status == PS_OK ? dict_of(&stats) : py_raise(status);
}

PyObject *py_pool_info(PyObject *object, PyObject *unused)
{
	struct py_pool *self = (struct py_pool *)object;
	struct ps_pool *pool = py_pool_enter(self);
	uint64_t free_bytes, total;
	enum ps_status status;

	(void)unused;
	if (!pool)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = ps_mem_get_info(pool, &free_bytes, &total);
	Py_END_ALLOW_THREADS;
	py_pool_leave(self);
	if (status != PS_OK)
		return py_raise(status);
	return Py_BuildValue("KK", (unsigned long long)free_bytes,
			     (unsigned long long)total);
}

PyObject *py_pool_region(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	uint64_t offset, size;
	enum ps_status status;
	struct ps_pool *pool;
	int region;

	if (!PyArg_ParseTuple(args, "i", &region))
		return NULL;
	pool = py_pool_enter(self);
	if (!pool)
		return NULL;
	status = ps_pool_region(pool, (enum ps_region)region, &offset, &size);
	py_pool_leave(self);
	if (status != PS_OK)
		return py_raise(status);
	return Py_BuildValue("KK", (unsigned long long)offset,
			     (unsigned long long)size);
}

PyObject *py_pool_pointer(PyObject *object, PyObject *args)
{
	struct py_pool *self = (struct py_pool *)object;
	unsigned long long offset;
	struct ps_pool *pool;
	void *ptr;

	if (!PyArg_ParseTuple(args, "K", &offset))
		return NULL;
	pool = py_pool_enter(self);
	if (!pool)
		return NULL;
	ptr = ps_pool_pointer(pool, offset);
	py_pool_leave(self);
	if (!ptr)
		return PyErr_Format(PyExc_IndexError,
				    "offset %llu is not in the pool", offset);
	return PyLong_FromVoidPtr(ptr);
}
