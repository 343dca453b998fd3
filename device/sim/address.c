/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

#include "device/sim/address.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct area {
	uint64_t address;
	uint64_t bytes;
};

/* All guarded by lock; both sorted by address, nothing overlaps. */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct area *areas; /* reserved */
static size_t area_count;
static struct sim_mapping *mappings;
static size_t mapping_count;

/*
 * Past the C library: a sanitizer's mmap refuses addresses that it has no
 * shadow for, though this memory is not its business.
 */
static void *map_raw(uint64_t address, uint64_t bytes, int protection,
		     int flags, int fd, uint64_t offset)
{
	return (void *)syscall(SYS_mmap, address, bytes, protection, flags, fd,
			       offset);
}

static void unmap_raw(uint64_t address, uint64_t bytes)
{
	syscall(SYS_munmap, address, bytes);
}

#define EMPTY_FLAGS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

/* Reserved addresses that nothing is mapped at. */
static void *map_empty(uint64_t address, uint64_t bytes, int flags)
{
	return map_raw(address, bytes, PROT_NONE, EMPTY_FLAGS | flags, -1, 0);
}

/* Makes room in a sorted array of @count items; NULL without memory. */
static void *insert_item(void *array, size_t *count, size_t item, size_t at)
{
	char *grown = realloc(array, (*count + 1) * item);

	if (!grown)
		return NULL;
	memmove(grown + (at + 1) * item, grown + at * item,
		(*count - at) * item);
	++*count;
	return grown;
}

static void remove_item(void *array, size_t *count, size_t item, size_t at)
{
	char *bytes = array;

	--*count;
	memmove(bytes + at * item, bytes + (at + 1) * item,
		(*count - at) * item);
}

/* The first area that ends behind the address. */
static size_t area_at(uint64_t address)
{
	size_t i = 0;

	while (i < area_count && areas[i].address + areas[i].bytes <= address)
		i++;
	return i;
}

/* The first mapping that ends behind the address. */
static size_t mapping_at(uint64_t address)
{
	size_t low = 0;
	size_t high = mapping_count;
	size_t middle;

	while (low < high) {
		middle = (low + high) / 2;
		if (mappings[middle].address + mappings[middle].bytes <=
		    address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool add_area(uint64_t address, uint64_t bytes)
{
	size_t at = area_at(address);
	void *grown = insert_item(areas, &area_count, sizeof(*areas), at);

	if (!grown)
		return false;
	areas = grown;
	areas[at] = (struct area){ address, bytes };
	return true;
}

static bool add_mapping(const struct sim_mapping *mapping)
{
	size_t at = mapping_at(mapping->address);
	void *grown =
		insert_item(mappings, &mapping_count, sizeof(*mappings), at);

	if (!grown)
		return false;
	mappings = grown;
	mappings[at] = *mapping;
	return true;
}

static void remove_mapping(size_t at)
{
	remove_item(mappings, &mapping_count, sizeof(*mappings), at);
}

/* The driver puts smaller ranges where it likes. */
#define LEAST_WANTED ((uint64_t)32 << 20)

/* The wish, when it is heeded and free; 0 otherwise. */
static uint64_t reserve_wanted(uint64_t bytes, uint64_t wanted)
{
	void *memory;

	if (!wanted || wanted % SIM_GRANULARITY || bytes < LEAST_WANTED)
		return 0;
	memory = map_empty(wanted, bytes, MAP_FIXED_NOREPLACE);
	if (memory == MAP_FAILED)
		return 0;
	if ((uint64_t)memory == wanted)
		return wanted;
	unmap_raw((uint64_t)memory, bytes);
	return 0;
}

/* Anywhere, on a multiple of the granularity; 0 when there is no place. */
static uint64_t reserve_somewhere(uint64_t bytes)
{
	uint64_t more = bytes + SIM_GRANULARITY;
	void *memory = map_empty(0, more, 0);
	uint64_t start;
	uint64_t aligned;

	if (memory == MAP_FAILED)
		return 0;
	start = (uint64_t)memory;
	aligned = (start + SIM_GRANULARITY - 1) &
		  ~(uint64_t)(SIM_GRANULARITY - 1);
	if (aligned > start)
		unmap_raw(start, aligned - start);
	if (start + more > aligned + bytes)
		unmap_raw(aligned + bytes, start + more - aligned - bytes);
	return aligned;
}

static CUresult reserve_locked(uint64_t bytes, uint64_t wanted,
			       uint64_t *address_out)
{
	uint64_t address = reserve_wanted(bytes, wanted);

	if (!address)
		address = reserve_somewhere(bytes);
	if (!address)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (!add_area(address, bytes)) {
		unmap_raw(address, bytes);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	*address_out = address;
	return CUDA_SUCCESS;
}

CUresult sim_address_reserve(uint64_t bytes, uint64_t wanted,
			     uint64_t *address_out)
{
	CUresult result;

	pthread_rwlock_wrlock(&lock);
	result = reserve_locked(bytes, wanted, address_out);
	pthread_rwlock_unlock(&lock);
	return result;
}

static CUresult free_locked(uint64_t address, uint64_t bytes)
{
	size_t i = area_at(address);
	size_t m = mapping_at(address);

	if (i == area_count || areas[i].address != address ||
	    areas[i].bytes != bytes)
		return CUDA_ERROR_INVALID_VALUE;
	if (m < mapping_count && mappings[m].address < address + bytes)
		return CUDA_ERROR_INVALID_VALUE;
	unmap_raw(address, bytes);
	remove_item(areas, &area_count, sizeof(*areas), i);
	return CUDA_SUCCESS;
}

CUresult sim_address_free(uint64_t address, uint64_t bytes)
{
	CUresult result;

	pthread_rwlock_wrlock(&lock);
	result = free_locked(address, bytes);
	pthread_rwlock_unlock(&lock);
	return result;
}

/* Closes @hold: the mapping holds the range from here on. */
static CUresult map_locked(const struct sim_mapping *mapping, int hold)
{
	int protection =
		mapping->is_writable ? PROT_READ | PROT_WRITE : PROT_NONE;
	void *memory;

	memory = map_raw(mapping->address, mapping->bytes, protection,
			 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, hold,
			 mapping->range.offset);
	close(hold);
	if (memory == MAP_FAILED)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (!add_mapping(mapping)) {
		map_empty(mapping->address, mapping->bytes, MAP_FIXED);
		return CUDA_ERROR_OUT_OF_MEMORY;
	}
	return CUDA_SUCCESS;
}

/* Inside one reservation, and nothing mapped there. */
static bool is_room(uint64_t address, uint64_t bytes)
{
	size_t i = area_at(address);
	size_t m = mapping_at(address);

	if (i == area_count || address < areas[i].address ||
	    address + bytes > areas[i].address + areas[i].bytes)
		return false;
	return m == mapping_count || mappings[m].address >= address + bytes;
}

CUresult sim_address_map(uint64_t address, const struct sim_range *range,
			 bool is_imported, CUmemGenericAllocationHandle handle)
{
	struct sim_mapping mapping = {
		.address = address,
		.bytes = range->bytes,
		.kind = SIM_SEGMENT,
		.is_imported = is_imported,
		.handle = handle,
		.range = *range,
	};
	CUresult result;
	int hold;

	result = sim_vram_hold(range, &hold);
	if (result != CUDA_SUCCESS)
		return result;
	pthread_rwlock_wrlock(&lock);
	if (is_room(address, range->bytes)) {
		result = map_locked(&mapping, hold);
	} else {
		close(hold);
		result = CUDA_ERROR_INVALID_VALUE;
	}
	pthread_rwlock_unlock(&lock);
	return result;
}

/*
 * The mappings that fill the range exactly: their number, 0 when it has gaps
 * or cuts one of them.
 */
static size_t whole_mappings(uint64_t address, uint64_t bytes, size_t *first)
{
	size_t i = mapping_at(address);
	uint64_t end = address;

	*first = i;
	while (i < mapping_count && end < address + bytes &&
	       mappings[i].address == end && mappings[i].kind == SIM_SEGMENT)
		end += mappings[i++].bytes;
	return end == address + bytes ? i - *first : 0;
}

/* The host's MMU knows one access only: what any of the GPUs has. */
static void protect_mapping(struct sim_mapping *mapping, CUdevice device,
			    CUmemAccess_flags flags)
{
	int protection = PROT_NONE;
	int i;

	mapping->access[device] = flags;
	mapping->is_readable = false;
	mapping->is_writable = false;
	for (i = 0; i < SIM_DEVICES_MAX; i++) {
		if (mapping->access[i] != CU_MEM_ACCESS_FLAGS_PROT_NONE)
			mapping->is_readable = true;
		if (mapping->access[i] == CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
			mapping->is_writable = true;
	}
	if (mapping->is_readable)
		protection |= PROT_READ;
	if (mapping->is_writable)
		protection |= PROT_WRITE;
	syscall(SYS_mprotect, mapping->address, mapping->bytes, protection);
}

CUresult sim_address_protect(uint64_t address, uint64_t bytes, CUdevice device,
			     CUmemAccess_flags flags)
{
	size_t count;
	size_t first;
	size_t i;

	pthread_rwlock_wrlock(&lock);
	count = whole_mappings(address, bytes, &first);
	for (i = first; i < first + count; i++)
		protect_mapping(&mappings[i], device, flags);
	pthread_rwlock_unlock(&lock);
	return count ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* Unmaps one that fills the range; false when there is none. */
static bool unmap_one(uint64_t address, uint64_t end, struct sim_mapping *gone)
{
	size_t i = mapping_at(address);

	if (i == mapping_count || mappings[i].address >= end)
		return false;
	*gone = mappings[i];
	map_empty(gone->address, gone->bytes, MAP_FIXED);
	remove_mapping(i);
	return true;
}

CUresult sim_address_unmap(uint64_t address, uint64_t bytes)
{
	struct sim_mapping gone;
	size_t first;
	size_t count;
	bool is_one;

	pthread_rwlock_rdlock(&lock);
	count = whole_mappings(address, bytes, &first);
	pthread_rwlock_unlock(&lock);
	if (!count)
		return CUDA_ERROR_INVALID_VALUE;
	do {
		pthread_rwlock_wrlock(&lock);
		is_one = unmap_one(address, address + bytes, &gone);
		pthread_rwlock_unlock(&lock);
		if (is_one)
			sim_vram_reap(&gone.range);
	} while (is_one);
	return CUDA_SUCCESS;
}

CUresult sim_address_place(const struct sim_range *range, enum sim_kind kind,
			   const void *owner, int hold, uint64_t *address_out)
{
	struct sim_mapping mapping = {
		.bytes = range->bytes,
		.kind = kind,
		.is_readable = true,
		.is_writable = true,
		.opened = 1,
		.owner = owner,
		.range = *range,
	};
	CUresult result;

	pthread_rwlock_wrlock(&lock);
	result = reserve_locked(range->bytes, 0, &mapping.address);
	if (result == CUDA_SUCCESS) {
		result = map_locked(&mapping, hold);
		if (result != CUDA_SUCCESS)
			free_locked(mapping.address, mapping.bytes);
	} else {
		close(hold);
	}
	pthread_rwlock_unlock(&lock);
	if (result == CUDA_SUCCESS)
		*address_out = mapping.address;
	return result;
}

static bool starts_at(size_t i, uint64_t address, enum sim_kind kind)
{
	return i < mapping_count && mappings[i].address == address &&
	       mappings[i].kind == kind;
}

/* pre: the lock is held. True when the mapping went with it. */
static bool drop_locked(size_t i, struct sim_mapping *gone)
{
	if (--mappings[i].opened > 0)
		return false;
	*gone = mappings[i];
	remove_mapping(i);
	free_locked(gone->address, gone->bytes);
	return true;
}

CUresult sim_address_remove(uint64_t address, enum sim_kind kind)
{
	struct sim_mapping gone;
	bool is_gone = false;
	bool is_known;
	size_t i;

	pthread_rwlock_wrlock(&lock);
	i = mapping_at(address);
	is_known = starts_at(i, address, kind);
	if (is_known)
		is_gone = drop_locked(i, &gone);
	pthread_rwlock_unlock(&lock);
	if (is_gone)
		sim_vram_reap(&gone.range);
	return is_known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* One of that owner; false when there is none. */
static bool find_owned(const void *owner, struct sim_mapping *mapping_out)
{
	bool is_found = false;
	size_t i;

	pthread_rwlock_rdlock(&lock);
	for (i = 0; i < mapping_count && !is_found; i++) {
		is_found = mappings[i].owner == owner;
		if (is_found)
			*mapping_out = mappings[i];
	}
	pthread_rwlock_unlock(&lock);
	return is_found;
}

void sim_address_remove_all(const void *owner)
{
	struct sim_mapping mapping;

	while (find_owned(owner, &mapping))
		sim_address_remove(mapping.address, mapping.kind);
}

CUresult sim_address_add_host(void *memory, uint64_t bytes, enum sim_kind kind)
{
	struct sim_mapping mapping = {
		.address = (uint64_t)memory,
		.bytes = bytes,
		.kind = kind,
		.is_readable = true,
		.is_writable = true,
	};
	CUresult result = CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
	size_t i;

	pthread_rwlock_wrlock(&lock);
	i = mapping_at(mapping.address);
	if (i == mapping_count ||
	    mappings[i].address >= mapping.address + bytes)
		result = add_mapping(&mapping) ? CUDA_SUCCESS
					       : CUDA_ERROR_OUT_OF_MEMORY;
	pthread_rwlock_unlock(&lock);
	return result;
}

CUresult sim_address_take_host(void *memory, enum sim_kind kind,
			       uint64_t *bytes_out)
{
	bool is_known;
	size_t i;

	pthread_rwlock_wrlock(&lock);
	i = mapping_at((uint64_t)memory);
	is_known = starts_at(i, (uint64_t)memory, kind);
	if (is_known) {
		*bytes_out = mappings[i].bytes;
		remove_mapping(i);
	}
	pthread_rwlock_unlock(&lock);
	return is_known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

bool sim_address_reopen(const struct sim_range *range, uint64_t *address_out)
{
	bool is_open = false;
	size_t i;

	pthread_rwlock_wrlock(&lock);
	for (i = 0; i < mapping_count && !is_open; i++) {
		is_open = mappings[i].kind == SIM_IMPORT &&
			  mappings[i].range.serial == range->serial;
		if (is_open) {
			mappings[i].opened++;
			*address_out = mappings[i].address;
		}
	}
	pthread_rwlock_unlock(&lock);
	return is_open;
}

bool sim_address_find(uint64_t address, struct sim_mapping *mapping_out)
{
	bool is_mapped;
	size_t i;

	pthread_rwlock_rdlock(&lock);
	i = mapping_at(address);
	is_mapped = i < mapping_count && mappings[i].address <= address;
	if (is_mapped)
		*mapping_out = mappings[i];
	pthread_rwlock_unlock(&lock);
	return is_mapped;
}

/* pre: the lock is held. */
static bool allows_locked(uint64_t address, uint64_t bytes, bool to_write)
{
	uint64_t end = address + bytes;
	size_t i;

	if (end < address)
		return false;
	for (i = mapping_at(address); address < end; i++) {
		if (i == mapping_count || mappings[i].address > address)
			return false;
		if (to_write ? !mappings[i].is_writable
			     : !mappings[i].is_readable)
			return false;
		address = mappings[i].address + mappings[i].bytes;
	}
	return true;
}

bool sim_address_enter(uint64_t address, uint64_t bytes, bool to_write)
{
	bool is_allowed;

	pthread_rwlock_rdlock(&lock);
	is_allowed = allows_locked(address, bytes, to_write);
	if (!is_allowed)
		pthread_rwlock_unlock(&lock);
	return is_allowed;
}

void sim_address_leave(void)
{
	pthread_rwlock_unlock(&lock);
}

bool sim_address_allows(uint64_t address, uint64_t bytes, bool to_write)
{
	bool is_allowed = sim_address_enter(address, bytes, to_write);

	if (is_allowed)
		sim_address_leave();
	return is_allowed;
}
