# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""A module's weights as a safetensors file, in the order of their first use,
which is the order in which they will travel."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import tempfile

import torch

from poolswitch.torch import _places, _record
from poolswitch.torch._dtypes import NAME_OF


def save_model(module: torch.nn.Module, path, *args, order: list[str] | None = None,
               metadata: dict[str, str] | None = None, **kwargs) -> list[str]:
    """Writes a module's parameters and persistent buffers; their order.

    args, kwargs: of a run of the module, which tells the order; without them it
    is that of the last run that was recorded (record_order(), a bound module's
    first), or that of the definition; what a module has and did not read goes
    before what it read. order: names, said by the caller; what they leave out
    comes last. Tied weights are written once. The file is there whole or not at
    all.
    """
    if order is None and (args or kwargs):
        _record.record_order(module, *args, **kwargs)
    tensors = _untied(module)
    record = _record.latest(module)
    if order is None and record is not None:
        order = _places.file_order(tensors, record)
    tensors = _ordered(tensors, order or [])
    _write(os.fsdecode(path), tensors, metadata)
    return list(tensors)


def _untied(module) -> dict[str, torch.Tensor]:
    """What is to be written, each memory under its first name."""
    tensors, seen = {}, set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} is no tensor: a safetensors file cannot have it")
        key = same_memory(tensor)
        if key not in seen:
            seen.add(key)
            tensors[name] = tensor
    return tensors


def same_memory(tensor):
    """Equal for tensors that are one: a tied weight may be two objects."""
    if tensor.numel() == 0:
        return id(tensor)
    return (tensor.untyped_storage()._cdata, tensor.storage_offset(),
            tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _ordered(tensors, order):
    known = {name: tensors[name] for name in order if name in tensors}
    return known | tensors


def _header(tensors, metadata) -> bytes:
    header = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in NAME_OF:
            raise TypeError(f"{name} is {tensor.dtype}, which safetensors has not")
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAME_OF[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _write_tensor(file, tensor):
    tensor = tensor.detach().contiguous().cpu()
    size = tensor.numel() * tensor.element_size()
    if size:
        file.write((ctypes.c_char * size).from_address(tensor.data_ptr()))


def _write(path, tensors, metadata):
    header = _header(tensors, metadata)
    folder = os.path.dirname(os.path.abspath(path))
    file = tempfile.NamedTemporaryFile(dir=folder, delete=False)
    try:
        with file:
            file.write(struct.pack("<Q", len(header)) + header)
            for tensor in tensors.values():
                _write_tensor(file, tensor)
            mask = os.umask(0)
            os.umask(mask)
            os.fchmod(file.fileno(), 0o666 & ~mask)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise
