#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The checks of the programs' pages: each complains about what is missing."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import lint

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = """
static const struct argp_option a = { "json", 'j', NULL, 0, "", 0 };
static const struct argp_option b = { "gpu", KEY_GPU, "X", 0, "", 0 };
const struct cl_command cl_status = { .name = "status" };
int code = EX_UNAVAILABLE;
const char *metric = "poolswitch_up";
"""
MANUAL = """.Ss status
.It 69
.It Fl j , Fl -json
.It Fl -gpu Ar index
.It Fl -help , Fl -usage
.It Fl V , Fl -version
poolswitch_up
"""
COMPLETION = """commands="status"
options="--json --help --usage --version"
options+=" --gpu"
"""
DAEMON_CODE = {
    "poold/options.c": """
	{ "gpu", KEY_GPU, "X", 0, "the GPU", 0 },
	{ "role", KEY_ROLE, "X", OPTION_HIDDEN, NULL, 0 },
""",
    "poold/half.c": "return EX_UNAVAILABLE;",
    "poold/report.c": 'json_pack("{s:o}", "agent_pid", x);',
}
DAEMON_MANUAL = """.Sh OPTIONS
.It Fl g , Fl -gpu Ar index
.It Fl -help , Fl -usage
.It Fl V , Fl -version
.It 69
"""
DAEMON_PAGE = """# The daemon
| `--gpu` |
| `--help`, `--usage`, `--version` |
| 69 |
| `agent_pid` |
"""
READS = 'const char *a = getenv("TERM"), *b = "POOLSWITCH_SOCKET";\n'
PAGE = ".It Ev TERM\n.It Ev POOLSWITCH_SOCKET\n"


class ProgramTest(unittest.TestCase):
    def complaints(self, check, files):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return list(lint.CHECKS[check](lint.Tree(folder)))

    def manual(self, page):
        return self.complaints("manual", {"cli/main.c": CODE,
                                          "docs/poolswitch.1": page})

    def completion(self, text):
        return self.complaints("completion", {"cli/main.c": CODE,
                                              "cli/poolswitch.bash": text})

    def daemon(self, manual, page):
        return self.complaints(
            "daemon", {**DAEMON_CODE, "docs/poolswitchd.8": manual,
                       "docs/daemon.md": page})

    def environment(self, code, page):
        return self.complaints(
            "environment", {"lib/a.c": code,
                            "docs/poolswitch-environment.7": page})

    def test_manual_with_all_is_good(self):
        self.assertEqual([], self.manual(MANUAL))

    def test_manual_each_missing_line_is_noticed(self):
        lines = MANUAL.splitlines(keepends=True)
        for number in range(len(lines)):
            page = "".join(lines[:number] + lines[number + 1:])
            self.assertNotEqual([], self.manual(page), lines[number])

    def test_completion_with_all_is_good(self):
        self.assertEqual([], self.completion(COMPLETION))

    def test_completion_each_missing_word_is_noticed(self):
        for word in ("status", "--json", "--help", "--version", "--gpu"):
            found = self.completion(COMPLETION.replace(word, ""))
            self.assertEqual(1, len(found), word)

    def test_completion_word_of_the_past_is_noticed(self):
        found = self.completion(COMPLETION.replace("status", "status top")
                                .replace("--json", "--json --fast"))
        self.assertEqual(2, len(found))

    def test_daemon_with_all_is_good(self):
        self.assertEqual(self.daemon(DAEMON_MANUAL, DAEMON_PAGE), [])

    def test_daemon_each_missing_line_is_noticed(self):
        for line in DAEMON_MANUAL.splitlines()[1:]:
            short = DAEMON_MANUAL.replace(line + "\n", "")
            self.assertTrue(self.daemon(short, DAEMON_PAGE), line)
        for line in DAEMON_PAGE.splitlines()[1:]:
            short = DAEMON_PAGE.replace(line + "\n", "")
            self.assertTrue(self.daemon(DAEMON_MANUAL, short), line)

    def test_daemon_option_of_the_past_is_noticed(self):
        page = DAEMON_MANUAL + ".It Fl -frobnicate\n"
        self.assertEqual(len(self.daemon(page, DAEMON_PAGE)), 1)

    def test_environment_with_all_is_good(self):
        self.assertEqual([], self.environment(READS, PAGE))

    def test_environment_undocumented_variable_is_noticed(self):
        for name in ("TERM", "POOLSWITCH_SOCKET"):
            page = PAGE.replace(f".It Ev {name}\n", "")
            found = self.environment(READS, page)
            self.assertEqual(1, len(found), found)
            self.assertIn(f"no .It Ev {name}, which lib/a.c reads", found[0])

    def test_environment_variable_that_nothing_reads_is_noticed(self):
        found = self.environment("/* getenv(\"TERM\") */\n", ".It Ev TERM\n")
        self.assertIn("nothing reads TERM", found[0])


class GapsTest(ProgramTest):
    def gaps(self, page):
        return self.complaints(
            "gaps", {"preload/driver_symbols.txt": "# gap of\nhook cuA\n"
                     "gap cuB_v2 cuC_v2_ptsz\n",
                     "docs/compatibility.md": page})

    def test_gap_that_is_told_is_well(self):
        self.assertEqual(self.gaps("`cuB`, `cuC` of CUDA 13"), [])
        self.assertEqual(self.gaps("`cuB_v2`, `cuC`"), [])
        self.assertEqual(len(self.gaps("`cuB_v3`, `cuC`")), 1)

    def test_gap_that_is_not_told_is_one(self):
        found = self.gaps("`cuB`, `cuCtx`")
        self.assertEqual(len(found), 1, found)
        self.assertIn("`cuC`", found[0])


class CompletionTest(unittest.TestCase):
    """The completion itself, in a shell."""

    def complete(self, *words):
        script = ('source "$1"; shift; COMP_WORDS=("$@"); '
                  'COMP_CWORD=$(($# - 1)); _poolswitch; '
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        done = subprocess.run(
            ["bash", "--norc", "-c", script, "bash",
             str(ROOT / "cli/poolswitch.bash"), "poolswitch", *words],
            text=True, stdout=subprocess.PIPE, check=True,
            env={"PATH": os.environ["PATH"]})
        return done.stdout.split()

    def setUp(self):
        if shutil.which("bash") is None:
            self.skipTest("there is no bash")

    def test_first_word_is_a_command(self):
        self.assertEqual(["drain", "doctor"], self.complete("d"))

    def test_option_of_a_command_comes_with_it(self):
        self.assertEqual(["--listen"], self.complete("metrics", "--l"))
        self.assertEqual([], self.complete("status", "--l"))

    def test_run_has_options_and_their_words(self):
        self.assertEqual(["--at-quota"], self.complete("run", "--at"))
        self.assertEqual(["strict", "spill"],
                         self.complete("run", "--at-quota", "s"))

    def test_behind_run_comes_a_program(self):
        self.assertIn("true", self.complete("run", "tru"))
        self.assertEqual(["true"],
                         self.complete("run", "--quota", "4G", "true")[:1])

    def test_value_of_an_option_is_no_command(self):
        self.assertEqual(["--gpu"],
                         self.complete("--socket", "x", "doctor", "--g"))


if __name__ == "__main__":
    unittest.main()
