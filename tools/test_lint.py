#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""The linter itself: each check complains about a tree made to break it."""

import pathlib
import tempfile
import unittest

import lint
import lint_library

GOOD = """/* SPDX-FileCopyrightText: 2026 The poolswitch authors */
/* SPDX-License-Identifier: Apache-2.0 */
"""


class BadTreeTest(unittest.TestCase):
    def complaints(self, check, **files):
        """What @check says of a tree of these files; a__b.c is a/b.c."""
        with tempfile.TemporaryDirectory() as folder:
            for key, text in files.items():
                stem, _, suffix = key.rpartition("_DOT_")
                name = stem.replace("__", "/") + "." + suffix
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return list(lint.CHECKS[check](lint.Tree(folder)))

    def assert_complains(self, check, about, **files):
        found = self.complaints(check, **files)
        self.assertTrue(any(about in each for each in found), found)

    def test_layers_sibling_is_refused(self):
        self.assert_complains(
            "layers", "ipc/ may not", device__device_DOT_h="",
            ipc__conn_DOT_c='#include "device/device.h"\n')

    def test_layers_relative_path_is_refused(self):
        self.assert_complains(
            "layers", "not a path from the root", ipc__wire_DOT_h="",
            ipc__conn_DOT_c='#include "wire.h"\n')

    def test_layers_base_is_allowed(self):
        self.assertEqual([], self.complaints(
            "layers", base__status_DOT_h="",
            ipc__conn_DOT_c='#include "base/status.h"\n'))

    def test_layers_example_sees_public_header_only(self):
        self.assert_complains(
            "layers", "examples/ may not", base__status_DOT_h="",
            examples__worker_DOT_c='#include "base/status.h"\n')

    def test_own_header_not_first_is_refused(self):
        self.assert_complains(
            "own-header", "does not come first",
            ipc__a_DOT_c='#include <stdio.h>\n#include "ipc/a.h"\n')

    def test_cuda_header_is_refused(self):
        self.assert_complains("cuda", "CUDA's cuda.h",
                              lib__a_DOT_c="#include <cuda.h>\n")

    def test_cuda_symbol_is_refused(self):
        self.assert_complains("cuda", "cuMemCreate",
                              lib__a_DOT_c="\tcuMemCreate(1);\n")

    def test_cuda_symbol_in_comment_is_fine(self):
        self.assertEqual([], self.complaints(
            "cuda", lib__a_DOT_c="/* as cuMemCreate() does */\n"))

    def test_function_of_81_lines_is_refused(self):
        body = "\tx++;\n" * 81
        self.assert_complains(
            "function-lengths", "long_one() has 81 lines",
            lib__a_DOT_c=f"static void long_one(int x,\n\t\tint y)\n"
                         f"{{\n{body}}}\n")

    def test_test_of_26_lines_is_refused(self):
        body = "\tx++;\n" * 26
        self.assert_complains(
            "function-lengths", "a test 25 at most",
            tests__a_DOT_c=f"static void test_a(void **state)\n"
                           f"{{\n{body}}}\n")

    def test_many_functions_of_13_lines_are_refused(self):
        one = "void f(void)\n{\n" + "\tx++;\n" * 13 + "}\n"
        self.assert_complains("function-lengths", "median",
                              lib__a_DOT_c=one * 3)

    def test_table_may_be_long(self):
        self.assertEqual([], self.complaints(
            "function-lengths",
            lib__a_DOT_c="int t[] = {\n" + "\t1,\n" * 100 + "};\n"))

    def test_file_of_701_lines_is_refused(self):
        self.assert_complains("file-lengths", "701 lines",
                              lib__a_DOT_c="\n" * 701)

    def test_column_81_is_refused(self):
        self.assert_complains("columns", "lib/a.c:1",
                              lib__a_DOT_c="\t" + "x" * 73 + "\n")

    def test_missing_licence_is_refused(self):
        self.assert_complains("spdx", "no SPDX", lib__a_DOT_c="int x;\n")

    def test_licence_is_enough(self):
        self.assertEqual([], self.complaints("spdx", lib__a_DOT_c=GOOD))

    def test_struct_typedef_is_refused(self):
        self.assert_complains("form", "typedef",
                              lib__a_DOT_h="typedef struct a a_t;\n")

    def test_extern_in_source_is_refused(self):
        self.assert_complains("form", "extern", lib__a_DOT_c="extern int x;\n")

    def test_left_to_do_is_refused(self):
        self.assert_complains("form", "left to do", lib__a_DOT_c="/* TODO */\n")

    def test_folder_without_readme_is_refused(self):
        self.assert_complains("folder-readmes", "no README.md",
                              lib__a_DOT_c="")

    def test_long_folder_readme_is_refused(self):
        self.assert_complains("folder-readmes", "more than 40",
                              lib__README_DOT_md="\n" * 41)

    def test_dead_link_is_refused(self):
        self.assert_complains("links", "not there",
                              docs__a_DOT_md="see [b](b.md)\n")

    def test_evidence_that_is_not_there_is_refused(self):
        self.assert_complains(
            "evidence", "no test test_b",
            docs__evidence_DOT_md="`test_a`, `test_b`\n",
            tests__a_DOT_c="static void test_a(void **state)\n")

    def test_unformatted_code_is_refused(self):
        if lint.find_clang_format(pathlib.Path(".")) is None:
            self.skipTest("clang-format 14 is not here")
        self.assert_complains("clang-format", "not formatted",
                              lib__a_DOT_c="int  x ;\n")


class LibraryTest(unittest.TestCase):
    def test_stray_export_is_refused(self):
        found = list(lint_library.differences({"ps_a", "leak"}, {"ps_a"},
                                              {"ps_a"}))
        self.assertEqual(len(found), 1)
        self.assertIn("leak is exported", found[0])

    def test_missing_export_is_refused(self):
        found = list(lint_library.differences(set(), {"ps_a"}, {"ps_a"}))
        self.assertIn("not exported", found[0])

    def test_version_node_is_no_export(self):
        text = "0000 A POOLSWITCH_0\n0010 T ps_a@@POOLSWITCH_0\n"
        self.assertEqual(lint_library.exported_names(text), {"ps_a"})

    def test_version_script_is_read(self):
        text = "POOLSWITCH_0 {\nglobal:\n\tps_a;\n\tps_b;\nlocal:\n\t*;\n};\n"
        self.assertEqual(lint_library.map_names(text), {"ps_a", "ps_b"})

    def test_stray_export_of_preload_is_refused(self):
        found = list(lint_library.preload_differences(
            {"dlopen", "dlsym", "cuMemFree_v2", "ps_a"}, {"cuMemFree_v2"}))
        self.assertEqual(len(found), 1)
        self.assertIn("exports ps_a", found[0])

    def test_hook_that_preload_lacks_is_refused(self):
        found = list(lint_library.preload_differences(
            {"dlopen", "dlsym"}, lint_library.hook_names("HOOK(cuMemFree_v2, 3020)\n")))
        self.assertEqual(found, ["the preload does not export cuMemFree_v2"])

    def test_constructor_of_preload_is_refused(self):
        text = (" 0x0000000000000019 (INIT_ARRAY)    0x35de0\n"
                " 0x0000000000000010 (SYMBOLIC)      0x0\n")
        self.assertEqual(lint_library.constructors(text), ["INIT_ARRAY"])

    def test_newer_glibc_is_refused(self):
        text = ("0 DF *UND* 0 (GLIBC_2.34) dlopen\n"
                "0 DF *UND* 0 (GLIBC_2.14) memcpy\n"
                "0 DF *UND* 0  GLIBC_2.33  stat\n")
        self.assertEqual(list(lint_library.too_new(text)),
                         [("dlopen", "2.34"), ("stat", "2.33")])


if __name__ == "__main__":
    unittest.main()
