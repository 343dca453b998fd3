# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""What lint.py checks of the built library: its symbols and what they need."""

import re
import shutil
import subprocess

import public_header

GLIBC_NEWEST = (2, 28)


# What runs when a library is loaded or unloaded.
RUNS = {"INIT", "INIT_ARRAY", "PREINIT_ARRAY", "FINI", "FINI_ARRAY"}

# What the preload stands before besides the driver.
LOADER = {"dlopen", "dlsym"}


def library_of(build):
    return build / "lib" / "libpoolswitch.so"


def preload_of(build):
    return build / "preload" / "libpoolswitch_preload.so"


def output_of(*command):
    """What the command prints; None if it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
    return done.stdout if done.returncode == 0 else None


def exported_names(nm_text):
    """The defined dynamic symbols, without the version nodes themselves."""
    names = set()
    for line in nm_text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] != "A":
            names.add(words[2].split("@")[0])
    return names


def map_names(map_text):
    """The global names of a linker's version script."""
    text = re.sub(r"#[^\n]*|/\*.*?\*/", "", map_text, flags=re.S)
    names = set()
    for block in re.findall(r"\{(.*?)\}", text, re.S):
        part = block.split("local:")[0].replace("global:", "")
        names.update(name.strip() for name in part.split(";") if name.strip())
    return names


def differences(exported, declared, mapped):
    for name in sorted(exported - declared):
        yield f"{name} is exported and not declared in include/poolswitch.h"
    for name in sorted(declared - exported):
        yield f"{name} is declared in include/poolswitch.h and not exported"
    for name in sorted(declared ^ mapped):
        yield f"{name} is in one of poolswitch.h and lib/poolswitch.map only"


def check_symbols(root, build):
    nm_text = output_of("nm", "-D", "--defined-only", library_of(build))
    if nm_text is None:
        yield f"cannot read {library_of(build)}"
        return
    header = (root / "include/poolswitch.h").read_text(encoding="utf-8")
    script = (root / "lib/poolswitch.map").read_text(encoding="utf-8")
    yield from differences(exported_names(nm_text),
                           set(public_header.function_names(header)),
                           map_names(script))


def hook_names(def_text):
    return set(re.findall(r"^HOOK\((\w+)", def_text, re.M))


def preload_differences(exported, hooks):
    for name in sorted(exported - hooks - LOADER):
        yield f"the preload exports {name}, which preload/hooks.def has not"
    for name in sorted((hooks | LOADER) - exported):
        yield f"the preload does not export {name}"


def constructors(readelf_text):
    """The entries of a dynamic section that make code run by themselves."""
    found = re.findall(r"^ *0x[0-9a-f]+ \((\w+)\)", readelf_text, re.M)
    return sorted(RUNS & set(found))


def check_preload(root, build):
    library = preload_of(build)
    nm_text = output_of("nm", "-D", "--defined-only", library)
    dynamic = output_of("readelf", "-dW", library)
    if nm_text is None or dynamic is None:
        yield f"cannot read {library}"
        return
    hooks = (root / "preload/hooks.def").read_text(encoding="utf-8")
    yield from preload_differences(exported_names(nm_text),
                                   hook_names(hooks))
    for entry in constructors(dynamic):
        yield f"the preload has {entry}: nothing may run when it is loaded"


def too_new(objdump_text):
    """(symbol, version) of each that needs a newer glibc than promised."""
    for line in objdump_text.splitlines():
        found = re.search(r"\(?GLIBC_(\d+)\.(\d+)[\d.]*\)?\s+(\w+)$", line)
        if found and (int(found[1]), int(found[2])) > GLIBC_NEWEST:
            yield found[3], f"{found[1]}.{found[2]}"


def check_glibc(root, build):
    del root
    for library in (library_of(build), preload_of(build)):
        dump = output_of("objdump", "-T", library)
        if dump is None:
            yield f"cannot read {library}"
            continue
        for symbol, version in too_new(dump):
            yield (f"{library.name} needs {symbol} of glibc {version}; "
                   "2.28 is what we promise")


def check_man(root, build):
    """mandoc's own linter; without it, man's warnings."""
    made = sorted(build.glob("docs/*.3"))
    if not made:
        yield f"no man pages in {build}/docs"
        return
    pages = made + sorted((root / "docs").glob("*.[1-9]"))
    if shutil.which("mandoc"):
        command = ["mandoc", "-T", "lint", "-W", "warning"]
    elif shutil.which("man"):
        command = ["man", "--warnings", "-l", "-T", "utf8", "-Z"]
    else:
        return
    for page in pages:
        done = subprocess.run([*command, str(page)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        words = done.stdout if "mandoc" in command else done.stderr
        if done.returncode != 0 or words.strip() and "mandoc" in command:
            yield words.strip()


CHECKS = {"symbols": check_symbols, "preload": check_preload,
          "glibc": check_glibc, "man": check_man}
