#!/bin/sh
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
#
# Installs a build into a scratch prefix, builds and runs a program against
# what was installed, in C and in C++, finds it with pkg-config alone, and
# checks that uninstalling leaves no file behind.
#
# check_install.sh BUILD: a build folder configured with any prefix.

set -eu

build=${1:?usage: check_install.sh BUILD}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

prefix=$(meson introspect --buildoptions "$build" | python3 -c '
import json, sys
print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')
export DESTDIR="$work/root"
meson install -C "$build" --no-rebuild >"$work/log" || {
	cat "$work/log"
	exit 1
}

pc=$(find "$DESTDIR" -name poolswitch.pc)
[ -n "$pc" ] || { echo "no poolswitch.pc was installed"; exit 1; }
export PKG_CONFIG_PATH="${pc%/*}"
export PKG_CONFIG_SYSROOT_DIR="$DESTDIR"
cflags=$(pkg-config --cflags poolswitch)
libs=$(pkg-config --libs poolswitch)
library=$(find "$DESTDIR" -name 'libpoolswitch.so.*' | head -n 1)
export LD_LIBRARY_PATH="${library%/*}"

cat >"$work/user.c" <<'END'
#include <poolswitch.h>
#include <string.h>

int main(void)
{
	struct ps_pool_config *config;

	if (ps_pool_config_new(&config) != PS_OK)
		return 1;
	ps_pool_config_free(config);
	return strcmp(ps_status_name(PS_OVERLAP), "PS_OVERLAP") != 0;
}
END
# try COMPILER FLAG...
try() {
	compiler=$1
	shift
	command -v "$compiler" >/dev/null || return 0
	# shellcheck disable=SC2086 # lists of flags
	"$compiler" "$@" -Wall -Wextra -Wpedantic -Werror $cflags \
		-o "$work/user" "$work/user.c" $libs
	"$work/user"
	echo "$compiler $*: builds against the installed header and runs"
}
try gcc -std=c11
try clang -std=c11
try g++ -x c++ -std=c++11
try clang++ -x c++ -std=c++11

for name in include/poolswitch.h share/man/man3/ps_alloc_shared.3 \
	bin/poolswitch bin/poolswitchd share/man/man1/poolswitch.1 \
	share/man/man8/poolswitchd.8 \
	lib/systemd/system/poolswitchd.service \
	share/man/man7/poolswitch-environment.7 \
	share/bash-completion/completions/poolswitch; do
	[ -e "$DESTDIR$prefix/$name" ] || {
		echo "$name was not installed"
		exit 1
	}
done

# What was installed runs where it lies, and finds what it needs.
"$DESTDIR$prefix/bin/poolswitch" --version
"$DESTDIR$prefix/bin/poolswitch" run --no-daemon=pass -- true
"$DESTDIR$prefix/bin/poolswitch" metrics --listen 0.0.0.0:0 2>/dev/null && {
	echo "poolswitch listens on a network"
	exit 1
}

ninja -C "$build" uninstall >"$work/log"
left=$(find "$work" -path "$DESTDIR/*" ! -type d)
[ -z "$left" ] || {
	echo "left behind by uninstall:"
	echo "$left"
	exit 1
}
echo "uninstall leaves nothing behind"
