# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Where a module waits for its weights (pure: names and numbers).

Invariant: whatever an operation reads, a wait for it stands at the beginning of
a module that is running then. Without knowledge everything is waited for at the
beginning of the whole.
"""

from __future__ import annotations

from poolswitch.torch._record import Record


def _owner(name: str) -> str:
    return name.rpartition(".")[0]


def _ancestors(module: str):
    """The module itself, those around it, and the whole: ""."""
    while module:
        yield module
        module = _owner(module)
    yield ""


def file_order(names, record: Record) -> list[str]:
    """The names in the order in which their bytes are wanted.

    A module waits for all that it has: so what it did not read goes before the
    first that it did, or that those in it did, and not behind the whole model.
    Where no such was read, before what the next module read; what modules have
    that were not called goes last.
    """
    read = {name: place for place, name in enumerate(record.order)}
    own: dict[str, int] = {}
    first: dict[str, int] = {}
    for name, place in read.items():
        own.setdefault(_owner(name), place)
        for module in _ancestors(_owner(name)):
            first.setdefault(module, place)
    following = len(read)
    for module in reversed(record.called):
        following = first.setdefault(module, following)

    def place(name):
        owner = _owner(name)
        if name in read:
            return read[name], 1
        return own.get(owner, first.get(owner, len(read) + 1)), 0

    return sorted(names, key=place)


def needs(record: Record, numbers: dict[str, int]) -> dict[str, int]:
    """By module: the last tensor that it waits for.

    numbers: of the tensors by each name of the module's state. A weight is waited
    for where it was read, and where it belongs; when its module was not called,
    where the nearest around it was that was. Where nothing was called or read of a
    whole part of the module, that waits when it is: at each module of it.
    """
    needed: dict[str, int] = {}

    def need(module, number):
        needed[module] = max(needed.get(module, -1), number)

    for module, names in record.read_in.items():
        for name in names:
            if name in numbers:
                need(module, numbers[name])
    touched = _touched(record)
    for name, number in numbers.items():
        skipped, called = _skipped(_owner(name), record)
        for module in skipped:
            # It may be called another time.
            need(module, number)
        if not skipped or skipped[-1] in touched:
            need(called, number)
    return needed


def _touched(record: Record) -> set[str]:
    """The modules that were called or read from, and all around them."""
    owners = {_owner(name) for name in record.order}
    return {around for module in owners.union(record.called)
            for around in _ancestors(module)}


def _skipped(module: str, record: Record) -> tuple[list[str], str]:
    """The module and those around it up to one that was called; and that one."""
    skipped = []
    for each in _ancestors(module):
        if each in record.called or each == "":
            return skipped, each
        skipped.append(each)
    raise AssertionError("the whole is around all")


def merged(needed: dict[str, int], record: Record, ends: list[int],
           slack: int) -> dict[str, int]:
    """Fewer waits: where all that a module and those in it need lies within
    `slack` bytes, it waits for them all.

    ends: by tensor, the bytes of the model up to its end.
    """
    result = dict(needed)
    for module in sorted(record.called, key=lambda each: (each.count("."), each)):
        if not module:
            continue
        inside = {each: number for each, number in result.items()
                  if each == module or each.startswith(module + ".")}
        if not inside:
            continue
        least, most = min(inside.values()), max(inside.values())
        begin = ends[least - 1] if least > 0 else 0
        if ends[most] - begin <= slack:
            result[module] = most
    return result


def without_covered(needed: dict[str, int], record: Record) -> dict[str, int]:
    """Leaves out what a module around has waited for whenever it ran."""
    return {module: number for module, number in needed.items()
            if not any(needed.get(around, -1) >= number
                       for around in record.called.get(module, ())
                       if around != module)}


def waits(record: Record, numbers: dict[str, int], ends: list[int],
          slack: int) -> dict[str, int]:
    """By module: the tensor to wait for at its beginning."""
    return without_covered(merged(needs(record, numbers), record, ends, slack),
                           record)
