# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""What was measured, as a table for people and as lines of JSON."""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import subprocess
import time
import traceback

#: Above so many samples the mean's distribution is a normal one.
NORMAL_95 = 1.96
STUDENT_95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
              2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
              2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)


def percentile(values, share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def interval(values) -> tuple[float, float, float]:
    """(low, mean, high) of the mean at 95 %; of two values at least."""
    freedom = len(values) - 1
    t = STUDENT_95[freedom - 1] if freedom <= len(STUDENT_95) else NORMAL_95
    mean = statistics.mean(values)
    half = t * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean, mean + half


def first_line(*command: str) -> str:
    try:
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.DEVNULL).stdout
    except OSError:
        said = ""
    return (said.splitlines() or ["unknown"])[0]


class Figures:
    """Lines in the form of bench/results, each printed and written as it comes:
    what fails later costs none that is there."""

    def __init__(self, bench: str, *, quick: bool, path: str | None = None,
                 commit: str | None = None):
        name, _, driver = first_line(
            "nvidia-smi", "--query-gpu=name,driver_version",
            "--format=csv,noheader").partition(", ")
        self._head = {
            "gpu": name, "driver": driver or "unknown",
            "commit": commit or os.environ.get("POOLSWITCH_COMMIT") or first_line(
                "git", "rev-parse", "--short=12", "HEAD"),
            "quick": quick,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        self._bench = bench
        self._path = path
        self.lines: list[dict] = []
        #: What was to be measured and was not.
        self.failed: list[str] = []

    @contextlib.contextmanager
    def group(self, what: str):
        """A with statement around rows without which the others go on."""
        try:
            yield
        except Exception:
            traceback.print_exc()
            self.failed.append(what)

    def _keep(self, line: dict) -> None:
        self.lines.append(line)
        if self._path:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def put(self, case: str, metric: str, value: float, unit: str, samples: int,
            baseline: str | None = None) -> None:
        self._keep({"bench": self._bench, "case": case, "metric": metric,
                    "value": value, "unit": unit, "samples": samples,
                    "baseline": baseline, **self._head})
        print(f"  {case:34} {metric:36} {value:12.6g} {unit}", flush=True)

    def put_times(self, case: str, metric: str, times_ns,
                  baseline: str | None = None) -> None:
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            self.put(case, f"{metric} {name}", percentile(times_ns, share) / 1e6,
                     "ms", len(times_ns), baseline)

    def judge(self, case: str, metric: str, value: float, unit: str, samples: int, *,
              most: float | None = None, least: float | None = None) -> None:
        """A figure that has a target: the same, and whether it is met."""
        self.put(case, metric, value, unit, samples)
        bound = most if least is None else least
        met = value <= bound if least is None else value >= bound
        self._keep({**self.lines[-1], "case": "target",
                    "metric": f"{case}: {metric}",
                    "relation": "at most" if least is None else "at least",
                    "bound": bound, "met": met})

    def missed(self) -> list[dict]:
        return [line for line in self.lines if line.get("met") is False]
