#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0

"""Make the tables of the documentation from the raw results.

report.py [--check]   writes what stands between <!-- bench:begin NAME --> and
                      <!-- bench:end NAME --> in the project's pages, from the
                      newest run of each benchmark on each GPU. With --check
                      it writes nothing, and fails when a page says something
                      else than the results do
report.py --add FILE  first files a run under bench/results/
"""

import argparse
import collections
import difflib
import json
import pathlib
import re
import sys

import report_frameworks
import report_tables

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = "bench/results"
PAGES = ("README.md", "docs/benchmarks.md", "docs/compatibility.md",
         "docs/evidence.md")
FIELDS = {
    "bench": str,
    "case": str,
    "metric": str,
    "value": (int, float),
    "unit": str,
    "samples": int,
    "baseline": (str, type(None)),
    "gpu": str,
    "driver": str,
    "commit": str,
    "quick": bool,
    "date": str,
}
MARK = re.compile(
    r"(?P<begin><!-- bench:begin (?P<name>[a-z_-]+) -->\n)"
    r"(?P<body>.*?)"
    r"(?P<end><!-- bench:end (?P=name) -->)",
    re.DOTALL,
)


class Wrong(Exception):
    """A result file or a page that cannot be used."""


def read_line(text, where):
    try:
        line = json.loads(text)
    except ValueError as error:
        raise Wrong(f"{where}: no JSON: {error}") from None
    for name, kind in FIELDS.items():
        if not isinstance(line.get(name, ...), kind):
            raise Wrong(f"{where}: {name} is missing or of a wrong type")
    if line["case"] == "target" and not isinstance(line.get("met"), bool):
        raise Wrong(f"{where}: a target that is neither met nor missed")
    return line


def read_run(path):
    texts = path.read_text(encoding="utf-8").splitlines()
    lines = [read_line(text, f"{path.name}:{n}")
             for n, text in enumerate(texts, 1)]
    if not lines:
        raise Wrong(f"{path.name}: empty")
    for line in lines:
        if line["quick"]:
            raise Wrong(f"{path.name}: a --quick run says nothing of speed")
        if "simulated" in line["driver"]:
            raise Wrong(f"{path.name}: a simulated GPU says nothing of speed")
    if len({(line["bench"], line["gpu"], line["date"])
            for line in lines}) != 1:
        raise Wrong(f"{path.name}: more than one run in one file")
    return lines


def newest_runs(folder):
    """{bench: {gpu: lines}}"""
    runs = collections.defaultdict(dict)
    for path in sorted(folder.glob("*.jsonl")):
        lines = read_run(path)
        first = lines[0]
        known = runs[first["bench"]].get(first["gpu"])
        if known is None or known[0]["date"] < first["date"]:
            runs[first["bench"]][first["gpu"]] = lines
    return runs


def add_run(root, path):
    """Files a run as <date>-<gpu>-<bench>.jsonl; a second one of a day
    replaces the first. That of the frameworks' suite is one object."""
    if path.suffix == ".json":
        first = report_frameworks.read(path)
        last = report_frameworks.SUFFIX
    else:
        first = read_run(path)[0]
        last = f"-{first['bench']}.jsonl"
    gpu = re.sub(r"[^a-z0-9]+", "-",
                 first["gpu"].partition(",")[0].lower()).strip("-")
    name = f"{first['date'][:10]}-{gpu}{last}"
    (root / RESULTS / name).write_text(path.read_text(encoding="utf-8"),
                                       encoding="utf-8")
    print(f"wrote {RESULTS}/{name}")


def fill_page(text, runs, suites):
    def replace(match):
        if match["name"] == report_frameworks.NAME:
            body = report_frameworks.make(suites)
        else:
            body = report_tables.make(runs, match["name"])
        if body is None:
            raise Wrong(f"there is no table \"{match['name']}\"; there are "
                        + ", ".join([report_frameworks.NAME,
                                     *report_tables.names()]))
        return f"{match['begin']}\n{body}\n{match['end']}"

    return MARK.sub(replace, text)


def update(root, runs, check):
    """The pages that differ from the results; written unless @check."""
    suites = report_frameworks.newest(root / RESULTS)
    stale = []
    for name in PAGES:
        path = root / name
        if not path.exists():
            continue
        old = path.read_text(encoding="utf-8")
        if old.count("<!-- bench:begin ") != len(MARK.findall(old)):
            raise Wrong(f"{name}: a bench:begin without its bench:end")
        new = fill_page(old, runs, suites)
        if new == old:
            continue
        stale.append(name)
        if check:
            sys.stdout.writelines(difflib.unified_diff(
                old.splitlines(True), new.splitlines(True), name,
                "what the results say"))
        else:
            path.write_text(new, encoding="utf-8")
    return stale


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--add", type=pathlib.Path, nargs="+", default=[],
                        metavar="FILE", help="runs to file first")
    parser.add_argument("--root", type=pathlib.Path, default=ROOT,
                        help="the checkout (default: this one)")
    options = parser.parse_args(argv)
    try:
        for path in options.add:
            add_run(options.root, path)
        runs = newest_runs(options.root / RESULTS)
        stale = update(options.root, runs, options.check)
    except (Wrong, report_frameworks.Wrong) as wrong:
        sys.exit(f"bench/report.py: {wrong}")
    if stale and options.check:
        sys.exit(f"bench/report.py: {', '.join(stale)} and {RESULTS}/ "
                 "disagree; run bench/report.py and commit what it writes")
    for name in stale:
        print(f"wrote {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
