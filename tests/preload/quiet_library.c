/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */

/* Asks nobody for anything. */
__attribute__((visibility("default"))) int th_quiet(void);

int th_quiet(void)
{
	return 4;
}

/* Begins as the driver's functions do. */
__attribute__((visibility("default"))) int curious(void);

int curious(void)
{
	return 5;
}
