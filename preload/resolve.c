/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a program gets to our functions: dlsym, and the driver's own resolvers.
 * The real one answers first; what it gave is replaced by its address.
 *
 * What dlsym means by RTLD_NEXT and RTLD_DEFAULT depends on who calls it, so
 * these calls go on to the real one with the caller's own return address.
 *
 * dlopen is passed on in the same way, and only looked at for RTLD_DEEPBIND.
 *
 * Invariant: until a name of CUDA's is asked for, nothing here is instrumented
 * or allocates (PL_EARLY).
 */
#include "preload/driver.h"
#include "preload/hooks.h"
#include "preload/rivals.h"

#include <dlfcn.h>
#include <stdatomic.h>

typedef void *resolver(void *handle, const char *name);
typedef void *opener(const char *file, int flags);

/* In registers: where to go on, or else what to answer. */
struct answer {
	resolver *go_on;
	void *value;
};

struct opening {
	opener *go_on;
	void *value;
};

struct answer pl_dlsym_look(void *handle, const char *name);
struct opening pl_dlopen_look(const char *file, int flags);

/*
 * "dlsym" and "dlopen" for programs are made of these by the linker:
 * base/glibc.h gives the names another meaning in our own code. Both keep the
 * arguments, ask @look, and go on to where it says, or answer.
 */
__asm__(".text\n"
	".macro pl_entry name, look\n"
	".globl \\name\n"
	".type \\name, @function\n"
	"\\name:\n"
	".cfi_startproc\n"
	"	endbr64\n"
	"	pushq %rdi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	pushq %rsi\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	subq $8, %rsp\n"
	"	.cfi_adjust_cfa_offset 8\n"
	"	call \\look\n"
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
	".size \\name, . - \\name\n"
	".endm\n"
	"pl_entry pl_dlsym, pl_dlsym_look\n"
	"pl_entry pl_dlopen, pl_dlopen_look\n");

static _Atomic(resolver *) known_dlsym;
static _Atomic(opener *) known_dlopen;

PL_EARLY static void *no_dlsym(void *handle, const char *name)
{
	(void)handle;
	(void)name;
	return NULL;
}

/* The C library's, newest first. */
PL_EARLY static void *find_in_libc(const char *name)
{
	void *address = dlvsym(RTLD_NEXT, name, "GLIBC_2.34");

	return address ? address : dlvsym(RTLD_NEXT, name, "GLIBC_2.2.5");
}

PL_EARLY static resolver *real_dlsym(void)
{
	resolver *real =
		atomic_load_explicit(&known_dlsym, memory_order_relaxed);

	if (real)
		return real;
	real = (resolver *)(uintptr_t)find_in_libc("dlsym");
	if (!real)
		return no_dlsym;
	atomic_store_explicit(&known_dlsym, real, memory_order_relaxed);
	return real;
}

PL_EARLY void *pl_real_dlsym(void *handle, const char *name)
{
	return real_dlsym()(handle, name);
}

const void *pl_libc_dlsym(void)
{
	return (const void *)(uintptr_t)real_dlsym();
}

PL_EARLY static bool is_cuda(const char *name)
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

PL_EARLY struct answer pl_dlsym_look(void *handle, const char *name)
{
	struct answer answer = { real_dlsym(), NULL };

	if (pl_has_deep() && pl_has_driver())
		pl_look_at_deep();
	if (handle == RTLD_NEXT || !is_cuda(name))
		return answer;
	return look_at(answer.go_on, handle, name);
}

PL_EARLY struct opening pl_dlopen_look(const char *file, int flags)
{
	struct opening opening;

	opening.value = NULL;
	opening.go_on =
		atomic_load_explicit(&known_dlopen, memory_order_relaxed);
	if (!opening.go_on) {
		opening.go_on = (opener *)(uintptr_t)find_in_libc("dlopen");
		atomic_store_explicit(&known_dlopen, opening.go_on,
				      memory_order_relaxed);
	}
	if (file && (flags & RTLD_DEEPBIND))
		pl_note_deep(file);
	return opening;
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
