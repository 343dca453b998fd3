# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""What lint.py checks of the programs' pages: that they name what there is.

The code is the truth: commands, options, exit codes and metrics in cli/,
options, exit statuses and JSON in poold/, environment variables everywhere.
"""

import re

MANUAL = "docs/poolswitch.1"
ENVIRONMENT = "docs/poolswitch-environment.7"
COMPLETION = "cli/poolswitch.bash"
DAEMON_MANUAL = "docs/poolswitchd.8"
DAEMON_PAGE = "docs/daemon.md"

# Of argp: every command has them.
OPTIONS_OF_ALL = ["help", "usage", "version"]
SYSEXITS = {
    "EX_USAGE": 64, "EX_DATAERR": 65, "EX_NOINPUT": 66, "EX_NOUSER": 67,
    "EX_NOHOST": 68, "EX_UNAVAILABLE": 69, "EX_SOFTWARE": 70, "EX_OSERR": 71,
    "EX_OSFILE": 72, "EX_CANTCREAT": 73, "EX_IOERR": 74, "EX_TEMPFAIL": 75,
    "EX_PROTOCOL": 76, "EX_NOPERM": 77, "EX_CONFIG": 78,
}


def without_comments(text):
    return re.sub(r"/\*.*?\*/", "", text, flags=re.S)


def cli_text(tree):
    names = [name for name in tree.names
             if name.startswith("cli/") and name.endswith(".c")]
    return without_comments("\n".join(tree.text(name) for name in names))


def commands_of(code):
    return sorted(set(re.findall(r'\.name = "([\w-]+)"', code)))


def options_of(code):
    """Long options: {"json", 'j', ...} of struct argp_option."""
    found = re.findall(r'\{\s*"([a-z][\w-]*)",\s*(?:\'\w\'|KEY_\w+),', code)
    return sorted({*found, *OPTIONS_OF_ALL})


def there(tree, name):
    return tree.text(name) if name in tree.names else ""


# ---- the manual ----

def check_manual(tree):
    code = cli_text(tree)
    page = there(tree, MANUAL).replace("\\-", "-")
    for command in commands_of(code):
        if f".Ss {command}\n" not in page:
            yield f"{MANUAL}: no .Ss {command}"
    for option in options_of(code):
        if not re.search(rf"^\.It .*Fl -{option}\b", page, re.M):
            yield f"{MANUAL}: no .It Fl -{option}"
    for name in sorted(set(re.findall(r"\bEX_[A-Z]+\b", code))):
        if name in SYSEXITS and f"\n.It {SYSEXITS[name]}\n" not in page:
            yield f"{MANUAL}: no .It {SYSEXITS[name]}, {name}"
    for metric in sorted(set(re.findall(r'"(poolswitch_\w+)"', code))):
        if not re.search(rf"\b{metric}\b", page):
            yield f"{MANUAL}: no {metric}"


# ---- the completion ----

def check_completion(tree):
    code = cli_text(tree)
    text = there(tree, COMPLETION)
    for command in commands_of(code):
        if not re.search(rf'commands="[^"]*\b{command}\b', text):
            yield f"{COMPLETION}: does not know the command {command}"
    for option in options_of(code):
        if not re.search(rf'options\+?="[^"]*--{option}\b', text):
            yield f"{COMPLETION}: does not know the option --{option}"
    for words in re.findall(r'options\+?="([^"]*)"', text):
        for option in re.findall(r"--([\w-]+)", words):
            if option not in options_of(code):
                yield f"{COMPLETION}: there is no option --{option}"
    for words in re.findall(r'commands="([^"]*)"', text):
        for command in words.split():
            if command not in commands_of(code):
                yield f"{COMPLETION}: there is no command {command}"


# ---- the daemon ----

def daemon_text(tree, *names):
    names = names or [name for name in tree.names
                      if name.startswith("poold/") and name.endswith(".c")]
    return without_comments(
        "\n".join(there(tree, name) for name in names))


def daemon_options(code):
    """Long options but those that --help leaves out."""
    return sorted({*re.findall(
        r'\{\s*"([a-z][\w-]*)",\s*KEY_\w+,\s*[^,]+,\s*0,', code),
        *OPTIONS_OF_ALL})


def check_daemon(tree):
    """Options, exit statuses and the names in its JSON."""
    manual = there(tree, DAEMON_MANUAL).replace("\\-", "-")
    page = there(tree, DAEMON_PAGE)
    options = daemon_options(daemon_text(tree, "poold/options.c"))
    for option in options:
        if not re.search(rf"^\.It .*Fl -{option}\b", manual, re.M):
            yield f"{DAEMON_MANUAL}: no .It Fl -{option}"
        if f"`--{option}" not in page:
            yield f"{DAEMON_PAGE}: no `--{option}`"
    for option in re.findall(r"\bFl -([\w-]+)", manual):
        if option not in options:
            yield f"{DAEMON_MANUAL}: there is no option --{option}"
    for name in sorted(set(re.findall(r"\bEX_[A-Z]+\b", daemon_text(tree)))):
        if name in SYSEXITS and f"\n.It {SYSEXITS[name]}\n" not in manual:
            yield f"{DAEMON_MANUAL}: no .It {SYSEXITS[name]}, {name}"
        if name in SYSEXITS and f"\n| {SYSEXITS[name]} |" not in page:
            yield f"{DAEMON_PAGE}: no | {SYSEXITS[name]} |, {name}"
    json = re.sub(r"_Static_assert\([^;]*;", "",
                  daemon_text(tree, "poold/report.c", "poold/limits.c"))
    json = re.sub(r'"\s*"', "", json)  # the parts of one literal
    for key in sorted(set(re.findall(r'"([a-z][a-z_]+)"', json))):
        if not re.search(rf'[`".]{key}[`".]', page):
            yield f"{DAEMON_PAGE}: no `{key}` in JSON"


# ---- the environment ----

def read_variables(name, text):
    """The variables that a file reads."""
    if name.endswith((".c", ".h")):
        yield from re.findall(r'"(POOLSWITCH_[A-Z0-9_]+)"', text)
        yield from re.findall(
            r'\b(?:getenv|setting)\(\s*"([A-Z][A-Z0-9_]*)"', text)
    elif name.endswith(".py"):
        yield from re.findall(
            r'environ(?:\.get\(|\[)\s*"([A-Z][A-Z0-9_]*)"', text)
    elif name.endswith(".sh") or name in ("dev", ".ci/run"):
        yield from re.findall(r"\$\{([A-Z][A-Z0-9_]*):?[-?]", text)


def is_named(variable, texts):
    """Whether any code has the name, quoted or behind a dollar sign."""
    pattern = re.compile(rf'["\'$]\{{?{variable}\b')
    return any(pattern.search(text) for text in texts)


def check_environment(tree):
    documented = set(re.findall(r"^\.It Ev (\w+)$",
                                there(tree, ENVIRONMENT), re.M))
    texts = {name: without_comments(tree.text(name))
             for name in tree.names
             if is_code(name) and not name.startswith("tools/test_")}
    read = {}
    for name, text in texts.items():
        for variable in read_variables(name, text):
            read.setdefault(variable, name)
    for variable in sorted(set(read) - documented):
        yield (f"{ENVIRONMENT}: no .It Ev {variable}, which "
               f"{read[variable]} reads")
    for variable in sorted(documented - set(read)):
        if not is_named(variable, texts.values()):
            yield f"{ENVIRONMENT}: nothing reads {variable}"


# ---- the preload ----

SYMBOLS = "preload/driver_symbols.txt"
COMPATIBILITY = "docs/compatibility.md"


def check_gaps(tree):
    """What the preload should replace and does not is told to users: by its
    own name, or all variants (_v2, _ptsz) by that of the function."""
    page = there(tree, COMPATIBILITY)
    for line in there(tree, SYMBOLS).splitlines():
        words = line.split()
        for name in words[1:] if words[:1] == ["gap"] else []:
            plain = re.sub(r"(_v\d+)?(_ptsz)?$", "", name)
            if not re.search(rf"`({name}|{plain})\b", page):
                yield f"{COMPATIBILITY}: no `{plain}`, a gap"


def is_code(name):
    return name.endswith((".c", ".h", ".py", ".sh")) or \
        name in ("dev", ".ci/run")


CHECKS = {
    "manual": check_manual,
    "completion": check_completion,
    "daemon": check_daemon,
    "environment": check_environment,
    "gaps": check_gaps,
}
