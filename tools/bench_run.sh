#!/bin/sh
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
#
# The benchmarks on the simulated GPU: bench_run.sh BUILD [OPTION...]
#
# "alloc" measures what it measures anywhere: the allocator runs on the host
# and asks no driver on its way. Of the others, whose times are the GPU's, a
# quick run shows that they work.

set -eu

build=$(cd "${1:?usage: bench_run.sh BUILD}" && pwd)
shift
export POOLSWITCH_DRIVER=sim
export POOLSWITCH_SIM_LIBRARY="$build/device/sim/libcuda.so.1"
export POOLSWITCH_SIM_MEMORY=139G
POOLSWITCH_SIM_DIR=$(mktemp -d)
export POOLSWITCH_SIM_DIR
trap 'rm -rf "$POOLSWITCH_SIM_DIR"' EXIT

"$build/bench/alloc" "$@"
"$build/bench/attach" --quick
"$build/bench/switch_latency" --quick
