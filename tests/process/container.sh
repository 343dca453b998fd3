#!/bin/sh
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
#
# container.sh ROOT SOCKET-FOLDER LIBRARY DRIVER GPU PROGRAM PYTHON: becomes
# PROGRAM in a root of its own, in which nothing is but a system, the driver,
# the GPU's files, and the two things of poolswitch that docs/containers.md
# names. Run by unshare, in namespaces of its own.

set -eu

root=$1 sockets=$2 library=$3 driver=$4 gpu=$5 program=$6 python=$7

# give FROM TO: a folder or a file of the outside, at another place.
give() {
	if [ -d "$1" ]; then
		mkdir -p "$root$2"
	else
		mkdir -p "$root$(dirname "$2")"
		: >"$root$2"
	fi
	mount --bind "$1" "$root$2"
}

mount -t tmpfs none "$root"
for folder in /usr /bin /lib /lib64 "$python"; do
	if [ -L "$folder" ]; then
		cp -a "$folder" "$root$folder"
	elif [ -d "$folder" ]; then
		give "$folder" "$folder"
	fi
done
mkdir -p "$root/proc" "$root/tmp"
mount -t proc none "$root/proc"
give /dev /dev
give "$driver" /driver/libcuda.so.1
give "$gpu" /gpu
give "$sockets" /run/poolswitch
mount -o remount,bind,ro "$root/run/poolswitch"
give "$library" /opt/libpoolswitch_preload.so
give "$program" /program.py

exec chroot "$root" env -i PATH=/usr/bin:/bin POOLSWITCH_DRIVER=sim \
	POOLSWITCH_SIM_LIBRARY=/driver/libcuda.so.1 POOLSWITCH_SIM_DIR=/gpu \
	POOLSWITCH_NAME=contained LD_PRELOAD=/opt/libpoolswitch_preload.so \
	"$python/bin/python3" /program.py
