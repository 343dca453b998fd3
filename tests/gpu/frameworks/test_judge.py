#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""judge.py: what makes a framework's run fail."""

import unittest

import judge

MIB = 1 << 20


def plain_run(**changes):
    return {"outputs": {"output": "aa"}, "poolable": 1000 * MIB,
            "peak": 1000 * MIB, "outside": 0, "preloaded": False,
            "client": None, **changes}


def pooled_run(live=1000, passed=0, outside=0, leased=1024, **changes):
    client = {"live": live * MIB, "passed": passed * MIB,
              "outside": outside * MIB, "leased": leased * MIB,
              "segment_bytes": 256 * MIB}
    return plain_run(preloaded=True, **{"client": client, **changes})


class JudgeTest(unittest.TestCase):
    def assert_found(self, text, pooled, plain=None):
        found = list(judge.complaints(plain or plain_run(), pooled))
        self.assertEqual(len(found), 1, found)
        self.assertIn(text, found[0])

    def test_judge_same_output_in_the_pool_is_well(self):
        self.assertEqual(
            list(judge.complaints(plain_run(), pooled_run())), [])

    def test_judge_other_output_fails(self):
        self.assert_found("output differs",
                          pooled_run(outputs={"output": "ab"}))
        self.assert_found("output differs", pooled_run(outputs={}))

    def test_judge_bytes_that_went_by_fail(self):
        self.assert_found("are in the pool", pooled_run(live=949))
        self.assert_found("are in the pool", pooled_run(live=1000,
                                                        passed=100))
        self.assertEqual(
            list(judge.complaints(plain_run(), pooled_run(live=951))), [])

    def test_judge_bytes_outside_without_room_fail(self):
        pooled = pooled_run(live=0, poolable=0, outside=9, leased=0)
        pooled["outside"] = 10 * MIB
        self.assert_found("room was made", pooled)
        pooled["outside"] = 9 * MIB
        self.assertEqual(list(judge.complaints(plain_run(), pooled)), [])

    def test_judge_peak_above_the_bound_fails(self):
        most = int(1000 * 1.03) + 256
        self.assertEqual(list(judge.complaints(
            plain_run(), pooled_run(leased=most))), [])
        self.assert_found("its peak", pooled_run(leased=most + 1))

    def test_judge_peak_has_what_is_outside_in_it(self):
        self.assert_found("its peak", pooled_run(outside=263))
        plain = plain_run(outside=100 * MIB)
        self.assertEqual(
            list(judge.complaints(plain, pooled_run(outside=263))), [])

    def test_judge_preload_in_the_wrong_run_fails(self):
        self.assert_found("where it must not be", pooled_run(),
                          plain_run(preloaded=True))
        self.assert_found("where it must not be", plain_run())

    def test_judge_unknown_process_fails(self):
        self.assert_found("does not know", pooled_run(client=None))

    def test_judge_worse_tests_are_those_that_passed(self):
        plain = {"a": "passed", "b": "failed", "c": "passed", "d": "skipped"}
        self.assertEqual(
            judge.worse_tests(plain, {"a": "passed", "b": "failed",
                                      "c": "failed"}), ["c"])
        self.assertEqual(judge.worse_tests(plain, {}), ["a", "c"])


if __name__ == "__main__":
    unittest.main()
