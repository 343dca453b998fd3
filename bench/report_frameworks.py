# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0

"""The table of docs/compatibility.md: what became of each framework's run,
from bench/results/*-frameworks.json, which ./dev gpu writes."""

import json

NAME = "frameworks"
SUFFIX = "-frameworks.json"
FIELDS = ("gpu", "commit", "date", "cases")
NOT_YET = "`./dev gpu --only frameworks`: not run yet.\n"


class Wrong(Exception):
    """A file that is none of such a run."""


def read(path):
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise Wrong(f"{path.name}: no JSON: {error}") from None
    if not isinstance(suite, dict) or any(name not in suite
                                          for name in FIELDS):
        raise Wrong(f"{path.name}: one of {', '.join(FIELDS)} is missing")
    for case in suite["cases"]:
        if case.get("result") not in ("passed", "skipped", "failed"):
            raise Wrong(f"{path.name}: {case.get('case')} has no result")
    return suite


def newest(folder):
    """{gpu: its newest run}"""
    suites = {}
    for path in sorted(folder.glob("*" + SUFFIX)):
        suite = read(path)
        known = suites.get(suite["gpu"])
        if known is None or known["date"] < suite["date"]:
            suites[suite["gpu"]] = suite
    return suites


def plain(text):
    return str(text).replace("|", "/").replace("\n", " ")[:160]


def row_of(case):
    versions = ", ".join(f"{name} {value}" for name, value
                         in case.get("versions", {}).items())
    share = f"{case['share']:.1%}" if "share" in case else ""
    result = case["result"]
    if result != "passed":
        result = f"**{result}**: {plain(case.get('why', ''))}"
    return f"| `{case['case']}` | {plain(versions)} | {result} | {share} |\n"


def make(suites):
    if not suites:
        return NOT_YET
    parts = []
    for gpu, suite in sorted(suites.items()):
        parts.append(f"{gpu}, commit `{suite['commit']}`, "
                     f"{suite['date'][:10]}:\n\n"
                     "| case | versions | result | of its memory in the "
                     "pool |\n| --- | --- | --- | ---: |\n"
                     + "".join(row_of(case) for case in suite["cases"]))
    return "\n".join(parts)
