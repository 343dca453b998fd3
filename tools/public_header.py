# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Reads include/poolswitch.h: its declarations and the comments above them."""

import re


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def function_names(text):
    """The exported functions, in the order of the header."""
    return re.findall(r"\bPS_API\b[^;{]*?\b(ps_\w+)\s*\(",
                      without_comments(text))


def comments(text):
    """(comment, what follows it) of each kernel-doc comment."""
    for found in re.finditer(r"/\*\*(.*?)\*/[ \t]*\n", text, re.S):
        lines = [re.sub(r"^\s*\* ?", "", line)
                 for line in found.group(1).split("\n")]
        yield "\n".join(lines).strip("\n"), text[found.end():]


def declaration(rest):
    """The declaration that @rest begins with, as it stands there."""
    if re.match(r"\s*#", rest):
        return rest.strip().split("\n")[0]
    if "{" in rest.split(";")[0]:
        return rest[:matching_brace(rest) + 1].strip() + ";"
    return rest.split(";")[0].strip() + ";"


def matching_brace(text):
    depth = 0
    for position, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0 and character == "}":
            return position
    raise ValueError("a brace is not closed")
