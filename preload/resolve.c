/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a program gets to our functions: dlsym, and the driver's own resolvers.
 * The real one answers first; what it gave is replaced by its address.
 *
 * What dlsym means by RTLD_NEXT and RTLD_DEFAULT depends on who calls it, so
 * these calls go on to the real one with the caller's own return address.
 *
 * Invariant: a sanitizer asks by dlsym before its own memory is there, and an
 * allocator before it can allocate: until a name of CUDA's is asked for,
 * nothing here is instrumented or allocates.
 */
#include "preload/hooks.h"

#include <dlfcn.h>
#include <stdatomic.h>

#if defined(__clang__)
#define EARLY __attribute__((disable_sanitizer_instrumentation))
#else
#define EARLY __attribute__((no_sanitize("address", "thread", "undefined")))
#endif

typedef void *resolver(void *handle, const char *name);

/* In registers: where to go on, or else what to answer. */
struct answer {
	resolver *go_on;
	void *value;
};

struct answer pl_dlsym_look(void *handle, const char *name);

/*
 * "dlsym" for programs is made of it by the linker: base/glibc.h gives the
 * name another meaning in our own code.
 */
__asm__(".text\n"
	".globl pl_dlsym\n"
	".type pl_dlsym, @function\n"
	"pl_dlsym:\n"
	".cfi_startproc\n"
	"	endbr64\n"
	"	pushq %rdi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	pushq %rsi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	subq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	call pl_dlsym_look\n"
	"	addq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq %rsi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	popq %rdi\n"
	"	.cfi_adjust_cfa_offset -8\n"
	"	testq %rax, %rax\n"
	"	jz 1f\n"
	"	jmp *%rax\n"
	"1:	movq %rdx, %rax\n"
	"	ret\n"
	".cfi_endproc\n"
	".size pl_dlsym, . - pl_dlsym\n");

static _Atomic(resolver *) known_dlsym;

EARLY static void *no_dlsym(void *handle, const char *name)
{
	(void)handle;
	(void)name;
	return NULL;
}

EARLY static resolver *real_dlsym(void)
{
	resolver *real =
		atomic_load_explicit(&known_dlsym, memory_order_relaxed);
	void *address;

	if (real)
		return real;
	address = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.34");
	if (!address)
		address = dlvsym(RTLD_NEXT, "dlsym", "GLIBC_2.2.5");
	if (!address)
		return no_dlsym;
	real = (resolver *)(uintptr_t)address;
	atomic_store_explicit(&known_dlsym, real, memory_order_relaxed);
	return real;
}

EARLY void *pl_real_dlsym(void *handle, const char *name)
{
	return real_dlsym()(handle, name);
}

EARLY static bool is_cuda(const char *name)
{
	return name && name[0] == 'c' && name[1] == 'u';
}

/*
 * In a process without a driver our functions are not there: this looks behind
 * us, finds nothing, and leaves the error as dlerror() has it then.
 */
static void *look_behind_us(const char *name)
{
	return pl_real_dlsym(RTLD_NEXT, name);
}

static struct answer look_at(resolver *real, void *handle, const char *name)
{
	struct answer answer = { NULL, NULL };

	if (handle == RTLD_DEFAULT) {
		if (pl_is_hook_name(name) && !pl_has_driver())
			answer.value = look_behind_us(name);
		else
			answer.go_on = real;
		return answer;
	}
	answer.value = real(handle, name);
	if (!answer.value)
		return answer;
	if (pl_is_hook(answer.value) && !pl_has_driver())
		answer.value = look_behind_us(name);
	else
		answer.value = pl_replace(answer.value);
	return answer;
}

EARLY struct answer pl_dlsym_look(void *handle, const char *name)
{
	struct answer answer = { real_dlsym(), NULL };

	if (handle == RTLD_NEXT || !is_cuda(name))
		return answer;
	return look_at(answer.go_on, handle, name);
}

/* ---- the driver's own ---- */

static CUresult replaced(CUresult result, void **function)
{
	if (result == CUDA_SUCCESS && function)
		*function = pl_replace(*function);
	return result;
}

CUresult cuGetProcAddress(const char *symbol, void **function, int version,
			  cuuint64_t flags)
{
	return replaced(
		pl_driver()->cuGetProcAddress(symbol, function, version, flags),
		function);
}

CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version,
			     cuuint64_t flags,
			     CUdriverProcAddressQueryResult *status)
{
	return replaced(pl_driver()->cuGetProcAddress_v2(
				symbol, function, version, flags, status),
			function);
}

CUresult cuGetProcAddress_v2_ptsz(const char *symbol, void **function,
				  int version, cuuint64_t flags,
				  CUdriverProcAddressQueryResult *status)
{
	return replaced(pl_driver()->cuGetProcAddress_v2_ptsz(
				symbol, function, version, flags, status),
			function);
}
