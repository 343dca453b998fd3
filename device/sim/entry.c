/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/sim/entry.h"

#include "device/sim/control.h"
#include "device/sim/vram.h"
#include "device/sim/work.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The slot behind the last symbol's stands for any symbol. */
#define ANY SIM_SYMBOLS

struct fault {
	unsigned int left; /* calls until it strikes; 0: none */
	CUresult code;
};

static const char *const names[] = {
#define SYMBOL(need, type, name, params) #name,
#include "device/symbols.def"
#undef SYMBOL
};

static atomic_ulong calls[SIM_SYMBOLS];
static atomic_bool has_faults; /* looked at without the lock */
static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fault faults[SIM_SYMBOLS + 1]; /* guarded by fault_lock */
static pthread_once_t settings_once = PTHREAD_ONCE_INIT;

uint64_t sim_number(const char *text)
{
	static const char units[] = "KMGT";
	const char *unit;
	uint64_t value;
	char *end;

	value = strtoull(text, &end, 10);
	unit = *end ? strchr(units, *end) : NULL;
	return unit ? value << (10 * (unit - units + 1)) : value;
}

uint64_t sim_setting(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text && *text ? sim_number(text) : otherwise;
}

static unsigned int find_symbol(const char *name, size_t length)
{
	unsigned int i;

	for (i = 0; i < SIM_SYMBOLS; i++)
		if (strlen(names[i]) == length &&
		    strncmp(names[i], name, length) == 0)
			return i;
	return ANY;
}

static void set_fault(unsigned int symbol, unsigned int nth, int code)
{
	pthread_mutex_lock(&fault_lock);
	faults[symbol].left = nth;
	faults[symbol].code = (CUresult)code;
	pthread_mutex_unlock(&fault_lock);
	atomic_store(&has_faults, true);
}

/* "cuMemCreate:3=2,...": fail the 3rd call with code 2. */
static void read_settings(void)
{
	const char *text = getenv("POOLSWITCH_SIM_FAIL");
	unsigned int nth;
	size_t length;
	int code;

	while (text && *text) {
		length = strcspn(text, ":");
		if (sscanf(text + length, ":%u=%d", &nth, &code) == 2)
			set_fault(find_symbol(text, length), nth, code);
		else
			fprintf(stderr,
				"simulated GPU: POOLSWITCH_SIM_FAIL: \"%s\" is "
				"not symbol:n=code\n",
				text);
		text = strchr(text, ',');
		text = text ? text + 1 : NULL;
	}
}

/* With a mark only one call fails, in whichever process: who makes it. */
static bool may_strike(void)
{
	const char *mark = getenv("POOLSWITCH_SIM_FAIL_MARK");
	int fd;

	if (!mark)
		return true;
	fd = open(mark, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static bool strikes(struct fault *fault, CUresult *code_out)
{
	if (fault->left == 0 || --fault->left > 0 || !may_strike())
		return false;
	*code_out = fault->code;
	return true;
}

static CUresult take_fault(enum sim_symbol symbol)
{
	CUresult code = CUDA_SUCCESS;

	if (!atomic_load_explicit(&has_faults, memory_order_relaxed))
		return CUDA_SUCCESS;
	pthread_mutex_lock(&fault_lock);
	if (!strikes(&faults[symbol], &code))
		strikes(&faults[ANY], &code);
	pthread_mutex_unlock(&fault_lock);
	return code;
}

CUresult sim_enter(enum sim_symbol symbol, enum sim_condition condition)
{
	CUresult code;

	pthread_once(&settings_once, read_settings);
	atomic_fetch_add_explicit(&calls[symbol], 1, memory_order_relaxed);
	code = take_fault(symbol);
	if (code != CUDA_SUCCESS || condition == SIM_ALWAYS)
		return code;
	if (!sim_is_initialized())
		return CUDA_ERROR_NOT_INITIALIZED;
	if (sim_vram_is_lost())
		return CUDA_ERROR_ECC_UNCORRECTABLE;
	return condition == SIM_INITIALIZED ? CUDA_SUCCESS
					    : sim_current_state();
}

SIM_EXPORT void simFailNth(const char *symbol, unsigned int nth, int code)
{
	pthread_once(&settings_once, read_settings);
	set_fault(symbol ? find_symbol(symbol, strlen(symbol)) : ANY, nth,
		  code);
}

SIM_EXPORT unsigned long simCalls(const char *symbol)
{
	unsigned long sum = 0;
	unsigned int i;

	for (i = 0; i < SIM_SYMBOLS; i++)
		if (!symbol || strcmp(symbol, names[i]) == 0)
			sum += atomic_load(&calls[i]);
	return sum;
}

SIM_EXPORT void simLoseDevice(void)
{
	sim_vram_set_lost(true);
}

SIM_EXPORT void simReset(void)
{
	unsigned int i;

	pthread_mutex_lock(&fault_lock);
	memset(faults, 0, sizeof(faults));
	pthread_mutex_unlock(&fault_lock);
	for (i = 0; i < SIM_SYMBOLS; i++)
		atomic_store(&calls[i], 0);
	sim_vram_set_lost(false);
	sim_work_clear_errors();
}

static void close_sockets(void)
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	struct stat info;
	int fd;

	while (folder && (entry = readdir(folder))) {
		fd = atoi(entry->d_name);
		if (fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode))
			close(fd);
	}
	if (folder)
		closedir(folder);
}

SIM_EXPORT void simDie(unsigned int milliseconds)
{
	const struct timespec rest = { milliseconds / 1000,
				       milliseconds % 1000 * 1000000L };

	close_sockets();
	nanosleep(&rest, NULL);
	raise(SIGKILL);
}

struct result {
	CUresult code;
	const char *name;
	const char *text;
};

static const struct result results[] = {
#define RESULT(name, value, status, text) { name, #name, text },
#include "device/results.def"
#undef RESULT
};

static const struct result *find_result(CUresult code)
{
	size_t i;

	for (i = 0; i < sizeof(results) / sizeof(results[0]); i++)
		if (results[i].code == code)
			return &results[i];
	return NULL;
}

CUresult cuGetErrorName(CUresult error, const char **name)
{
	const struct result *result = find_result(error);

	ENTER_IF(cuGetErrorName, SIM_ALWAYS);
	*name = result ? result->name : NULL;
	return result ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
	const struct result *result = find_result(error);

	ENTER_IF(cuGetErrorString, SIM_ALWAYS);
	*text = result ? result->text : NULL;
	return result ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
