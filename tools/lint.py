#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that a program can check.

lint.py [--root DIR] [--build DIR] [CHECK...]

Without --build the checks of the built library are left out. Prints a line
for each complaint and "N passed, N failed" at the end: a check is a test.
"""

import argparse
import pathlib
import re
import shutil
import statistics
import subprocess
import sys

import lint_library
import lint_program

# Folder: what it may include, besides itself. An error in any other case.
LAYERS = {
    "include": [],
    "base": ["include"],
    "device": ["include", "base"],
    "allocator": ["include", "base"],
    "ipc": ["include", "base"],
    "model": ["include", "base"],
    "lib": ["include", "base", "device", "allocator", "ipc", "model"],
    "preload": ["include", "base", "device"],
    "poold": ["include", "base", "device", "allocator", "ipc", "model"],
    "cli": ["include", "base"],
    "python_shim": ["include"],
    "bench": ["include", "base", "device"],
    "demo": ["include", "base", "device", "model"],
    "examples": [],
}
TESTS_INCLUDE = [*LAYERS, "tests"]
# Where CUDA's own names may stand.
CUDA_FOLDERS = ("device", "preload", "bench", "demo", "tests")
CUDA_FILES = ("include/poolswitch_cuda_replace.h",)

COLUMNS = 80
PYTHON_COLUMNS = 88
FILE_LINES = 700
FUNCTION_LINES_MEDIAN = 12
FUNCTION_LINES_MOST = 50   # for 95 of 100
FUNCTION_LINES_LIMIT = 80
TEST_LINES = 25
README_LINES = 40

CODE = (".c", ".h")
SCRIPTS = (".py", ".sh", ".bash")
SPDX = (*CODE, *SCRIPTS, ".def", ".map", ".toml", ".build")
SPDX_FILES = ("dev", ".ci/run", "meson_options.txt")


class Tree:
    """The files of a checkout; of a plain folder, all of them."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.names = sorted(self._list())

    def _list(self):
        if (self.root / ".git").exists():
            listed = subprocess.run(
                ["git", "ls-files", "-co", "--exclude-standard"], text=True,
                cwd=self.root, check=True, stdout=subprocess.PIPE).stdout
            return [name for name in listed.splitlines()
                    if (self.root / name).is_file()]
        return [str(path.relative_to(self.root))
                for path in self.root.rglob("*") if path.is_file()]

    def text(self, name):
        return (self.root / name).read_text(encoding="utf-8",
                                            errors="replace")

    def ending(self, *suffixes):
        return [name for name in self.names if name.endswith(suffixes)]


def folder_of(name):
    return name.split("/")[0]


def code_only(text):
    """The text with comments and strings blanked, line by line the same."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"'
    return re.sub(pattern, blank, text, flags=re.S)


def includes_of(text):
    return re.findall(r'^#include\s+(["<])([^">]+)[">]', text, re.M)


# ---- layers ----

def may_include(folder, target):
    if folder == "tests":
        return folder_of(target) in TESTS_INCLUDE
    allowed = LAYERS.get(folder)
    return allowed is None or folder_of(target) in [folder, *allowed]


def check_layers(tree):
    for name in tree.ending(*CODE):
        folder = folder_of(name)
        for kind, target in includes_of(tree.text(name)):
            if kind == "<":
                continue
            # A header that the build makes has its pattern beside it.
            if not any((tree.root / each).is_file()
                       for each in (target, target + ".in")):
                yield f'{name}: includes "{target}": not a path from the root'
            elif not may_include(folder, target):
                yield f'{name}: includes "{target}": {folder}/ may not'


def check_own_header(tree):
    for name in tree.ending(".c"):
        own = name[:-2] + ".h"
        targets = [each for _, each in includes_of(tree.text(name))]
        if own in targets and targets[0] != own:
            yield f'{name}: its own header "{own}" does not come first'


def check_cuda(tree):
    for name in tree.ending(*CODE):
        if folder_of(name) in CUDA_FOLDERS or name in CUDA_FILES:
            continue
        text = tree.text(name)
        for kind, target in includes_of(text):
            if re.match(r"(?:.*/)?(cuda|cu[A-Z])[^/]*\.h$", target):
                yield f"{name}: includes CUDA's {target}"
        for symbol in re.findall(r"\b(cu(?:da)?[A-Z]\w*)\s*\(",
                                 code_only(text)):
            yield f"{name}: uses CUDA's {symbol}()"


# ---- lengths ----

def functions_of(text):
    """(name, lines of the body) of each function in kernel style."""
    lines = text.split("\n")
    start = None
    for number, line in enumerate(lines):
        if line == "{":
            start = number
        elif line == "}" and start is not None:
            yield function_name(lines, start), number - start - 1
            start = None


def function_name(lines, start):
    head = ""
    for line in reversed(lines[max(0, start - 8):start]):
        if not line or line[-1] in ";}/":
            break
        head = line + " " + head
    found = re.search(r"(\w+)\s*\(", head)
    return found.group(1) if found else "?"


def check_function_lengths(tree):
    lengths = []
    for name in tree.ending(".c"):
        for function, lines in functions_of(tree.text(name)):
            lengths.append(lines)
            where = f"{name}: {function}() has {lines} lines"
            if lines > FUNCTION_LINES_LIMIT:
                yield f"{where}, {FUNCTION_LINES_LIMIT} at most"
            elif function.startswith("test_") and lines > TEST_LINES:
                yield f"{where}, a test {TEST_LINES} at most"
    if not lengths:
        return
    if statistics.median(lengths) > FUNCTION_LINES_MEDIAN:
        yield (f"the median function has {statistics.median(lengths)} lines, "
               f"{FUNCTION_LINES_MEDIAN} at most")
    long = sum(each > FUNCTION_LINES_MOST for each in lengths)
    if long * 20 > len(lengths):
        yield (f"{long} of {len(lengths)} functions have more than "
               f"{FUNCTION_LINES_MOST} lines, one in 20 at most")


def script_names(tree):
    return tree.ending(*SCRIPTS) + [
        name for name in ("dev", ".ci/run") if name in tree.names]


def check_file_lengths(tree):
    for name in tree.ending(*CODE) + script_names(tree):
        lines = tree.text(name).count("\n")
        # The public header is a document: one page for each function.
        if lines > FILE_LINES and name != "include/poolswitch.h":
            yield f"{name}: {lines} lines, {FILE_LINES} at most"


def check_columns(tree):
    for name in tree.ending(*CODE) + script_names(tree):
        most = PYTHON_COLUMNS if name.endswith(".py") else COLUMNS
        for number, line in enumerate(tree.text(name).split("\n"), 1):
            if len(line.expandtabs(8)) > most:
                yield f"{name}:{number}: more than {most} columns"


# ---- form ----

def check_spdx(tree):
    names = tree.ending(*SPDX) + [
        name for name in SPDX_FILES if name in tree.names]
    for name in names:
        head = "\n".join(tree.text(name).split("\n")[:4])
        if ("SPDX-FileCopyrightText:" not in head
                or "SPDX-License-Identifier: Apache-2.0" not in head):
            yield f"{name}: no SPDX lines at its top"


def check_form(tree):
    for name in tree.ending(*CODE):
        text = tree.text(name)
        code = code_only(text)
        # CUDA's own types are typedefs.
        if (folder_of(name) != "device" and "/cuda/" not in name
                and re.search(r"\btypedef\s+struct\b", code)):
            yield f"{name}: a typedef of a struct"
        if re.search(r'^#include\s+"[^"]+\.c"', text, re.M):
            yield f"{name}: includes a .c file"
        if name.endswith(".c") and re.search(r"^\s*extern\b", code, re.M):
            yield f"{name}: extern in a .c file; it belongs in a header"
    for name in tree.ending(*CODE, *SCRIPTS, ".md", ".build"):
        if name != "tools/lint.py" and name != "tools/test_lint.py":
            if re.search(r"\b(TODO|FIXME|XXX)\b", tree.text(name)):
                yield f"{name}: something is left to do in it"


def find_clang_format(root):
    """Version 14, so that everybody's machine formats alike."""
    for name in (root / ".dev/venv/bin/clang-format", "clang-format-14",
                 "clang-format"):
        path = shutil.which(str(name))
        if path and "version 14." in subprocess.run(
                [path, "--version"], stdout=subprocess.PIPE,
                text=True).stdout:
            return path
    return None


def check_clang_format(tree):
    program = find_clang_format(tree.root)
    if program is None:
        yield ("clang-format 14 is missing: python3 -m venv .dev/venv && "
               ".dev/venv/bin/pip install clang-format==14.0.6")
        return
    for name in tree.ending(*CODE):
        done = subprocess.run(
            [program, "--style=file", "--dry-run", "--Werror", name],
            cwd=tree.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            yield f"{name}: not formatted: clang-format -i {name}"


def check_shell(tree):
    program = shutil.which("shellcheck")
    if program is None:
        yield "shellcheck is missing: install the package shellcheck"
        return
    names = [name for name in script_names(tree) if not name.endswith(".py")]
    for name in names:
        done = subprocess.run([program, name], cwd=tree.root, text=True,
                              stdout=subprocess.PIPE)
        if done.returncode != 0:
            yield f"{name}: shellcheck:\n{done.stdout}"


# ---- documents ----

def check_folder_readmes(tree):
    folders = {folder_of(name) for name in tree.names
               if "/" in name and not name.startswith(".")}
    for folder in sorted(folders):
        name = f"{folder}/README.md"
        if name not in tree.names:
            yield f"{folder}/: no README.md"
        elif tree.text(name).count("\n") > README_LINES:
            yield f"{name}: more than {README_LINES} lines"


def check_links(tree):
    for name in tree.ending(".md"):
        text = re.sub(r"```.*?```", "", tree.text(name), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+:|#", target):
                continue
            path = (tree.root / name).parent / target.split("#")[0]
            if not path.exists():
                yield f"{name}: links to {target}, which is not there"


def check_evidence(tree):
    """Every test that docs/evidence.md names is there."""
    name = "docs/evidence.md"
    if name not in tree.names:
        return
    sources = [each for each in tree.names
               if each.startswith(("tests/", "tools/"))
               and each.endswith((*CODE, ".py", ".build"))]
    known = "\n".join(tree.text(each) for each in sources)
    for test in re.findall(r"`((?:test|fuzz)_\w+)`", tree.text(name)):
        if not re.search(rf"\b{test}\b", known):
            yield f"{name}: there is no test {test}"


def check_figures(tree):
    """The tables in the documents are those of bench/results/."""
    script = tree.root / "bench/report.py"
    if script.is_file():
        done = subprocess.run(
            [sys.executable, str(script), "--check", "--root",
             str(tree.root)], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            yield done.stdout.strip()


CHECKS = {
    "layers": check_layers,
    "own-header": check_own_header,
    "cuda": check_cuda,
    "function-lengths": check_function_lengths,
    "file-lengths": check_file_lengths,
    "columns": check_columns,
    "spdx": check_spdx,
    "form": check_form,
    "clang-format": check_clang_format,
    "shell": check_shell,
    "folder-readmes": check_folder_readmes,
    "links": check_links,
    "evidence": check_evidence,
    "figures": check_figures,
    **lint_program.CHECKS,
}


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--root", type=pathlib.Path,
                        default=pathlib.Path(__file__).parent.parent)
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("checks", nargs="*")
    arguments = parser.parse_args(argv)
    tree = Tree(arguments.root.resolve())
    checks = {name: (lambda check=check: check(tree))
              for name, check in CHECKS.items()}
    if arguments.build:
        for name, check in lint_library.CHECKS.items():
            checks[name] = (lambda check=check:
                            check(tree.root, arguments.build))
    failed = 0
    chosen = arguments.checks or list(checks)
    for name in chosen:
        complaints = list(checks[name]())
        for complaint in complaints:
            print(f"{name}: {complaint}")
        failed += bool(complaints)
    print(f"lint: {len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
