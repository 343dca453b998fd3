/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How the tensors of a model are grouped to travel: a group is one copy, and
 * computing on its tensors can begin when it has landed. Larger groups cost
 * less, smaller ones let the computation begin sooner. Pure arithmetic.
 *
 * The arithmetic: the k-th group has landed after k times the cost of one, and
 * the time of all bytes up to its end. What needs it is computed then, or when
 * what was before has been computed, whichever is later.
 */
#ifndef MODEL_PLAN_H
#define MODEL_PLAN_H

#include "model/safetensors.h"

/* What a copy costs: so much for each group, and for each byte. */
struct md_wire {
	double bytes_per_ns;
	double group_ns;
};

struct md_plan {
	uint32_t *end;    /* of each group: the number of its last tensor + 1;
			   * the last one's is the count of tensors */
	uint32_t groups;  /* at least 1; 0 of a model without tensors */
	double finish_ns; /* predicted, md_plan_finish() */
};

/*
 * @tensors: offsets in the model, ascending. @compute_ns: how long what each
 * tensor lets begin computes; NULL: not known, then as long as its bytes
 * travel. @kind and @groups: as in ps_model_add(); more groups than tensors
 * are as many. PS_INVALID_ARGUMENT, PS_HOST_MEMORY.
 *
 * Of PS_PLAN_BEST no plan has an earlier finish, by this arithmetic; and of
 * those that finish then, none finishes earlier should all be computed in half
 * the time: what was measured is never quite what comes.
 */
enum ps_status md_plan_make(enum ps_model_plan kind, uint32_t groups,
			    const struct md_tensor *tensors, uint32_t count,
			    const uint32_t *compute_ns,
			    const struct md_wire *wire,
			    struct md_plan *plan_out);
void md_plan_done(struct md_plan *plan); /* NULL: ok */

/* When the last tensor's computation ends, if groups end there. pre: the last
 * one's is @count; the wire is one that md_plan_make() takes. */
double md_plan_finish(const struct md_tensor *tensors, uint32_t count,
		      const uint32_t *compute_ns, const struct md_wire *wire,
		      const uint32_t *end, uint32_t groups);

#endif /* MODEL_PLAN_H */
