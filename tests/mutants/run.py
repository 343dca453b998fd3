#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Breaks each safety rule on purpose and expects its test to notice.

The *.toml files beside this one list the mutants. Each replaces one piece of
source text in a copy of the tree, builds, and runs the test that guards the
rule: it must fail, by an assertion, a crash or a time-out. The run fails when
a mutant survives, does not build, or its text is not found exactly once.

The copy and its build stay in .dev/mutants, so that only what changed is
built again.
"""

import argparse
import fnmatch
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FIELDS = {"name", "rule", "file", "find", "replace", "test"}
TIMEOUT_S = 60
# A broken rule between threads shows by chance: so often the test may pass.
TRIES = 8
# Not a verdict on the rule: all skipped, no such test.
NO_VERDICT = {77: "was skipped", 2: "has no such case"}


class Broken(Exception):
    """The mutant cannot be judged; the text says why."""


def load(folder, patterns):
    """All mutants whose name matches one of the patterns (none: all)."""
    mutants = []
    for path in sorted(folder.glob("*.toml")):
        with path.open("rb") as file:
            rows = tomllib.load(file).get("mutant", [])
        for row in rows:
            missing = FIELDS - row.keys()
            if missing:
                sys.exit(f"{path.name}: a mutant lacks {sorted(missing)}")
            mutants.append(row)
    names = [row["name"] for row in mutants]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        sys.exit(f"names that come twice: {sorted(twice)}")
    if not patterns:
        return mutants
    return [
        row for row in mutants
        if any(fnmatch.fnmatch(row["name"], each) for each in patterns)
    ]


def mutate(text, mutant):
    """The source text with the rule broken."""
    count = text.count(mutant["find"])
    if count != 1:
        raise Broken(f"its text is found {count} times in {mutant['file']}")
    return text.replace(mutant["find"], mutant["replace"])


def copy_tree(tree):
    """Makes the copy equal to the working tree; equal files keep their time."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    wanted = {name for name in listed.split("\0")
              if name and (ROOT / name).is_file()}
    for old in tree.rglob("*"):
        if old.is_file() and str(old.relative_to(tree)) not in wanted:
            old.unlink()
    for name in wanted:
        source, target = ROOT / name, tree / name
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


class Build:
    """The copy's build folder, and its tests by name."""

    def __init__(self, tree, folder):
        self.folder = folder
        if not (folder / "build.ninja").exists():
            self.run("meson", "setup", str(folder), str(tree),
                     "-Dbuildtype=debug", "-Dwerror=false")
        self.ninja()
        # The GPU suite has tests of the same names.
        self.tests = {
            row["name"]: row for row in self.introspect("tests")
            if not any(each.endswith(":gpu") for each in row["suite"])
        }
        self.files = {
            row["id"]: [os.path.relpath(name, folder)
                        for name in row["filename"]]
            for row in self.introspect("targets")
        }
        self.passed = set()

    @staticmethod
    def run(*argv):
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT)
        if done.returncode != 0:
            sys.exit(f"{' '.join(argv)} failed:\n{done.stdout}")
        return done.stdout

    def introspect(self, what):
        return json.loads(
            self.run("meson", "introspect", f"--{what}", str(self.folder)))

    def ninja(self, *targets):
        return self.run("ninja", "-C", str(self.folder), *targets)

    def targets_of(self, test):
        row = self.tests[test]
        names = [name for each in row["depends"]
                 for name in self.files.get(each, [])]
        program = os.path.relpath(row["cmd"][0], self.folder)
        built = {name for group in self.files.values() for name in group}
        return names + ([program] if program in built else [])

    def try_build(self, test):
        """The compiler's words when it does not build."""
        done = subprocess.run(
            ["ninja", "-C", str(self.folder), *self.targets_of(test)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise Broken("does not build:\n" + done.stdout[-2000:])

    def status_of(self, mutant):
        """The exit status of the guarding test; None when it hung."""
        row = self.tests[mutant["test"]]
        case = [mutant["case"]] if "case" in mutant else []
        process = subprocess.Popen(
            row["cmd"] + case, env={**os.environ, **row["env"]},
            cwd=row.get("workdir") or self.folder, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return None
        finally:
            kill_group(process)

    def check_unbroken(self, mutant):
        """The test must pass before the rule is broken. Builds nothing."""
        key = (mutant["test"], mutant.get("case"))
        if mutant["test"] not in self.tests:
            raise Broken(f"there is no test {mutant['test']}")
        if key in self.passed:
            return
        status = self.status_of(mutant)
        if status != 0:
            raise Broken(f"{describe(mutant)} "
                         + NO_VERDICT.get(status, "fails without it"))
        self.passed.add(key)


def kill_group(process):
    """What a crashed test left running goes too."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.wait()


def describe(mutant):
    return " ".join([mutant["test"], mutant.get("case", "")]).strip()


def judge(build, tree, mutant):
    """How the mutant died; raises when it cannot be told."""
    path = tree / mutant["file"]
    if not path.is_file():
        raise Broken(f"there is no file {mutant['file']}")
    original = path.read_text(encoding="utf-8")
    broken = mutate(original, mutant)
    path.write_text(broken, encoding="utf-8")
    try:
        build.try_build(mutant["test"])
        for _ in range(TRIES):
            status = build.status_of(mutant)
            if status != 0:
                break
    finally:
        path.write_text(original, encoding="utf-8")
        # The restored file must look newer than what was built of it.
        later = time.time() + 0.01
        os.utime(path, (later, later))
    if status in NO_VERDICT:
        raise Broken(f"{describe(mutant)} {NO_VERDICT[status]}")
    if status is None:
        return "killed (hung)"
    if status < 0:
        return "killed (crash)"
    return "killed" if status else "SURVIVED"


def find_unfit(mutants, build):
    """Why some cannot be judged: their tests fail as it is. All of them
    before anything is broken, so that nothing is built for it."""
    unfit = {}
    for mutant in mutants:
        try:
            build.check_unbroken(mutant)
        except Broken as reason:
            unfit[mutant["name"]] = reason
    return unfit


def run_all(mutants, tree, build):
    """Prints a row for each; how many did not die."""
    unfit = find_unfit(mutants, build)
    bad = 0
    # Neighbours that break one file build it once more, not twice.
    for mutant in sorted(mutants, key=lambda row: row["file"]):
        try:
            if mutant["name"] in unfit:
                raise unfit[mutant["name"]]
            verdict = judge(build, tree, mutant)
        except Broken as reason:
            verdict = f"BROKEN: {reason}"
        if not verdict.startswith("killed"):
            bad += 1
        print(f"{mutant['name']:32} {verdict:16} {mutant['rule']}\n"
              f"{'':32} {'':16} by {describe(mutant)}", flush=True)
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", help="patterns of names")
    parser.add_argument("--part", default="1/1", metavar="K/N",
                        help="only the K-th of N parts")
    arguments = parser.parse_args()
    mutants = load(HERE, arguments.names)
    part, parts = map(int, arguments.part.split("/"))
    mutants = mutants[part - 1::parts]
    if not mutants:
        sys.exit("no mutant of that name")
    work = ROOT / ".dev" / ("mutants" if parts == 1 else f"mutants-{part}")
    tree = work / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    copy_tree(tree)
    build = Build(tree, work / "build")
    bad = run_all(mutants, tree, build)
    print(f"mutants: {len(mutants) - bad} passed, {bad} failed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
