/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who is attached to which model, and the words by which clients say what
 * they have in use. A page is its client's: it may write anything at any time,
 * so a word is read once, and what is unknown is taken for BUSY.
 *
 * The words of a client that has lost its connection go on to mean what they
 * say, until its fence has passed.
 */
#include "poold/agent_models.h"

#include "base/status.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* ------------------------------------------------------------------ */
/* Words                                                               */

static uint32_t *word_of(const struct pd_bond *bond)
{
	return &bond->member->page->model[bond->model].word;
}

bool pd_bond_is_busy(const struct pd_bond *bond)
{
	uint32_t word;

	if (!bond->member->page)
		return true;
	word = __atomic_load_n(word_of(bond), __ATOMIC_ACQUIRE);
	return word != IP_USE_IDLE && word != IP_USE_NONE;
}

uint32_t pd_bond_set(struct pd_bond *bond, enum ip_use_word word)
{
	if (!bond->member->page)
		return IP_USE_BUSY;
	return __atomic_exchange_n(word_of(bond), (uint32_t)word,
				   __ATOMIC_ACQ_REL);
}

void pd_bond_take_back(struct pd_bond *bond)
{
	uint32_t idle = IP_USE_IDLE;

	if (bond->member->page)
		__atomic_compare_exchange_n(word_of(bond), &idle,
					    (uint32_t)IP_USE_NONE, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* What the client says of the time is believed no more than that it was not
 * later than now. */
static uint64_t used_ms(const struct pd_bond *bond, uint64_t now_ms)
{
	uint32_t now = (uint32_t)(now_ms / IP_USED_MS);
	uint32_t used, ago;

	if (!bond->member->page)
		return now_ms;
	used = __atomic_load_n(&bond->member->page->model[bond->model].used,
			       __ATOMIC_RELAXED);
	ago = now - used;
	if (ago > UINT32_MAX / 2)
		ago = 0;
	return now_ms > (uint64_t)ago * IP_USED_MS
		       ? now_ms - (uint64_t)ago * IP_USED_MS
		       : 0;
}

/* ------------------------------------------------------------------ */
/* What the store asks                                                 */

bool pd_members_use(void *owner, uint32_t model)
{
	const struct pd_models *models = owner;
	const struct pd_bond *bond = models->model[model].bonds;

	if (models->unheard > 0)
		return true;
	while (bond && !pd_bond_is_busy(bond))
		bond = bond->next_of_model;
	return bond != NULL;
}

/* Those that were taken back before one was found in use ask again: that is
 * all. */
bool pd_members_take_back(void *owner, uint32_t model)
{
	const struct pd_models *models = owner;
	struct pd_bond *bond;

	if (models->unheard > 0)
		return false;
	for (bond = models->model[model].bonds; bond;
	     bond = bond->next_of_model) {
		pd_bond_take_back(bond);
		if (pd_bond_is_busy(bond))
			return false;
	}
	return true;
}

uint64_t pd_members_used_last(void *owner, uint32_t model)
{
	const struct pd_models *models = owner;
	uint64_t last = models->model[model].used_ms;

	for (const struct pd_bond *bond = models->model[model].bonds; bond;
	     bond = bond->next_of_model) {
		uint64_t used = used_ms(bond, models->agent->now_ms);

		if (used > last)
			last = used;
	}
	return last;
}

/* ------------------------------------------------------------------ */
/* Bonds                                                               */

struct pd_bond *pd_bond_find(const struct pd_models *models, uint32_t slot,
			     uint32_t model)
{
	struct pd_member *member = models->seated[slot];
	struct pd_bond *bond = member ? member->bonds : NULL;

	while (bond && bond->model != model)
		bond = bond->next;
	return bond;
}

enum ps_status pd_bond_make(struct pd_models *models, uint32_t slot,
			    uint32_t model, struct pd_bond **bond_out)
{
	struct pd_member *member = models->seated[slot];
	struct pd_bond *bond = pd_bond_find(models, slot, model);

	if (!bond) {
		bond = calloc(1, sizeof(*bond));
		if (!bond)
			return bs_fail(PS_HOST_MEMORY,
				       "no memory for a client of a model");
		bond->member = member;
		bond->model = model;
		if (member->is_inherited)
			bond->place = PD_PLACE_UNKNOWN;
		bond->next = member->bonds;
		member->bonds = bond;
		bond->next_of_model = models->model[model].bonds;
		models->model[model].bonds = bond;
		pd_store_attached(models->store, model, 1);
	}
	*bond_out = bond;
	return PS_OK;
}

static void bond_free(struct pd_models *models, struct pd_bond *bond)
{
	struct pd_bond **at = &bond->member->bonds;

	while (*at != bond)
		at = &(*at)->next;
	*at = bond->next;
	at = &models->model[bond->model].bonds;
	while (*at != bond)
		at = &(*at)->next_of_model;
	*at = bond->next_of_model;
	models->is_review_due = true;
	free(bond->mapped);
	free(bond);
}

void pd_bond_end(struct pd_models *models, struct pd_bond *bond)
{
	uint32_t model = bond->model;

	(void)pd_bond_set(bond, IP_USE_NONE);
	bond_free(models, bond);
	pd_store_attached(models->store, model, -1);
	pd_store_yielded(models->store, model, models->agent->now_ms);
}

void pd_bonds_drop(struct pd_models *models, uint32_t model)
{
	while (models->model[model].bonds)
		bond_free(models, models->model[model].bonds);
}

void pd_bond_place(struct pd_bond *bond, uint32_t place, uint32_t *segments,
		   uint32_t count)
{
	free(bond->mapped);
	bond->mapped = segments;
	bond->mapped_count = count;
	bond->place = place;
}

/* ------------------------------------------------------------------ */
/* Pages                                                               */

enum ps_status pd_check_page(int fd, uint64_t bytes, int seals,
			     const char *what)
{
	int wanted = F_SEAL_SHRINK | F_SEAL_GROW | seals;
	int has = fcntl(fd, F_GET_SEALS);
	struct stat stat;

	if (has < 0 || fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode))
		return bs_fail(PS_PROTOCOL,
			       "%s must be a memfd that can be sealed", what);
	if ((has & wanted) != wanted)
		return bs_fail(PS_PROTOCOL,
			       "%s has the seals 0x%x, and must have 0x%x",
			       what, (unsigned int)has, (unsigned int)wanted);
	if (stat.st_size < 0 || (uint64_t)stat.st_size != bytes)
		return bs_fail(PS_PROTOCOL,
			       "%s has %lld bytes, and must have "
			       "%llu",
			       what, (long long)stat.st_size,
			       (unsigned long long)bytes);
	return PS_OK;
}

static enum ps_status map_page(int fd, struct ip_use_page **page_out)
{
	void *page;
	enum ps_status status = pd_check_page(fd, sizeof(struct ip_use_page), 0,
					      "JOIN: the page");

	if (status != PS_OK)
		return status;
	/* Its memory is taken now, not when there may be none. */
	page = mmap(NULL, sizeof(struct ip_use_page), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_POPULATE, fd, 0);
	if (page == MAP_FAILED)
		return bs_fail_errno("JOIN: mapping the page");
	*page_out = page;
	return PS_OK;
}

static void unmap_page(struct pd_member *member)
{
	if (member->page)
		munmap(member->page, sizeof(*member->page));
	member->page = NULL;
}

/* ------------------------------------------------------------------ */
/* Members                                                             */

static struct pd_member *member_make(struct pd_models *models, uint32_t slot)
{
	struct pd_member *member = calloc(1, sizeof(*member));

	if (!member)
		return NULL;
	member->slot = slot;
	member->next = models->members;
	models->members = member;
	models->seated[slot] = member;
	return member;
}

/* Whether the client may be attached to the model, by the store's rules. */
static bool may_find(const struct pd_models *models, uint32_t slot,
		     uint32_t model)
{
	struct pd_client_view client;
	struct pd_model_view view;
	struct ip_find find = { .flags = IP_FIND_NAME };
	uint32_t found = PD_NO_MODEL;

	if (!pd_store_model(models->store, model, &view) ||
	    !pd_core_client(models->agent->core, slot, &client))
		return false;
	memcpy(find.name, view.record.name, sizeof(find.name));
	return pd_store_find(models->store, client.record.uid,
			     pd_is_master(client.record.uid), &find,
			     &found) == PS_OK &&
	       found == model;
}

/* It was attached to these when an agent died: nothing may happen to them
 * until it has said whether it still is. */
static enum ps_status inherit_bonds(struct pd_models *models,
				    struct pd_member *member)
{
	enum ps_status status = PS_OK;
	struct pd_bond *bond;

	for (uint32_t i = 0; i < IP_MODELS_MAX && status == PS_OK; i++) {
		if (member->page->model[i].word == IP_USE_NONE ||
		    !may_find(models, member->slot, i))
			continue;
		status = pd_bond_make(models, member->slot, i, &bond);
	}
	return status;
}

enum ps_status pd_member_join(struct pd_models *models, uint32_t slot, int page)
{
	struct pd_member *member = models->seated[slot];
	struct ip_use_page *mapped = NULL;
	enum ps_status status = map_page(page, &mapped);
	bool was_unheard = member && !member->page;

	if (status != PS_OK)
		return status;
	if (!member)
		member = member_make(models, slot);
	if (!member) {
		munmap(mapped, sizeof(*mapped));
		return bs_fail(PS_HOST_MEMORY, "no memory for a client");
	}
	unmap_page(member);
	member->page = mapped;
	if (!was_unheard)
		return PS_OK;
	member->deaf_at_ms = 0;
	models->is_review_due = true;
	status = inherit_bonds(models, member);
	if (status == PS_OK)
		models->unheard--;
	else
		unmap_page(member);
	return status;
}

void pd_member_free(struct pd_models *models, struct pd_member *member)
{
	struct pd_member **at = &models->members;

	while (*at != member)
		at = &(*at)->next;
	*at = member->next;
	models->seated[member->slot] = NULL;
	models->is_review_due = true;
	if (!member->page)
		models->unheard--;
	unmap_page(member);
	free(member);
}

enum ps_status pd_members_new(struct pd_models *models)
{
	const struct pd_agent *agent = models->agent;
	struct pd_client_view view;

	models->seated = calloc(agent->seat_count, sizeof(struct pd_member *));
	if (!models->seated)
		return bs_fail(PS_HOST_MEMORY, "no memory for %u clients",
			       agent->seat_count);
	for (uint32_t i = 0; i < agent->seat_count; i++) {
		if (!pd_core_client(agent->core, i, &view) ||
		    !(view.record.flags & PD_CLIENT_JOINED))
			continue;
		if (!member_make(models, i))
			return bs_fail(PS_HOST_MEMORY,
				       "no memory for a client");
		models->seated[i]->is_inherited = true;
		models->unheard++;
	}
	return PS_OK;
}

void pd_members_done(struct pd_models *models)
{
	for (uint32_t i = 0; models->model && i < IP_MODELS_MAX; i++)
		pd_bonds_drop(models, i);
	while (models->members)
		pd_member_free(models, models->members);
	free(models->seated);
}
