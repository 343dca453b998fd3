/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Prints what a compiler makes of our declarations, a line each. Compiled
 * with device/cuda_abi.h and with the real cuda.h (-DWITH_CUDA_H), which then
 * declares every variant of a function, under the name that the driver has it
 * under; check.py compares the two. absent.h is made by check.py: what that
 * header does not know, as we have it.
 */
#if defined(WITH_CUDA_H)
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>

#include "absent.h"
#else
#include "device/cuda_abi.h"
#endif

#include <cstddef>
#include <cstdio>
#include <typeinfo>

/* A type as the compiler writes it into symbols. */
template <class T> static const char *mangled()
{
	return typeid(T).name();
}

/* The functions, as the header itself has them or as our list does. */
#if defined(WITH_CUDA_H)
#define SIGNATURE(type, name, params) mangled<decltype(&name)>()
#else
#define SIGNATURE(type, name, params) mangled<type(*) params>()
#endif

static void describe_functions()
{
#define SYMBOL(need, type, name, params)                                       \
	std::printf("function %s: %s\n", #name, SIGNATURE(type, name, params));
#include "device/symbols.def"
#undef SYMBOL
}

static void describe_types()
{
#define TYPE(name)                                                             \
	std::printf("type %s: %s, %zu bytes, aligned to %zu\n", #name,         \
		    mangled<name>(), sizeof(name), alignof(name));
#define FIELD(type, field)                                                     \
	std::printf("field %s.%s: at %zu, %zu bytes\n", #type, #field,         \
		    offsetof(type, field), sizeof(((type *)nullptr)->field));
#define OPAQUE(name) std::printf("type %s: %s\n", #name, mangled<name *>());
#define VALUE(name) std::printf("value %s: %lld\n", #name, (long long)(name));
#include "tests/abi/declarations.def"
#undef VALUE
#undef OPAQUE
#undef FIELD
#undef TYPE
}

static void describe_results()
{
#define RESULT(name, value, status, text)                                      \
	std::printf("value %s: %lld\n", #name, (long long)(name));
#include "device/results.def"
#undef RESULT
}

int main()
{
	describe_functions();
	describe_types();
	describe_results();
	return 0;
}
