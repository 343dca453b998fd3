/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "preload/rivals.h"

#include "preload/driver.h"
#include "preload/state.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

/* Names of files that are remembered; what is longer or more is not. */
#define NOTES 4u
#define NOTE_BYTES 512

struct note {
	char file[NOTE_BYTES];
	atomic_bool is_ready; /* file is as it stays */
	atomic_bool is_seen;
};

static struct note notes[NOTES];
static atomic_uint notes_taken;
atomic_uint pl_deep_waiting;

/* ---- another dlsym ---- */

/* Where a program's own headers are: it begins there. */
static const void *program_base(void)
{
	return (const void *)(getauxval(AT_PHDR) - sizeof(ElfW(Ehdr)));
}

/*
 * The library that an address is of, unless it is one of the C library's or
 * ours. A program may have an address of its own for a function that it calls.
 */
static const char *rival_at(const void *address)
{
	const void *own = (const void *)(uintptr_t)&pl_look_for_rivals;
	Dl_info rival, libc, ours;

	if (!address || dladdr(address, &rival) == 0 ||
	    dladdr(own, &ours) == 0 || dladdr(pl_libc_dlsym(), &libc) == 0)
		return NULL;
	if (rival.dli_fbase == ours.dli_fbase ||
	    rival.dli_fbase == libc.dli_fbase ||
	    rival.dli_fbase == program_base())
		return NULL;
	return rival.dli_fname;
}

void pl_look_for_rivals(void)
{
	/* As the program sees it: RTLD_DEFAULT would find our own first. */
	void *program = dlopen(NULL, RTLD_LAZY);
	const char *front = rival_at(pl_real_dlsym(program, "dlsym"));
	const char *behind = rival_at(pl_real_dlsym(RTLD_NEXT, "dlsym"));

	if (front)
		pl_warn(PL_CAUSE_OTHER_DLSYM,
			"%s answers dlsym before this library does: what a "
			"program finds through it may go past the pool; name "
			"libpoolswitch_preload.so first in LD_PRELOAD",
			front);
	else if (behind)
		pl_warn(PL_CAUSE_OTHER_DLSYM,
			"%s answers dlsym too and is not asked: this library "
			"stands before it in LD_PRELOAD",
			behind);
	dlclose(program);
}

/* ---- RTLD_DEEPBIND ---- */

PL_EARLY void pl_note_deep(const char *file)
{
	unsigned int at =
		atomic_load_explicit(&notes_taken, memory_order_relaxed);
	struct note *note;
	size_t i;

	do {
		if (at >= NOTES)
			return;
	} while (!atomic_compare_exchange_weak_explicit(
		&notes_taken, &at, at + 1, memory_order_relaxed,
		memory_order_relaxed));
	note = &notes[at];
	for (i = 0; i < NOTE_BYTES - 1 && file[i]; i++)
		note->file[i] = file[i];
	atomic_store_explicit(&note->is_ready, true, memory_order_release);
	atomic_fetch_add_explicit(&pl_deep_waiting, 1, memory_order_relaxed);
}

/* What a library asks others for, of its dynamic section. */
struct asks {
	const ElfW(Sym) * symbols;
	const char *names;
	const ElfW(Rela) * tables[2]; /* of data and of calls */
	size_t bytes[2];
};

static void read_section(const ElfW(Dyn) * entry, struct asks *asks_out)
{
	memset(asks_out, 0, sizeof(*asks_out));
	for (; entry->d_tag != DT_NULL; entry++) {
		const void *at = (const void *)entry->d_un.d_ptr;

		if (entry->d_tag == DT_SYMTAB)
			asks_out->symbols = at;
		else if (entry->d_tag == DT_STRTAB)
			asks_out->names = at;
		else if (entry->d_tag == DT_RELA)
			asks_out->tables[0] = at;
		else if (entry->d_tag == DT_RELASZ)
			asks_out->bytes[0] = entry->d_un.d_val;
		else if (entry->d_tag == DT_JMPREL)
			asks_out->tables[1] = at;
		else if (entry->d_tag == DT_PLTRELSZ)
			asks_out->bytes[1] = entry->d_un.d_val;
	}
}

/* "dlsym", by which a runtime library finds the driver, or one of ours. */
static bool is_asked(const struct asks *asks, const ElfW(Rela) * entry)
{
	const ElfW(Sym) *symbol = &asks->symbols[ELF64_R_SYM(entry->r_info)];
	const char *name = &asks->names[symbol->st_name];

	return symbol->st_shndx == SHN_UNDEF &&
	       (strcmp(name, "dlsym") == 0 || pl_is_hook_name(name));
}

static bool asks_past_us(const ElfW(Dyn) * section)
{
	struct asks asks;

	read_section(section, &asks);
	if (!asks.symbols || !asks.names)
		return false;
	for (int table = 0; table < 2; table++)
		for (size_t i = 0;
		     asks.tables[table] &&
		     i < asks.bytes[table] / sizeof(*asks.tables[table]);
		     i++)
			if (is_asked(&asks, &asks.tables[table][i]))
				return true;
	return false;
}

struct search {
	const ElfW(Dyn) * from; /* the section of the library that was opened */
	bool is_found;
	bool asks;
};

/* It and what was loaded after it: for it, as far as anybody can tell. */
static int search_object(struct dl_phdr_info *info, size_t size, void *data)
{
	struct search *search = data;
	const ElfW(Dyn) *section = NULL;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++)
		if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
			section = (const void *)(info->dlpi_addr +
						 info->dlpi_phdr[i].p_vaddr);
	if (section == search->from)
		search->is_found = true;
	search->asks = section && search->is_found && asks_past_us(section);
	return search->asks;
}

static void look_at(struct note *note)
{
	void *library = dlopen(note->file, RTLD_LAZY | RTLD_NOLOAD);
	struct search search = { .from = NULL };
	struct link_map *map;

	if (!library)
		return;
	if (atomic_exchange(&note->is_seen, true) == false) {
		atomic_fetch_sub(&pl_deep_waiting, 1);
		if (dlinfo(library, RTLD_DI_LINKMAP, &map) == 0) {
			search.from = map->l_ld;
			dl_iterate_phdr(search_object, &search);
		}
	}
	dlclose(library);
	if (search.asks)
		pl_warn(PL_CAUSE_DEEPBIND,
			"%s was opened with RTLD_DEEPBIND: the CUDA memory "
			"that it or a library of its own asks for goes past "
			"the pool",
			note->file);
}

void pl_look_at_deep(void)
{
	PL_GUARD();

	for (unsigned int i = 0; i < NOTES; i++)
		if (atomic_load_explicit(&notes[i].is_ready,
					 memory_order_acquire) &&
		    !atomic_load(&notes[i].is_seen))
			look_at(&notes[i]);
	dlerror();
}
