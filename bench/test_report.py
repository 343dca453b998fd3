#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""report.py: which runs count, and that a page cannot say something else."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import report
import report_tables

PAGE = """before
<!-- bench:begin {name} -->
<!-- bench:end {name} -->
after
"""


def line(**changes):
    made = {"bench": "alloc", "case": "poolswitch async, 512 B to 1 GiB",
            "metric": "pair median", "value": 51.5, "unit": "ns",
            "samples": 1000, "baseline": None, "gpu": "NVIDIA H200",
            "driver": "580.1, CUDA 13.0", "commit": "abc", "quick": False,
            "date": "2026-01-02T03:04:05Z"}
    return dict(made, **changes)


def target(value, met):
    return line(case="target", metric="pair median", value=value, bound=60,
                relation="at most", met=met)


class ReportTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / report.RESULTS).mkdir(parents=True)

    def put_run(self, name, *lines):
        path = self.root / report.RESULTS / name
        path.write_text("".join(json.dumps(each) + "\n" for each in lines))
        return path

    def put_page(self, table):
        (self.root / "README.md").write_text(PAGE.format(name=table))

    def page(self):
        return (self.root / "README.md").read_text()

    def run_report(self, *words):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            report.main([*words, "--root", str(self.root)])
        return output.getvalue()

    def assert_refused(self, about, *words):
        with self.assertRaises(SystemExit) as caught:
            self.run_report(*words)
        self.assertIn(about, str(caught.exception.code))

    def test_page_gets_figure(self):
        self.put_run("a.jsonl", line())
        self.put_page("alloc-mixed")
        self.run_report()
        self.assertIn("| 51.5 ns |", self.page())
        self.assertTrue(self.page().startswith("before\n"))
        self.assertTrue(self.page().endswith("after\n"))

    def test_without_results_page_says_not_measured(self):
        for table in report_tables.names():
            self.put_page(table)
            self.run_report()
            self.assertIn("not measured yet", self.page(), table)

    def test_check_accepts_what_was_written(self):
        self.put_run("a.jsonl", line())
        self.put_page("alloc-mixed")
        self.run_report()
        self.assertEqual(self.run_report("--check"), "")

    def test_check_refuses_typed_figure(self):
        self.put_run("a.jsonl", line())
        self.put_page("alloc-mixed")
        self.run_report()
        typed = self.page().replace("51.5", "41.5")
        (self.root / "README.md").write_text(typed)
        self.assert_refused("disagree", "--check")
        self.assertEqual(self.page(), typed)

    def test_newest_run_of_a_gpu_counts(self):
        self.put_run("a.jsonl", line(value=2.0, date="2026-01-03T00:00:00Z"))
        self.put_run("b.jsonl", line(value=1.0))
        self.put_page("alloc-mixed")
        self.run_report()
        self.assertIn("| 2 ns |", self.page())
        self.assertNotIn("| 1 ns |", self.page())

    def test_quick_run_is_refused(self):
        self.put_run("a.jsonl", line(quick=True))
        self.assert_refused("--quick")

    def test_simulated_run_is_refused(self):
        self.put_run("a.jsonl", line(driver="CUDA 12.5 simulated"))
        self.assert_refused("simulated")

    def test_incomplete_line_is_refused(self):
        short = line()
        del short["commit"]
        self.put_run("a.jsonl", short)
        self.assert_refused("commit is missing")

    def test_broken_line_is_refused(self):
        path = self.put_run("a.jsonl", line())
        path.write_text(path.read_text() + '{"bench": "all')
        self.assert_refused("a.jsonl:2: no JSON")

    def test_unknown_table_is_refused(self):
        self.put_page("nonsense")
        self.assert_refused('no table "nonsense"')

    def test_table_without_end_is_refused(self):
        (self.root / "README.md").write_text("<!-- bench:begin alloc -->\n")
        self.assert_refused("without its bench:end")

    def test_missed_target_is_a_loss(self):
        self.put_run("a.jsonl", target(75.0, False))
        self.put_page("losses")
        self.run_report()
        self.assertIn("is 75 ns, wanted at most 60 ns", self.page())

    def test_slower_than_baseline_is_a_loss(self):
        self.put_run("a.jsonl", line(metric="faster, by mean", value=0.5,
                                     unit="times", baseline="the driver"))
        self.put_page("losses")
        self.run_report()
        self.assertIn("takes 2 times as long as the driver", self.page())

    def put_suite(self, name, **changes):
        suite = {"gpu": "NVIDIA H200, 580.1", "commit": "abc",
                 "date": "2026-01-02T03:04:05Z",
                 "cases": [{"case": "bert", "result": "passed",
                            "share": 0.987, "versions": {"torch": "2.11"}},
                           {"case": "jax", "result": "failed",
                            "why": "a | b"}], **changes}
        path = self.root / report.RESULTS / name
        path.write_text(json.dumps(suite))
        return path

    def test_frameworks_that_were_not_run_are_not_said_to(self):
        self.put_page("frameworks")
        self.run_report()
        self.assertIn("not run yet", self.page())

    def test_frameworks_table_has_what_became_of_each(self):
        self.put_suite("a-frameworks.json")
        self.put_page("frameworks")
        self.run_report()
        self.assertIn("| `bert` | torch 2.11 | passed | 98.7% |", self.page())
        self.assertIn("| `jax` |  | **failed**: a / b |  |", self.page())

    def test_frameworks_newest_run_counts(self):
        self.put_suite("a-frameworks.json", date="2026-01-03T00:00:00Z",
                       commit="def")
        self.put_suite("b-frameworks.json")
        self.put_page("frameworks")
        self.run_report()
        self.assertIn("`def`", self.page())
        self.assertNotIn("`abc`", self.page())

    def test_frameworks_run_without_its_results_is_refused(self):
        self.put_suite("a-frameworks.json", cases=[{"case": "bert"}])
        self.put_page("frameworks")
        self.assert_refused("bert has no result")

    def test_frameworks_run_is_added_under_its_name(self):
        path = self.put_suite("x.json").rename(self.root / "suite.json")
        self.run_report("--add", str(path))
        name = "2026-01-02-nvidia-h200-frameworks.json"
        self.assertTrue((self.root / report.RESULTS / name).exists())

    def test_added_run_is_named_after_date_gpu_and_bench(self):
        run = self.root / "run.jsonl"
        run.write_text(json.dumps(line()) + "\n")
        self.run_report("--add", str(run))
        name = "2026-01-02-nvidia-h200-alloc.jsonl"
        self.assertEqual((self.root / report.RESULTS / name).read_text(),
                         run.read_text())


if __name__ == "__main__":
    unittest.main()
