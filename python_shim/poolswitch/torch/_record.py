# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Which module needs which weights first: found by watching one run.

A module's forward() may read weights of modules that it never calls (an
attention layer reads its output projection's), so what counts are the
operations, not the modules: each one's arguments are looked at, and what it
reads is noted for the module that is running then.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import weakref

import torch
from torch.nn.modules.module import (
    register_module_forward_hook, register_module_forward_pre_hook)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclasses.dataclass
class Record:
    """What one run did. Names are those of the module's state."""

    #: In the order in which they were first read.
    order: list[str] = dataclasses.field(default_factory=list)
    #: What was written.
    written: set[str] = dataclasses.field(default_factory=set)
    #: By the name of the module that was running: what it read.
    read_in: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    #: By the name of each module that was called: those that ran around it
    #: whenever it was.
    called: dict[str, frozenset[str]] = dataclasses.field(default_factory=dict)


_latest: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def latest(module) -> Record | None:
    """Of the last run of this module that was recorded."""
    return _latest.get(module)


def named_state(module):
    """(name, tensor) of parameters and buffers, tied ones under each name."""
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


class _Places:
    """Finds the weight that a tensor is, or is a view of."""

    def __init__(self, module):
        self._of_storage = {}
        for name, tensor in named_state(module):
            start = tensor.storage_offset() * tensor.element_size()
            span = max(tensor.numel() * tensor.element_size(), 1)
            places = self._of_storage.setdefault(self._key(tensor), {})
            # Tied weights: the first name stands for all.
            places.setdefault(start, (start + span, name))
        self._starts = {key: sorted(places)
                        for key, places in self._of_storage.items()}

    @staticmethod
    def _key(tensor):
        return tensor.untyped_storage()._cdata

    def find(self, tensor) -> str | None:
        try:
            key = self._key(tensor)
        except (NotImplementedError, RuntimeError):
            return None  # a tensor without storage
        starts = self._starts.get(key)
        if starts is None:
            return None
        at = tensor.storage_offset() * tensor.element_size()
        index = bisect.bisect_right(starts, at) - 1
        if index < 0:
            return None
        end, name = self._of_storage[key][starts[index]]
        return name if at < end else None


class _Watch(TorchDispatchMode):
    """Notes what each operation reads and writes."""

    def __init__(self, places, record, stack):
        super().__init__()
        self._places = places
        self._record = record
        self._stack = stack
        self._seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, torch.Tensor):
                self._note_read(leaf)
        for number, argument in enumerate(func._schema.arguments):
            info = argument.alias_info
            if info is not None and info.is_write:
                value = (args[number] if number < len(args)
                         else kwargs.get(argument.name))
                self._note_written(value)
        return func(*args, **kwargs)

    def _note_read(self, tensor):
        name = self._places.find(tensor)
        if name is None:
            return
        if name not in self._seen:
            self._seen.add(name)
            self._record.order.append(name)
        running = self._stack[-1] if self._stack else ""
        self._record.read_in.setdefault(running, set()).add(name)

    def _note_written(self, value):
        for leaf in tree_leaves(value):
            if isinstance(leaf, torch.Tensor):
                name = self._places.find(leaf)
                if name is not None:
                    self._record.written.add(name)


@contextlib.contextmanager
def watching(module):
    """A with statement around one run of the module; gives its Record."""
    names = {each: name for name, each in module.named_modules()}
    record = Record()
    stack = []

    def enter(each, *unused):
        name = names.get(each)
        if name is None:
            return
        around = frozenset(stack)
        record.called[name] = record.called.get(name, around) & around
        stack.append(name)

    def leave(each, *unused):
        if each in names and stack:
            stack.pop()

    hooks = [register_module_forward_pre_hook(enter),
             register_module_forward_hook(leave, always_call=True)]
    try:
        with _Watch(_Places(module), record, stack):
            yield record
    finally:
        for hook in hooks:
            hook.remove()
    _latest[module] = record


def record_order(module, *args, **kwargs) -> list[str]:
    """Runs the module once and gives the names of its weights in the order of
    their first use, for save_model() and bind(). Gradients are off."""
    with torch.no_grad(), watching(module) as record:
        module(*args, **kwargs)
    return list(record.order)
