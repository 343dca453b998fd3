/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The parts of `poolswitch doctor` that tests look at. */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include "cli/json.h"

/* Appends to the array @findings; for ps_doctor(). */
void cl_doctor_add(void *findings, const struct ps_finding *finding);
bool cl_doctor_is_well(const json_t *findings);
void cl_doctor_print(FILE *out, bool colourful, const json_t *findings);

#endif /* CLI_DOCTOR_H */
