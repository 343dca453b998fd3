# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Where NVIDIA's headers are: those of an installed toolkit, and those in the
wheels of the CUDA runtime on PyPI, a wheel for each major version.

Without any of them a check is skipped (77). In CI, where CI is set, every
major version is needed, and the lack of one is a failure.

cuda_headers.py ROOT fetches the wheels for every build of that checkout.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

SKIPPED = 77
# major version of CUDA: the wheel that carries cuda.h
WHEELS = {12: "nvidia-cuda-runtime-cu12", 13: "nvidia-cuda-runtime"}
# of a checkout
SHARED = Path(".dev/cuda-wheels")


class CannotCheck(Exception):
    """A header, or what reads it, cannot be had here."""


def missing(reason):
    """What a check that cannot be made exits with."""
    print(f"not checked: {reason}")
    return 1 if os.environ.get("CI") else SKIPPED


def installed():
    """The include folders of toolkits that are installed."""
    places = [os.environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    places = [Path(place) / "include" for place in places if place]
    places += [Path("/usr/local/cuda/include"), Path("/usr/include")]
    places = [place.resolve() for place in places if (place / "cuda.h").is_file()]
    return list(dict.fromkeys(places))


def wheels_folder(root, build):
    """Where wheels are kept: for all builds when they were fetched so."""
    shared = root / SHARED
    return shared if shared.is_dir() else build / "cuda-wheels"


def download(name, folder):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--retries", "1", "--only-binary=:all:"]
    command += ["--platform", "manylinux2014_x86_64"]
    command += ["--dest", str(folder), name]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise CannotCheck(f"{name}: {lines[-1] if lines else 'pip failed'}")


def fetch(name, place):
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    download(name, place)
    for wheel in place.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(place)


def of_wheel(name, folder, header="cuda.h"):
    """The folder of the header in the wheel, which is fetched once."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / name
    with open(folder / "lock", "w") as lock:
        # Several checks may run at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(place.glob(f"**/{header}")):
            fetch(name, place)
    found = list(place.glob(f"**/{header}"))
    if not found:
        raise CannotCheck(f"{name}: no {header} in it")
    return found[0].parent


def find_one(folder):
    """The include folder of a toolkit; else of the first wheel to be had."""
    for place in installed():
        return place
    reasons = []
    for name in WHEELS.values():
        try:
            return of_wheel(name, folder)
        except CannotCheck as reason:
            reasons.append(str(reason))
    raise CannotCheck("; ".join(reasons))


def find_all(folder):
    """Those of installed toolkits and of each major version's wheel."""
    places = installed()
    reasons = []
    for name in WHEELS.values():
        try:
            places.append(of_wheel(name, folder))
        except CannotCheck as reason:
            reasons.append(str(reason))
    if not places or (reasons and os.environ.get("CI")):
        raise CannotCheck("; ".join(reasons))
    for reason in reasons:
        print(f"left out: {reason}")
    return places


def main():
    folder = Path(sys.argv[1]) / SHARED
    for name in WHEELS.values():
        print(of_wheel(name, folder))


if __name__ == "__main__":
    try:
        main()
    except CannotCheck as reason:
        sys.exit(f"cuda_headers: {reason}")
