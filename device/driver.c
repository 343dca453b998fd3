/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/driver.h"

#include "base/lock.h"
#include "base/status.h"
#include "device/device.h"
#include "device/result.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* CUDA 12.0 came with driver 525. */
#define OLDEST_VERSION 12000

#define REAL_LIBRARY "libcuda.so.1"
#define SIM_LIBRARY "poolswitch/sim/libcuda.so.1"

/* Where the real driver's files are. */
#define REAL_FILES "/dev/nvidia"

/* Only the simulated library exports it. */
#define SIM_MARK "simFolder"

enum need { OPTIONAL, REQUIRED };

struct symbol {
	const char *name;
	size_t offset; /* of its pointer in struct dv_driver */
	enum need need;
};

static const struct symbol symbols[] = {
#define SYMBOL(need, type, name, params)                                       \
	{ #name, offsetof(struct dv_driver, name), need },
#include "device/symbols.def"
#undef SYMBOL
};

/* How the address of a function of a library is asked for: dlsym. */
typedef void *finder(void *library, const char *name);

/* Around dv_driver_get() only, so that it opens the library once. */
static struct bs_lock load_lock = { PTHREAD_MUTEX_INITIALIZER, BS_RANK_DEVICE };
static _Atomic(const struct dv_driver *) loaded;

bool dv_is_wsl(void)
{
	char release[256] = "";
	FILE *file;

	if (access("/dev/dxg", F_OK) == 0)
		return true;
	file = fopen("/proc/sys/kernel/osrelease", "re");
	if (!file)
		return false;
	if (!fgets(release, sizeof(release), file))
		release[0] = '\0';
	fclose(file);
	return strcasestr(release, "microsoft") != NULL;
}

static enum ps_status choose(bool *simulated_out)
{
	const char *choice = getenv("POOLSWITCH_DRIVER");

	if (!choice || !*choice || strcmp(choice, "real") == 0)
		*simulated_out = false;
	else if (strcmp(choice, "sim") == 0)
		*simulated_out = true;
	else
		return bs_fail(PS_NO_DRIVER,
			       "POOLSWITCH_DRIVER is \"%s\"; \"real\" (the "
			       "default) and \"sim\" are known",
			       choice);
	return PS_OK;
}

/* Beside the object that this code is in, unless the environment says. */
static enum ps_status sim_path(char path[PATH_MAX])
{
	const char *given = getenv("POOLSWITCH_SIM_LIBRARY");
	const char *slash;
	Dl_info self;
	int folder;
	int length;

	if (given && *given) {
		length = snprintf(path, PATH_MAX, "%s", given);
	} else {
		if (dladdr((const void *)symbols, &self) == 0)
			return bs_fail(PS_NO_DRIVER,
				       "the place of this library is unknown; "
				       "set POOLSWITCH_SIM_LIBRARY");
		slash = strrchr(self.dli_fname, '/');
		folder = slash ? (int)(slash - self.dli_fname) + 1 : 0;
		length = snprintf(path, PATH_MAX, "%.*s%s", folder,
				  self.dli_fname, SIM_LIBRARY);
	}
	if (length < 0 || length >= PATH_MAX)
		return bs_fail(PS_NO_DRIVER, "the path of the simulated "
					     "driver is too long");
	return PS_OK;
}

static enum ps_status open_library(bool simulated, void **library_out)
{
	char path[PATH_MAX] = REAL_LIBRARY;
	enum ps_status status;
	void *library;

	if (simulated) {
		status = sim_path(path);
		if (status != PS_OK)
			return status;
	}
	library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return bs_fail(
			PS_NO_DRIVER, "%s; %s", dlerror(),
			simulated ? "install or build the simulated GPU, or "
				    "name it in POOLSWITCH_SIM_LIBRARY"
				  : "install the NVIDIA driver (525 or "
				    "newer), or set POOLSWITCH_DRIVER=sim "
				    "for the simulated GPU");
	if ((dlsym(library, SIM_MARK) != NULL) != simulated)
		return bs_fail(
			PS_NO_DRIVER,
			"%s is %s; POOLSWITCH_DRIVER asks for the other", path,
			simulated ? "a real driver" : "the simulated driver");
	*library_out = library;
	return PS_OK;
}

/* True when @name stands in the list of POOLSWITCH_WITHOUT. */
static bool is_without(const char *name)
{
	const char *list = getenv("POOLSWITCH_WITHOUT");
	size_t length = strlen(name);

	while (list && *list) {
		if (strncmp(list, name, length) == 0 &&
		    (list[length] == ',' || list[length] == '\0'))
			return true;
		list = strchr(list, ',');
		list = list ? list + 1 : NULL;
	}
	return false;
}

/* How the paths of the driver's files begin. */
static const char *files_of(void *mark)
{
	const char *(*folder)(void);

	if (!mark)
		return REAL_FILES;
	memcpy(&folder, &mark, sizeof(mark));
	return folder();
}

static enum ps_status fill_table(struct dv_driver *table, void *library,
				 finder *find)
{
	const struct symbol *symbol;
	void *address;
	size_t i;

	for (i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		symbol = &symbols[i];
		address = find(library, symbol->name);
		if (symbol->need == OPTIONAL && is_without(symbol->name))
			address = NULL;
		if (!address && symbol->need == REQUIRED)
			return bs_fail(PS_UNSUPPORTED,
				       "the CUDA driver lacks %s; driver 525 "
				       "or newer is needed",
				       symbol->name);
		memcpy((char *)table + symbol->offset, &address,
		       sizeof(address));
	}
	return PS_OK;
}

static enum ps_status check_version(struct dv_driver *table)
{
	CUresult result = table->cuDriverGetVersion(&table->version);

	if (result != CUDA_SUCCESS)
		return dv_result(table, result, "asking for CUDA's version");
	if (table->version < OLDEST_VERSION)
		return bs_fail(PS_UNSUPPORTED,
			       "the CUDA driver is for CUDA %d.%d; 12.0 is "
			       "needed: install driver 525 or newer",
			       table->version / 1000,
			       table->version % 1000 / 10);
	return PS_OK;
}

static enum ps_status check_system(bool simulated)
{
	if (!simulated && dv_is_wsl())
		return bs_fail(PS_UNSUPPORTED,
			       "this is WSL2, whose driver cannot share memory "
			       "by file descriptor; run on Linux itself");
	return PS_OK;
}

static enum ps_status complete(struct dv_driver *table, void *library,
			       finder *find)
{
	void *mark = find(library, SIM_MARK);
	enum ps_status status;

	status = check_system(mark != NULL);
	if (status == PS_OK)
		status = fill_table(table, library, find);
	if (status != PS_OK)
		return status;
	table->simulated = mark != NULL;
	table->files = files_of(mark);
	return check_version(table);
}

enum ps_status dv_driver_use(void *library, finder *find)
{
	const struct dv_driver *none = NULL;
	enum ps_status status;
	struct dv_driver *table;

	if (dv_driver_loaded())
		return PS_OK;
	table = calloc(1, sizeof(*table));
	if (!table)
		return bs_fail(PS_OUT_OF_MEMORY,
			       "no memory for the table of the driver's "
			       "functions, %zu bytes",
			       sizeof(*table));
	status = complete(table, library, find);
	if (status != PS_OK ||
	    !atomic_compare_exchange_strong_explicit(&loaded, &none, table,
						     memory_order_acq_rel,
						     memory_order_acquire))
		free(table);
	return status;
}

static enum ps_status load(void)
{
	enum ps_status status;
	bool simulated;
	void *library;

	status = choose(&simulated);
	if (status == PS_OK)
		status = check_system(simulated);
	if (status == PS_OK)
		status = open_library(simulated, &library);
	if (status != PS_OK)
		return status;
	return dv_driver_use(library, dlsym);
}

const struct dv_driver *dv_driver_loaded(void)
{
	return atomic_load_explicit(&loaded, memory_order_acquire);
}

enum ps_status dv_driver_get(const struct dv_driver **driver_out)
{
	enum ps_status status = PS_OK;

	if (!dv_driver_loaded()) {
		bs_lock_take(&load_lock);
		if (!dv_driver_loaded())
			status = load();
		bs_lock_drop(&load_lock);
	}
	if (status == PS_OK)
		*driver_out = dv_driver_loaded();
	return status;
}
