/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How ps_doctor() tells its findings: the needs of the GPU are in doctor.c,
 * those of the operating system in doctor_system.c.
 */
#ifndef LIB_DOCTOR_H
#define LIB_DOCTOR_H

#include "include/poolswitch.h"

struct lb_doctor {
	ps_finding_visit visit;
	void *arg;
};

/*
 * One finding. @remedy is told when @ok is false; "" is no remedy. @format:
 * what was found.
 */
void lb_doctor_tell(const struct lb_doctor *doctor, const char *need, bool ok,
		    const char *remedy, const char *format, ...)
	__attribute__((format(printf, 5, 6)));

/* From fd-limit on. @segments: of the largest pool on this GPU. */
void lb_doctor_system(const struct lb_doctor *doctor, uint32_t segments);

#endif /* LIB_DOCTOR_H */
