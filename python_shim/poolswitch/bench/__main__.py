# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""python3 -m poolswitch.bench switch [--json FILE] [--workload NAME]..."""

import argparse
import sys
import tempfile

from poolswitch.bench import figures, workloads

SKIPPED = 77


def parse(argv):
    parser = argparse.ArgumentParser(prog="poolswitch bench", description=__doc__)
    parser.add_argument("what", choices=["switch"])
    parser.add_argument("--json", help="append a line for each figure")
    parser.add_argument("--workload", action="append", choices=list(workloads.ALL),
                        help="only these; without it all but tiny")
    parser.add_argument("--samples", type=int, default=1000, help="of the fast rows")
    parser.add_argument("--plan-samples", type=int, default=200,
                        help="of each fixed plan")
    parser.add_argument("--slow-samples", type=int, default=30)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--segment", type=int, default=0, help="bytes")
    parser.add_argument("--seed", type=int, default=20260101)
    options = parser.parse_args(argv)
    options.workload_key = lambda workload: next(
        key for key, each in workloads.ALL.items() if each is workload)
    return options


def main(argv) -> int:
    options = parse(argv)
    try:
        from poolswitch.bench import switch
    except ImportError as error:
        print(f"skipped: {error}")
        return SKIPPED
    names = options.workload or [name for name in workloads.ALL if name != "tiny"]
    out = figures.Figures("switch", quick=options.samples < 1000,
                          path=options.json)
    for name in names:
        with out.group(name), tempfile.TemporaryDirectory(
                prefix="poolswitch-bench-") as folder:
            switch.measure(workloads.ALL[name], out, options, folder)
    for line in out.missed():
        print(f"missed: {line['metric']}: {line['value']:.6g} {line['unit']}, "
              f"{line['relation']} {line['bound']:.6g}")
    for what in out.failed:
        print(f"failed: {what}")
    return 1 if out.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
