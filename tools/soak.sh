#!/bin/sh
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
#
# The long runs: each fuzz target for 10 million inputs under ASAN and UBSAN,
# with libFuzzer where clang has it; the random sequences of the model-based
# tests for 100 times their usual length; the daemon's tests likewise (10,000
# clients killed, each half 1,000 times and both in turn, 30 minutes of clients
# that come and go); each of the n-th calls of its halves failing. --percent N
# shortens all of it.
#
# Seeds are fixed: a failure comes again. New inputs that libFuzzer finds stay
# in .dev/soak/corpus.

set -eu

percent=100
while [ $# -gt 0 ]; do
	case $1 in
	--percent)
		percent=${2:?--percent wants a number}
		shift 2
		;;
	*)
		echo "soak: unknown option $1" >&2
		exit 2
		;;
	esac
done
runs=$((100000 * percent))
root=$(pwd)
work=$root/.dev/soak
build=$work/build
mkdir -p "$work/corpus"

# Whether clang is here and brings libFuzzer along.
has_libfuzzer() {
	printf '%s' 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n)
		{ return d && n ? 0 : 0; }' |
		clang -x c -fsanitize=fuzzer -o "$work/probe" - 2>/dev/null
}

if [ ! -f "$build/build.ninja" ]; then
	if has_libfuzzer; then
		CC=clang meson setup "$build" -Dfuzz=true -Db_lundef=false \
			-Db_sanitize=address,undefined \
			-Dc_args=-fsanitize=fuzzer-no-link
	else
		meson setup "$build" -Db_sanitize=address,undefined
	fi
fi
ninja -C "$build"

# run NAME COMMAND...: counts it and says how it ended.
passed=0
failed=0
run() {
	what=$1
	shift
	echo "== $what"
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "soak: $what FAILED"
	fi
}

fuzz() {
	mkdir -p "$work/corpus/$name"
	cd "$work" && UBSAN_OPTIONS=halt_on_error=1 "$program" \
		-runs="$runs" -seed=1 -verbosity=0 \
		"corpus/$name" "$root/tests/fuzz/corpus/$name"
}

for name in $(cd "$root/tests/fuzz" && ls fuzz_*.c); do
	name=${name%.c}
	program=$build/tests/fuzz/$name
	run "$name, $runs inputs" fuzz
	cd "$root"
done

# These tests read how much longer they are to run.
export TH_SOAK_FACTOR="$percent"
run "random tests, $percent times as long" \
	meson test -C "$build" --no-rebuild --print-errorlogs \
	--timeout-multiplier 0 --suite soak

# What is preloaded into the daemon does not go with a sanitizer.
if [ "$percent" -gt 1 ]; then
	plain=$work/plain
	[ -f "$plain/build.ninja" ] || meson setup "$plain"
	ninja -C "$plain"
	run "each call of the daemon failing" \
		meson test -C "$plain" --no-rebuild --print-errorlogs \
		--timeout-multiplier 0 test_daemon_nth
fi

echo "soak: $passed passed, $failed failed"
[ "$failed" = 0 ]
