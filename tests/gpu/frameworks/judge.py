# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""What must hold between a program's run without the preload and its run with
it. Pure: run.py runs, this decides."""

SHARE_LEAST = 0.95   # of the bytes that the pool can hold
PEAK_MOST = 1.03     # of the peak without, and one segment more


def share_of(pooled):
    """How much of what the pool can hold it does hold: by the framework's
    own count, or by the library's where that says more."""
    client = pooled["client"]
    there = max(pooled["poolable"], client["live"] + client["passed"])
    return client["live"] / there if there else 1.0


def outside_share_of(pooled):
    """The same of what the pool cannot hold: that room was made for it."""
    if not pooled["outside"]:
        return 1.0
    return min(1.0, pooled["client"]["outside"] / pooled["outside"])


def peak_of(pooled):
    """What nobody else can have: leased, or given up for the driver's."""
    return pooled["client"]["leased"] + pooled["client"]["outside"]


def peak_allowed(plain, pooled):
    return ((plain["peak"] + plain["outside"]) * PEAK_MOST
            + pooled["client"]["segment_bytes"])


def complaints(plain, pooled):
    """A line for each thing that is not as it must be."""
    if plain["preloaded"] or not pooled["preloaded"]:
        yield "the preload is where it must not be, or not where it must"
        return
    for name, wanted in plain["outputs"].items():
        if pooled["outputs"].get(name) != wanted:
            yield f"{name} differs from the run without the preload"
    if pooled["client"] is None:
        yield "the daemon does not know the process"
        return
    if share_of(pooled) < SHARE_LEAST:
        client = pooled["client"]
        yield (f"{share_of(pooled):.1%} of {pooled['poolable']} bytes are in "
               f"the pool (live {client['live']}, passed {client['passed']})")
    if outside_share_of(pooled) < SHARE_LEAST:
        yield (f"room was made for {pooled['client']['outside']} of "
               f"{pooled['outside']} bytes outside")
    if peak_of(pooled) > peak_allowed(plain, pooled):
        yield (f"it has {peak_of(pooled)} bytes of the pool, its peak "
               f"without the preload is {plain['peak']} and "
               f"{plain['outside']} outside")


def worse_tests(plain, pooled):
    """Tests of a framework's own that pass without the preload only."""
    return sorted(name for name, outcome in plain.items()
                  if outcome == "passed" and pooled.get(name) != "passed")
