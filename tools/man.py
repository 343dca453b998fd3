#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Makes the man pages from the comments of include/poolswitch.h.

man.py --list HEADER            prints the pages' file names
man.py HEADER NEWS FOLDER       writes them into FOLDER

One page a function, one for each enum and struct, and poolswitch.3, which
holds the header's first comment and names the rest. What is not documented,
or documented and not there, is an error.
"""

import pathlib
import re
import sys

import public_header

SECTION = "3"
OVERVIEW = "poolswitch"


class Undocumented(Exception):
    """The text names what is missing."""


class Entry:
    """One documented declaration."""

    def __init__(self, name, short, parameters, body, declaration):
        self.name = name
        self.short = short
        self.parameters = parameters  # [(name, text)]
        self.body = body              # paragraphs; "Return:" the last
        self.declaration = declaration

    @property
    def is_function(self):
        return self.declaration.startswith("PS_API")

    @property
    def file(self):
        return f"{self.name}.{SECTION}"


# ---- reading ----

TITLE = re.compile(r"(?:enum |struct )?(ps_\w+)(?:\(\))? - (.*)")


def split_comment(comment):
    """(title, parameters, paragraphs) of a kernel-doc comment."""
    title, _, rest = comment.partition("\n")
    parameters, paragraphs, current = [], [], None
    for line in rest.split("\n"):
        found = re.match(r"@(\w+):\s*(.*)", line)
        if found:
            current = [found[2]]
            parameters.append((found[1], current))
        elif not line.strip():
            current = None
        elif current is None:
            current = [line.strip()]
            paragraphs.append(current)
        else:
            current.append(line.strip())
    return (title.strip(),
            [(name, " ".join(text)) for name, text in parameters],
            [" ".join(text) for text in paragraphs])


def read_entries(header):
    for comment, rest in public_header.comments(header):
        title, parameters, body = split_comment(comment)
        found = TITLE.match(title)
        declaration = public_header.declaration(rest)
        if not found:
            continue
        # An opaque struct is told of where its functions are.
        if re.fullmatch(r"struct \w+;", declaration):
            continue
        yield Entry(found[1], found[2], parameters, body, declaration)


def parameter_names(declaration):
    inside = re.search(r"\bps_\w+\s*\((.*)\)", declaration, re.S)[1]
    if inside.strip() == "void":
        return []
    return [re.search(r"(\w+)(?:\[\w*\])?\s*$", part)[1]
            for part in inside.split(",")]


def complaints(header, entries):
    """What the header leaves undocumented, or documents wrongly."""
    by_name = {entry.name: entry for entry in entries}
    for name in public_header.function_names(header):
        entry = by_name.get(name)
        if entry is None:
            yield f"{name}() has no comment"
            continue
        wanted = parameter_names(entry.declaration)
        given = [parameter for parameter, _ in entry.parameters]
        if wanted != given:
            yield f"{name}() documents {given}, its parameters are {wanted}"
        returns = any(part.startswith("Return:") for part in entry.body)
        if not returns and not re.match(r"PS_API\s+void\s+ps_",
                                        entry.declaration):
            yield f"{name}() does not say what it returns"


# ---- writing ----

def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def paragraph(text):
    """Names of functions and constants in bold, arguments stay as they are."""
    text = escape(text)
    return re.sub(r"\b(ps_\w+\(\)|PS_[A-Z_]+)", r"\\fB\1\\fP", text)


def head(name, short, date, version):
    return [
        f".TH {name.upper()} {SECTION} {date} \"poolswitch {version}\" "
        "\"Library Functions Manual\"",
        ".SH NAME", f"{name} \\- {escape(short)}",
    ]


def code(text):
    lines = [escape(line.expandtabs(8)) for line in text.split("\n")]
    return [".nf", *lines, ".fi"]


def synopsis(declaration):
    declaration = re.sub(r"\bPS_(API|MUST_CHECK)\b\s*", "", declaration)
    if "{" not in declaration:
        declaration = re.sub(r"\s+", " ", declaration)
        declaration = wrap_declaration(declaration)
    return [".SH SYNOPSIS", ".nf", ".B #include <poolswitch.h>", ".fi",
            ".PP", *code(declaration)]


def wrap_declaration(text, width=72):
    """Arguments that do not fit go on under the first one."""
    start = text.index("(") + 1
    lines, line = [], text[:start]
    for part in re.split(r"(?<=,) ", text[start:]):
        if len(line) + len(part) > width and line.strip() and \
                not line.endswith("("):
            lines.append(line.rstrip())
            line = " " * min(start, 8)
        line += part + " "
    return "\n".join([*lines, line.rstrip()])


def see_also(entry, names):
    text = " ".join([*entry.body, *(text for _, text in entry.parameters)])
    seen = sorted({name for name in re.findall(r"\bps_\w+", text)
                   if name in names and name != entry.name})
    pages = [*seen, OVERVIEW]
    listed = [f".BR {name} ({SECTION}){',' if name != OVERVIEW else ''}"
              for name in pages]
    return [".SH SEE ALSO", *listed]


def page(entry, names, date, version):
    lines = head(entry.name, entry.short, date, version)
    lines += synopsis(entry.declaration)
    returns = [part for part in entry.body if part.startswith("Return:")]
    body = [part for part in entry.body if not part.startswith("Return:")]
    if body or entry.parameters:
        lines.append(".SH DESCRIPTION")
    separator = []
    for part in body:
        lines += [*separator, paragraph(part)]
        separator = [".PP"]
    for name, text in entry.parameters:
        lines += [".TP", f".I {name}", paragraph(text)]
    if returns:
        text = returns[0].removeprefix("Return:").strip()
        lines += [".SH RETURN VALUE", paragraph(text[0].upper() + text[1:])]
        if "PS_OK" in text:
            lines += [".PP", "After a failure",
                      f".BR ps_error_detail ({SECTION})",
                      "says what went wrong, with the numbers and the remedy."]
    return "\n".join(lines + see_also(entry, names)) + "\n"


def introduction(header):
    """The words and rules of the header's first comment, as it stands."""
    found = re.search(r"/\*\n \* poolswitch: (.*?)\n \*/", header, re.S)
    text = re.sub(r"^ \* ?", "", found[1], flags=re.M)
    short, _, rest = text.partition("\n\n")
    return " ".join(short.split()), rest


def overview(header, entries, date, version):
    short, rest = introduction(header)
    lines = head(OVERVIEW, short.rstrip("."), date, version)
    lines += [".SH SYNOPSIS", ".nf", ".B #include <poolswitch.h>", ".PP",
              "cc program.c $(pkg\\-config \\-\\-cflags \\-\\-libs poolswitch)",
              ".fi", ".SH DESCRIPTION", *code(rest), ".SH FUNCTIONS"]
    for entry in entries:
        lines += [".TP", f".BR {entry.name} ({SECTION})", escape(entry.short)]
    return "\n".join(lines) + "\n"


def version_of(header):
    return ".".join(re.search(rf"PS_VERSION_{part}\s+(\d+)", header)[1]
                    for part in ("MAJOR", "MINOR", "PATCH"))


def date_of(news):
    """The date of the newest release in NEWS.md."""
    return re.search(r"^## .*\((\d{4}-\d{2}-\d{2})\)", news, re.M)[1]


def make(header, news):
    """{file name: text} of all pages; raises Undocumented."""
    entries = list(read_entries(header))
    wrong = list(complaints(header, entries))
    if wrong:
        raise Undocumented("\n".join(wrong))
    names = {entry.name for entry in entries}
    date, version = date_of(news), version_of(header)
    pages = {entry.file: page(entry, names, date, version)
             for entry in entries}
    pages[f"{OVERVIEW}.{SECTION}"] = overview(header, entries, date, version)
    return pages


def main(argv):
    if len(argv) == 2 and argv[0] == "--list":
        header = pathlib.Path(argv[1]).read_text(encoding="utf-8")
        files = [entry.file for entry in read_entries(header)]
        print("\n".join([*files, f"{OVERVIEW}.{SECTION}"]))
        return 0
    if len(argv) != 3:
        sys.exit(__doc__)
    header, news = (pathlib.Path(name).read_text(encoding="utf-8")
                    for name in argv[:2])
    try:
        pages = make(header, news)
    except Undocumented as reason:
        sys.exit(f"{argv[0]}:\n{reason}")
    for name, text in pages.items():
        pathlib.Path(argv[2], name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
