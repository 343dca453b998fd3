# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0

"""The tables that bench/report.py writes, by name.

A table is a benchmark, a pattern for its cases, and columns: the metric's
name in the results and the heading. Columns that no case has are left out.
"""

import re

BENCHES = ("alloc", "attach", "frameworks", "grant", "model", "preload",
           "switch_latency")

PAIR = (
    ("pair median", "median"),
    ("pair p99", "p99"),
    ("pair p99.9", "p99.9"),
    ("pair max", "max"),
    ("pair mean, untimed", "mean"),
    ("first pass mean", "first pass"),
)
TABLES = {
    # The README's.
    "alloc": ("alloc", r"512 B to 1 GiB$", (
        PAIR[0], PAIR[2], PAIR[4],
        ("faster, by mean", "faster, by mean"),
    )),
    "attach": ("attach", r"reserve$|receive$|and CUDA IPC$", (
        ("ps_alloc_shared", "reserve"),
        ("cuMemAlloc, once", "reserve, by cuMemAlloc"),
        ("first allocation", "received, first allocation served"),
        ("cuIpcOpenMemHandle", "received, by cuIpcOpenMemHandle"),
    )),
    "grant": ("grant", r"1 GiB", (
        ("median", "median"),
        ("faster, by median", "faster"),
    )),
    "switch": ("switch_latency", r", (1|16) GiB$", (
        ("switch p50", "p50"),
        ("switch p99", "p99"),
        ("faster, by p50", "faster"),
    )),
    # Those of docs/benchmarks.md.
    "alloc-mixed": ("alloc", r"512 B to 1 GiB$", PAIR + (
        ("faster, by median", "faster, by median"),
        ("faster, by mean", "by mean"),
    )),
    "alloc-live": ("alloc", r"512 B to 64 KiB$", PAIR + (
        ("mean, of that with 1000", "of 1,000 live"),
        ("faster, by mean", "faster, by mean"),
    )),
    "alloc-threads": ("alloc", r"threads?, ", (
        ("throughput", "throughput"),
        ("throughput, of 1 thread", "of 1 thread"),
        ("faster, by throughput", "faster"),
    )),
    "alloc-clock": ("alloc", r"^clock$", (
        ("timer overhead, not subtracted", "in each timed pair"),
        ("timer step", "smallest step"),
        ("drift of the time stamp", "drift over the run"),
    )),
    "attach-reserve": ("attach", r"reserve$|and CUDA IPC$", (
        ("ps_alloc_shared", "ps_alloc_shared"),
        ("ps_alloc_shared, largest", "largest"),
        ("of that cuInit", "of that cuInit"),
        ("of that context", "context"),
        ("of that pool", "pool"),
        ("cuMemAlloc, once", "cuMemAlloc"),
        ("faster, pool against cuMemAlloc", "faster"),
    )),
    "attach-receive": ("attach", r"receive$|and CUDA IPC$", (
        ("received", "received"),
        ("first allocation", "first allocation"),
        ("first allocation, largest", "largest"),
        ("then map all", "then map all"),
        ("cuIpcOpenMemHandle", "cuIpcOpenMemHandle"),
        ("cuIpcCloseMemHandle", "cuIpcCloseMemHandle"),
        ("faster, first allocation", "faster, first allocation"),
        ("faster, all mapped", "faster, all mapped"),
    )),
    "attach-map": ("attach", r"one segment at a time$|VMM, receive$", (
        ("import", "import"),
        ("map", "map"),
        ("set access", "set access"),
        ("sum", "sum"),
        ("all mapped, of the sum", "from a context to all mapped"),
    )),
    "grant-ways": ("grant", r"1 GiB", (
        ("median", "median"),
        ("largest", "largest"),
        ("then free, median", "then free"),
        ("faster, by median", "faster"),
    )),
    "grant-restart": ("grant", r"^poolswitchd|killed$", (
        ("ready", "ready"),
        ("ready, largest", "largest"),
        ("reused after the fence", "reused after the fence"),
        ("reused, largest", "largest"),
        ("next grant", "next grant"),
        ("next grant, largest", "largest"),
    )),
    "grant-crowd": ("grant", r"client|^alone|^beside", (
        ("taken and returned", "taken and returned"),
        ("of that with 1 client", "of that with 1 client"),
        ("taken, median", "taken, median"),
        ("taken, p99", "p99"),
        ("of that alone", "of that alone"),
    )),
    "preload": ("preload", r"pairs of|busy|cuMemFree|Retain", (
        ("pair median", "median"),
        ("pair p99", "p99"),
        ("faster, by median", "faster, by median"),
        ("free", "free"),
        ("call", "call"),
        ("added to a call", "added"),
    )),
    "frameworks-cost": ("frameworks", r"", (
        ("step, driver", "step, driver"),
        ("step, preload", "step, preload"),
        ("paired difference", "paired difference"),
        ("its interval's low end", "95 % from"),
        ("its interval's high end", "to"),
        ("calls of a step", "calls of a step"),
        ("start, driver", "start, driver"),
        ("start, preload", "start, preload"),
        ("longer, median of pairs", "longer"),
        ("peak, driver", "peak, driver"),
        ("peak, preload", "peak, preload"),
    )),
    "switch-parts": ("switch_latency", r"", (
        ("switch p50", "p50"),
        ("switch p99", "p99"),
        ("of that release, p50", "release"),
        ("of that message, p50", "message"),
        ("of that take over, p50", "take over"),
        ("of that first kernel, p50", "first kernel"),
        ("kernel alone, on the GPU", "kernel alone"),
        ("faster, by p50", "faster"),
    )),
}
# In these the project's promises stand under the figures.
WITH_TARGETS = ("alloc", "attach", "grant", "switch")


def number(value):
    """Three digits that count, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{round(value):,}"
    text = f"{value:.3g}"
    return text if "e" not in text else f"{value:.6f}".rstrip("0")


def quantity(value, unit):
    if value < 0:
        return "-" + quantity(-value, unit)
    if unit == "times":
        return number(value) + " x"
    for small, large in (("ns", "us"), ("us", "ms")):
        if unit == small and value >= 10000:
            return f"{number(value / 1000)} {large}"
    return f"{number(value)} {unit}"


def table(heads, rows):
    rule = ["---"] + ["---:"] * (len(heads) - 1)
    return "".join("| " + " | ".join(row) + " |\n"
                   for row in [heads, rule] + rows)


def provenance(lines):
    first = lines[0]
    return (f"{first['gpu']}, driver {first['driver']}, commit "
            f"`{first['commit']}`, {first['date'][:10]}:\n\n")


def not_yet(bench):
    return f"`bench/{bench}`: not measured yet.\n"


def pivot(lines, pattern, columns):
    cases = {}
    heads = dict(columns)
    for line in lines:
        if (line["metric"] in heads and line["case"] != "target"
                and re.search(pattern, line["case"])):
            row = cases.setdefault(line["case"], {})
            row[line["metric"]] = quantity(line["value"], line["unit"])
    used = [metric for metric in heads
            if any(metric in row for row in cases.values())]
    return table(["case"] + [heads[metric] for metric in used],
                 [[case] + [row.get(metric, "") for metric in used]
                  for case, row in cases.items()])


def targets_of(lines):
    for line in lines:
        if line["case"] == "target":
            bound = quantity(line["bound"], line["unit"])
            yield (line["metric"], quantity(line["value"], line["unit"]),
                   f"{line['relation']} {bound}", line["met"])


def target_table(lines):
    return table(["promised", "measured", "wanted", "met"],
                 [[what, measured, wanted, "yes" if met else "**no**"]
                  for what, measured, wanted, met in targets_of(lines)])


def make_table(runs, name):
    bench, pattern, columns = TABLES[name]
    parts = []
    for _, lines in sorted(runs.get(bench, {}).items()):
        text = provenance(lines) + pivot(lines, pattern, columns)
        if name in WITH_TARGETS and any(targets_of(lines)):
            text += "\n" + target_table(lines)
        parts.append(text)
    return "\n".join(parts) if parts else not_yet(bench)


def make_targets(runs):
    """What the project promises, and whether it is kept."""
    parts = []
    for bench in BENCHES:
        for _, lines in sorted(runs.get(bench, {}).items()):
            parts.append(f"`bench/{bench}` on " + provenance(lines)
                         + target_table(lines))
        if not runs.get(bench):
            parts.append(not_yet(bench))
    return "\n".join(parts)


def losses_of(lines):
    """Each target that is missed, and whatever others do faster."""
    for what, measured, wanted, met in targets_of(lines):
        if not met:
            yield f"{what} is {measured}, wanted {wanted}"
    for line in lines:
        if (line["case"] != "target" and line["value"] < 1
                and line["metric"].startswith("faster")):
            how = line["metric"].partition(", ")[2]
            yield (f"{line['case']} takes {number(1 / line['value'])} times "
                   f"as long as {line['baseline']} ({how})")


def make_losses(runs):
    items = []
    for bench in BENCHES:
        for gpu, lines in sorted(runs.get(bench, {}).items()):
            items += [f"`bench/{bench}` on {gpu}: {loss}"
                      for loss in losses_of(lines)]
        if not runs.get(bench):
            items.append(not_yet(bench).rstrip())
    if not items:
        items = ["Nothing in these results: every promise is kept, and "
                 "nothing that is compared is faster."]
    return "".join(f"- {item}\n" for item in items)


def names():
    return ["targets", "losses", *TABLES]


def make(runs, name):
    """The table's text; None when there is none of that name."""
    if name == "targets":
        return make_targets(runs)
    if name == "losses":
        return make_losses(runs)
    return make_table(runs, name) if name in TABLES else None
