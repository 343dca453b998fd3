#!/bin/sh
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
#
# demo/build_ptx.sh [FILE]: makes demo/kernels.ptx (or FILE) of kernels.cu.
#
# The PTX must load on Volta with driver 525, which reads PTX 7.8 and older.
# Today's nvcc neither writes such a version nor targets sm_70, so it compiles
# for the oldest target it has and the two lines are rewritten. That is right
# as long as the code uses no instruction newer than they say: ptxas checks
# the instructions against the version, and assembles it for Turing (the
# oldest target it has left) and for Hopper.
set -eu
cd "$(dirname "$0")/.."
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
ptxas=$(dirname "$nvcc")/ptxas
out=${1:-demo/kernels.ptx}

[ -x "$nvcc" ] || { echo "build_ptx.sh: no nvcc; set NVCC" >&2; exit 77; }
"$nvcc" -ptx -O3 -arch=compute_75 -I. -o "$out.tmp" demo/kernels.cu
sed -e 's/^\.version .*/.version 7.8/' -e 's/^\.target .*/.target sm_70/' \
	"$out.tmp" >"$out"
rm -f "$out.tmp"
for arch in sm_75 sm_90; do
	"$ptxas" -arch="$arch" -o /dev/null "$out"
done
