/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* The one place where a result of the driver becomes a status. */
#ifndef DEVICE_RESULT_H
#define DEVICE_RESULT_H

#include "device/driver.h"

/* The status alone, by the table in device/results.def. */
enum ps_status dv_status(CUresult result);

/*
 * The status, and the failure's text: what was done (@format), the driver's
 * name and number for the error and the driver's own words.
 */
enum ps_status dv_result(const struct dv_driver *driver, CUresult result,
			 const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif /* DEVICE_RESULT_H */
