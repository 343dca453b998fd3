#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""man.py: what it makes, and what it refuses."""

import unittest

import man

NEWS = "# News\n\n## 1.2.3 (2026-01-02)\n"
HEADER = """/*
 * poolswitch: a pool.
 *
 * Words
 */
#define PS_VERSION_MAJOR 1
#define PS_VERSION_MINOR 2
#define PS_VERSION_PATCH 3

/**
 * ps_get() - get a thing
 * @pool: the pool; see
 *        ps_put()
 * @size_out: receives bytes
 *
 * Waits - maybe.
 *
 * Return: PS_OK or PS_BUSY.
 */
PS_API PS_MUST_CHECK enum ps_status ps_get(struct ps_pool *pool,
\t\t\t\t\t   size_t *size_out);

/**
 * ps_put() - put it back
 * @pool: may be NULL
 */
PS_API void ps_put(struct ps_pool *pool);
"""


class ManTest(unittest.TestCase):
    def refused(self, header):
        with self.assertRaises(man.Undocumented) as caught:
            man.make(header, NEWS)
        return str(caught.exception)

    def test_every_function_has_a_page(self):
        self.assertEqual(sorted(man.make(HEADER, NEWS)),
                         ["poolswitch.3", "ps_get.3", "ps_put.3"])

    def test_page_holds_the_contract(self):
        page = man.make(HEADER, NEWS)["ps_get.3"]
        for text in ("ps_get \\- get a thing", ".I size_out",
                     "receives bytes", "Waits \\- maybe.",
                     "\\fBPS_OK\\fP or \\fBPS_BUSY\\fP.", ".BR ps_put (3)",
                     "2026-01-02", "poolswitch 1.2.3"):
            self.assertIn(text, page)

    def test_undocumented_function_is_refused(self):
        header = HEADER + "PS_API void ps_new(void);\n"
        self.assertIn("ps_new() has no comment", self.refused(header))

    def test_undocumented_parameter_is_refused(self):
        header = HEADER.replace(" * @size_out: receives bytes\n", "")
        self.assertIn("ps_get() documents ['pool']", self.refused(header))

    def test_missing_return_is_refused(self):
        header = HEADER.replace(" * Return: PS_OK or PS_BUSY.\n", "")
        self.assertIn("does not say what it returns", self.refused(header))


if __name__ == "__main__":
    unittest.main()
