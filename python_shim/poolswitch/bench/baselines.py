# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""How a model comes onto the GPU without poolswitch: what people do today, and
PipeSwitch's scheme written again (groups copied by another process, the host
waits for each and says so over a pipe, a hook in the worker waits for the word).
"""

from __future__ import annotations

import torch
import torch.multiprocessing


def _weights(module):
    """(name, tensor) of what has to be on the GPU, tied ones once."""
    seen = set()
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor


class Plain:
    """A module with weights of its own in host memory, and a run of it."""

    def __init__(self, module, inputs, *, pinned: bool):
        self._module, self._inputs = module, inputs
        self._host = {name: tensor.detach().clone().pin_memory() if pinned
                      else tensor.detach().clone()
                      for name, tensor in _weights(module)}

    def bytes(self) -> int:
        return sum(each.nbytes for each in self._host.values())

    def run(self) -> None:
        with torch.inference_mode():
            self.result = self._module(*self._inputs)


class Resident(Plain):
    """Its weights are on the GPU already."""

    def __init__(self, module, inputs):
        super().__init__(module.cuda(), inputs, pinned=False)

    def __call__(self):
        self.run()


class TensorByTensor(Plain):
    """.to("cuda"), each tensor by itself; then the run."""

    def __init__(self, module, inputs, *, pinned: bool):
        super().__init__(module, inputs, pinned=pinned)
        self._pinned = pinned
        self._slots = dict(_weights(module))

    def __call__(self):
        for name, host in self._host.items():
            self._slots[name].data = host.to("cuda", non_blocking=self._pinned)
        self.run()

    def forget(self) -> None:
        for name, host in self._host.items():
            self._slots[name].data = host


class _Flat:
    """Views of one stretch of memory, in the order of the tensors."""

    def __init__(self, tensors, memory):
        self.views, self.ends, at = {}, [], 0
        for name, tensor in tensors.items():
            end = at + tensor.nbytes
            self.views[name] = memory[at:end].view(tensor.dtype).view(tensor.shape)
            at = -(-end // 256) * 256
            self.ends.append(at)

    @staticmethod
    def bytes_of(tensors) -> int:
        return sum(-(-each.nbytes // 256) * 256 for each in tensors.values())


class FlatCopy(Plain):
    """All weights as one copy from pageable memory; then the run."""

    def __init__(self, module, inputs):
        super().__init__(module, inputs, pinned=False)
        size = _Flat.bytes_of(self._host)
        self._from = torch.empty(size, dtype=torch.uint8)
        self._to = torch.empty(size, dtype=torch.uint8, device="cuda")
        flat = _Flat(self._host, self._from)
        for name, host in self._host.items():
            flat.views[name].copy_(host)
        there = _Flat(self._host, self._to)
        for name, slot in _weights(module):
            slot.data = there.views[name]

    def __call__(self):
        self._to.copy_(self._from)
        self.run()


def _copy_groups(link, memory, host, ends):
    """The other process: copies on request, and says when each has arrived."""
    stream = torch.cuda.Stream()
    host = host.pin_memory()
    link.send(0)
    while link.recv():
        with torch.cuda.stream(stream):
            begin = 0
            for number, end in enumerate(ends):
                memory[begin:end].copy_(host[begin:end], non_blocking=True)
                event = torch.cuda.Event()
                event.record()
                event.synchronize()
                link.send(number + 1)
                begin = end


class HostSignalled(Plain):
    """PipeSwitch's: @groups alike in bytes, a word over a pipe for each. @order:
    that of first use, of all names that are in a file."""

    def __init__(self, module, inputs, groups: int, order):
        super().__init__(module, inputs, pinned=False)
        place = {name: number for number, name in enumerate(order)}
        self._host = dict(sorted(self._host.items(),
                                 key=lambda item: place.get(item[0], -1)))
        size = _Flat.bytes_of(self._host)
        host = torch.empty(size, dtype=torch.uint8)
        flat = _Flat(self._host, host)
        for name, tensor in self._host.items():
            flat.views[name].copy_(tensor)
        self._memory = torch.empty(size, dtype=torch.uint8, device="cuda")
        there = _Flat(self._host, self._memory)
        for name, slot in _weights(module):
            slot.data = there.views[name]
        ends = self._ends(flat.ends, groups)
        self._groups = len(ends)
        self._hook(module, dict(zip(self._host, flat.ends)), ends)
        context = torch.multiprocessing.get_context("spawn")
        self._link, far = context.Pipe()
        self._process = context.Process(
            target=_copy_groups, args=(far, self._memory, host, ends), daemon=True)
        self._process.start()
        self._link.recv()
        self._landed = 0

    @staticmethod
    def _ends(tensor_ends, groups):
        """Of groups: each ends where a tensor does."""
        ends, step = [], tensor_ends[-1] / groups
        for end in tensor_ends:
            if end >= step * (len(ends) + 1):
                ends.append(end)
        return ends if ends and ends[-1] == tensor_ends[-1] else [
            *ends, tensor_ends[-1]]

    def _hook(self, module, end_of, ends):
        for name, each in module.named_modules():
            own = [end_of[f"{name}.{key}" if name else key]
                   for key, _ in [*each.named_parameters(recurse=False),
                                  *each.named_buffers(recurse=False)]
                   if (f"{name}.{key}" if name else key) in end_of]
            if own:
                group = next(n for n, end in enumerate(ends) if end >= max(own)) + 1
                each.register_forward_pre_hook(
                    lambda *unused, group=group: self._await(group))

    def _await(self, group):
        while self._landed < group:
            self._landed = self._link.recv()

    def __call__(self):
        self._landed = 0
        self._link.send(True)
        self.run()
        # What no module waited for: no word of it is left to the next run.
        self._await(self._groups)

    def end(self) -> None:
        self._link.send(False)
        self._process.join()
