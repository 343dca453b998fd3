/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/driver.h"

#include "preload/hooks.h"
#include "preload/rivals.h"
#include "preload/state.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define DRIVER_LIBRARY "libcuda.so.1"
#define PER_THREAD "_ptsz"

#define NAME_BYTES 64
/* A power of two, at least four times the addresses of all hooks. */
#define PLACES 512u

/* Where a hook's real function stands in struct dv_driver. */
struct hook {
	const char *name;
	void *ours;
	size_t offset;
	int version; /* of CUDA: of the name without its suffix */
};

struct place {
	const void *real;
	void *ours;
};

/* Immutable once it is published. */
struct found {
	struct dv_driver driver;
	struct place places[PLACES]; /* by hash of the real address */
};

static const struct hook hooks[] = {
#define HOOK(name, version)                                                    \
	{ #name, (void *)(uintptr_t)&name, offsetof(struct dv_driver, name),   \
	  version },
#include "preload/hooks.def"
#undef HOOK
};

#define HOOKS (sizeof(hooks) / sizeof(hooks[0]))

static _Atomic(const struct found *) published;

/* ---- what stands where there is nothing to call ---- */

static CUresult no_driver(void)
{
	return CUDA_ERROR_NOT_INITIALIZED;
}

static CUresult not_there(void)
{
	return CUDA_ERROR_NOT_SUPPORTED;
}

/* Called with arguments that they do not look at, which x86-64 allows. */
static const struct dv_driver without = {
#define SYMBOL(need, type, name, params)                                       \
	.name = (type(*) params)(void (*)(void))no_driver,
#include "device/symbols.def"
#undef SYMBOL
};

static void *slot_of(const struct dv_driver *driver, const struct hook *hook)
{
	void *address;

	memcpy(&address, (const char *)driver + hook->offset, sizeof(address));
	return address;
}

static void fill_slot(struct dv_driver *driver, size_t offset, void *address)
{
	memcpy((char *)driver + offset, &address, sizeof(address));
}

/* ---- from the real address to ours ---- */

static size_t hash(const void *address)
{
	return (size_t)(((uintptr_t)address >> 4) *
				UINT64_C(0x9e3779b97f4a7c15) >>
			32);
}

static void *lookup(const struct found *found, const void *address)
{
	const struct place *place;
	size_t at = hash(address);

	for (;; at++) {
		place = &found->places[at % PLACES];
		if (place->real == address)
			return place->ours;
		if (!place->real)
			return NULL;
	}
}

/* The first hook that an address is given for keeps it. */
static void add_place(struct found *found, const void *real, void *ours)
{
	size_t at = hash(real);

	if (!real || lookup(found, real))
		return;
	while (found->places[at % PLACES].real)
		at++;
	found->places[at % PLACES].real = real;
	found->places[at % PLACES].ours = ours;
}

/* ---- the addresses that the driver itself gives for a name ---- */

static void *ask(const struct dv_driver *driver, const char *name, int version,
		 cuuint64_t flags)
{
	CUdriverProcAddressQueryResult status;
	void *address = NULL;
	CUresult result;

	if (driver->cuGetProcAddress_v2)
		result = driver->cuGetProcAddress_v2(name, &address, version,
						     flags, &status);
	else if (driver->cuGetProcAddress)
		result = driver->cuGetProcAddress(name, &address, version,
						  flags);
	else
		result = CUDA_ERROR_NOT_FOUND;
	return result == CUDA_SUCCESS ? address : NULL;
}

/* "cuMemFree" of "cuMemFree_v2"; true: of a name that ends in _ptsz. */
static bool base_of(const char *name, char base_out[NAME_BYTES])
{
	size_t length = strlen(name);
	const size_t suffix = strlen(PER_THREAD);
	bool per_thread;

	per_thread = length > suffix &&
		     strcmp(name + length - suffix, PER_THREAD) == 0;
	if (per_thread)
		length -= suffix;
	if (length > 3 && name[length - 3] == '_' && name[length - 2] == 'v')
		length -= 3;
	if (length >= NAME_BYTES)
		length = NAME_BYTES - 1;
	memcpy(base_out, name, length);
	base_out[length] = '\0';
	return per_thread;
}

/*
 * The driver may give one address by dlsym and another by its own resolver:
 * each way to this function of it leads to ours. Of one that it lacks it would
 * name an older one, which takes other arguments.
 */
static void add_answers(struct found *found, const struct hook *hook)
{
	const struct dv_driver *driver = &found->driver;
	char base[NAME_BYTES];

	if (!slot_of(driver, hook))
		return;
	if (base_of(hook->name, base)) {
		add_place(found,
			  ask(driver, base, hook->version,
			      CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM),
			  hook->ours);
		return;
	}
	add_place(found,
		  ask(driver, base, hook->version, CU_GET_PROC_ADDRESS_DEFAULT),
		  hook->ours);
	add_place(found,
		  ask(driver, base, hook->version,
		      CU_GET_PROC_ADDRESS_LEGACY_STREAM),
		  hook->ours);
}

static void add_places(struct found *found)
{
	size_t i;

	for (i = 0; i < HOOKS; i++)
		add_place(found, slot_of(&found->driver, &hooks[i]),
			  hooks[i].ours);
	for (i = 0; i < HOOKS; i++)
		add_answers(found, &hooks[i]);
}

/* ---- finding it ---- */

/* For a call of a function that the driver lacks. */
static void fill_gap(struct dv_driver *driver, size_t offset)
{
	void *address;

	memcpy(&address, (char *)driver + offset, sizeof(address));
	if (!address)
		fill_slot(driver, offset, (void *)(uintptr_t)&not_there);
}

/*
 * To one that is too old for a pool calls are forwarded all the same. Our own
 * calls may ask it for anything: it lacks more than an optional function.
 */
static void fill_unfit(struct dv_driver *driver, void *library)
{
#define SYMBOL(need, type, name, params)                                       \
	fill_slot(driver, offsetof(struct dv_driver, name),                    \
		  pl_real_dlsym(library, #name));
#include "device/symbols.def"
#undef SYMBOL
}

static void fill_gaps(struct dv_driver *driver, bool is_fit)
{
	for (size_t i = 0; i < HOOKS; i++)
		fill_gap(driver, hooks[i].offset);
	if (is_fit)
		return;
#define SYMBOL(need, type, name, params)                                       \
	fill_gap(driver, offsetof(struct dv_driver, name));
#include "device/symbols.def"
#undef SYMBOL
}

/* @library stays open: its threads would not survive its end. */
static const struct found *publish(void *library)
{
	struct found *made = calloc(1, sizeof(*made));
	const struct found *first = NULL;
	bool is_fit;

	if (!made)
		return NULL;
	is_fit = dv_driver_use(library, pl_real_dlsym) == PS_OK;
	if (is_fit)
		made->driver = *dv_driver_loaded();
	else
		fill_unfit(&made->driver, library);
	add_places(made);
	fill_gaps(&made->driver, is_fit);
	if (!atomic_compare_exchange_strong_explicit(&published, &first, made,
						     memory_order_acq_rel,
						     memory_order_acquire)) {
		free(made);
		return first;
	}
	pl_look_for_rivals();
	return made;
}

static const struct found *find(void)
{
	const struct found *found;
	void *library;
	PL_GUARD();

	library = dlopen(DRIVER_LIBRARY, RTLD_LAZY | RTLD_NOLOAD);
	found = library ? publish(library) : NULL;
	/* What the driver lacks is no error of the program's. */
	dlerror();
	return found;
}

static inline const struct found *get(void)
{
	const struct found *found =
		atomic_load_explicit(&published, memory_order_acquire);

	return found ? found : find();
}

const struct dv_driver *pl_driver(void)
{
	const struct found *found = get();

	return found ? &found->driver : &without;
}

bool pl_has_driver(void)
{
	return get() != NULL;
}

void *pl_replace(void *address)
{
	const struct found *found = get();
	void *ours = found && address ? lookup(found, address) : NULL;

	return ours ? ours : address;
}

bool pl_is_hook(const void *address)
{
	for (size_t i = 0; i < HOOKS; i++)
		if (hooks[i].ours == address)
			return true;
	return false;
}

bool pl_is_hook_name(const char *name)
{
	for (size_t i = 0; i < HOOKS; i++)
		if (strcmp(hooks[i].name, name) == 0)
			return true;
	return false;
}
