#!/bin/sh
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
#
# Fails when demo/kernels.ptx is not what demo/kernels.cu gives. Skipped (77)
# without an nvcc of the release that the PTX names: others write it in
# another way. What the PTX asks for is checked with or without.
set -eu
cd "$(dirname "$0")/.."
ptx=demo/kernels.ptx

for line in '\.version 7\.8' '\.target sm_70'; do
	grep -qx "$line" $ptx || {
		echo "$ptx asks for more than driver 525 and Volta have" >&2
		exit 1
	}
done
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
release=$(sed -n 's/^.*compilation tools, release .*, \(V.*\)$/\1/p' $ptx)
"$nvcc" --version 2>/dev/null | grep -q "$release" || {
	echo "skipped: no nvcc $release" >&2
	exit 77
}
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
NVCC=$nvcc demo/build_ptx.sh "$fresh/kernels.ptx"
diff -u $ptx "$fresh/kernels.ptx"
