#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The mutant runner itself: what it accepts and what it refuses."""

import io
import contextlib
import pathlib
import tempfile
import unittest

import run

MUTANT = {"name": "one", "rule": "a rule", "file": "a.c", "find": "x == 1",
          "replace": "x != 1", "test": "test_a"}


class FakeBuild:
    """A build whose test ends with @status once the rule is broken."""

    def __init__(self, tree, *statuses):
        self.tree, self.statuses = tree, list(statuses)

    def check_unbroken(self, mutant):
        pass

    def try_build(self, test):
        self.built = (self.tree / "a.c").read_text()

    def status_of(self, mutant):
        return self.statuses.pop(0) if self.statuses[1:] else self.statuses[0]


class JudgeTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.tree = pathlib.Path(folder.name)
        (self.tree / "a.c").write_text("if (x == 1)\n")

    def verdict(self, status):
        return run.judge(FakeBuild(self.tree, status), self.tree, MUTANT)

    def test_failing_test_kills(self):
        self.assertEqual(self.verdict(1), "killed")

    def test_crash_kills(self):
        self.assertEqual(self.verdict(-6), "killed (crash)")

    def test_hang_kills(self):
        self.assertEqual(self.verdict(None), "killed (hung)")

    def test_passing_test_is_a_survivor(self):
        self.assertEqual(self.verdict(0), "SURVIVED")

    def test_failing_by_chance_kills(self):
        build = FakeBuild(self.tree, 0, 0, 1)
        self.assertEqual(run.judge(build, self.tree, MUTANT), "killed")

    def test_skip_is_no_verdict(self):
        with self.assertRaises(run.Broken):
            self.verdict(77)

    def test_source_is_broken_then_restored(self):
        build = FakeBuild(self.tree, 1)
        run.judge(build, self.tree, MUTANT)
        self.assertEqual(build.built, "if (x != 1)\n")
        self.assertEqual((self.tree / "a.c").read_text(), "if (x == 1)\n")

    def test_text_found_twice_is_refused(self):
        with self.assertRaises(run.Broken):
            run.mutate("x == 1; x == 1", MUTANT)

    def test_text_not_found_is_refused(self):
        with self.assertRaises(run.Broken):
            run.mutate("y == 1", MUTANT)

    def test_survivors_are_counted(self):
        with contextlib.redirect_stdout(io.StringIO()):
            bad = run.run_all([MUTANT], self.tree, FakeBuild(self.tree, 0))
        self.assertEqual(bad, 1)

    def test_test_that_fails_as_it_is_counts(self):
        build = FakeBuild(self.tree, 1)
        build.check_unbroken = self.refuse
        with contextlib.redirect_stdout(io.StringIO()) as out:
            bad = run.run_all([MUTANT], self.tree, build)
        self.assertEqual(bad, 1)
        self.assertIn("BROKEN: fails without it", out.getvalue())

    @staticmethod
    def refuse(mutant):
        raise run.Broken("fails without it")


if __name__ == "__main__":
    unittest.main()
