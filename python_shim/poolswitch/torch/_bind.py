# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""A module whose weights are those that all processes share.

Invariant: a module that is bound reads a shared weight only behind a wait for
it, on the stream that reads it, and only while the model is in use.
"""

from __future__ import annotations

import contextlib

import torch

import poolswitch
from poolswitch import _native, simulated
from poolswitch._pool import milliseconds
from poolswitch.torch import _places, _record
from poolswitch.torch._dtypes import OF_NAME
from poolswitch.torch._save import same_memory

#: Of the model's bytes: what may arrive before a module begins.
SLACK = 256
#: The same for modules that are compiled: so many regions, about.
SLACK_COMPILED = 16

_NORMS = torch.nn.modules.batchnorm._NormBase


# ---- the pool and its GPU ----

_pool = None


def default_pool() -> poolswitch.Pool:
    """The process's pool, attached when it is first wanted."""
    global _pool
    if _pool is None or _pool.closed:
        _pool = poolswitch.Pool.attach()
        device_of(_pool)
    return _pool


def device_of(pool) -> torch.device:
    """PyTorch's name of the pool's GPU; the simulated one is the CPU."""
    if simulated.is_chosen():
        return torch.device("cpu")
    uuid = pool.gpu.removeprefix("GPU-")
    for index in range(torch.cuda.device_count()):
        found = getattr(torch.cuda.get_device_properties(index), "uuid", None)
        if found is not None and str(found).removeprefix("GPU-") == uuid:
            pool.device = index
    return torch.device("cuda", pool.device)


# ---- what the module has and what the model has ----

def _modules(module):
    return dict(module.named_modules())


def _slots(module):
    """(name, module, its table, key) of each parameter and persistent buffer."""
    for prefix, each in module.named_modules():
        for table, skipped in ((each._parameters, ()),
                               (each._buffers, each._non_persistent_buffers_set)):
            for key, tensor in table.items():
                if tensor is not None and key not in skipped:
                    yield f"{prefix}.{key}" if prefix else key, each, table, key


def _tied(module):
    """Lists of slots that are one tensor, in the order of their first names."""
    groups = {}
    for slot in _slots(module):
        tensor = slot[2][slot[3]]
        key = id(tensor) if tensor.is_meta else same_memory(tensor)
        groups.setdefault(key, []).append(slot)
    return list(groups.values())


def _mismatch(model, complaints):
    shown = "; ".join(complaints[:5])
    more = f"; and {len(complaints) - 5} more" if len(complaints) > 5 else ""
    return poolswitch.ModelMismatch(
        poolswitch.Status.MODEL_MISMATCH,
        f"the module is not the model {model.name}: {shown}{more}")


def _complaint(name, tensor, weight):
    if weight.dtype not in OF_NAME:
        return f"{name} is {weight.dtype}, which this PyTorch has not"
    dtype = OF_NAME[weight.dtype]
    if tuple(tensor.shape) != weight.shape or tensor.dtype != dtype:
        return (f"{name} is {tensor.dtype} {list(tensor.shape)}, in the model "
                f"{dtype} {list(weight.shape)}")
    return None


def _match(module, model, strict):
    """[(slots that are one, the weight)], checked by name, shape and dtype."""
    weights = dict(model.tensors.items())
    pairs, complaints, used = [], [], set()
    for slots in _tied(module):
        names = [name for name, *_ in slots]
        found = [name for name in names if name in weights]
        if not found:
            complaints.append(f"{names[0]} is not in the model")
            continue
        used.update(found)
        _, _, table, key = slots[0]
        for name in found:
            complaint = _complaint(name, table[key], weights[name])
            if complaint:
                complaints.append(complaint)
        if len(found) > 1:
            complaints.append(f"{' and '.join(found)} are one in the module and "
                              "several in the model")
        pairs.append((slots, weights[found[0]]))
    if strict:
        complaints += [f"{name} is not in the module"
                       for name in weights if name not in used]
    if complaints:
        raise _mismatch(model, complaints)
    return pairs


# ---- views ----

class _Views:
    """Tensors of PyTorch over the model's memory."""

    def __init__(self, model):
        # Nothing is read yet: no wait, and no use.
        self._flat = torch.utils.dlpack.from_dlpack(
            model._flat().__dlpack__(stream=-1))
        self._of_dtype = {}

    def of(self, weight):
        dtype = OF_NAME[weight.dtype]
        if dtype not in self._of_dtype:
            self._of_dtype[dtype] = self._flat.view(dtype)
        base = self._of_dtype[dtype]
        strides, stride = [], 1
        for length in reversed(weight.shape):
            strides.append(stride)
            stride *= max(length, 1)
        return base.as_strided(weight.shape, strides[::-1],
                               weight.offset // base.element_size())


def _is_buffer(slots):
    return slots[0][2] is slots[0][1]._buffers


def _writes_itself(slots):
    """Whether a buffer's module may write it, as far as its class tells."""
    owner = slots[0][1]
    if isinstance(owner, _NORMS):
        return owner.training
    return True


def _put(slots, tensor):
    for _, _, table, key in slots:
        table[key] = tensor


# ---- bound ----

class Bound:
    """What bind() gives: the module, and how it is run on shared weights.

    Calling the module uses the model, waits on the current stream where weights
    are needed, and releases it behind the run. For a captured graph, whose
    launches do not pass here: `with bound.run(): graph.replay()`.
    """

    def __init__(self, module, model, device, slack, priority, timeout):
        self.module = module
        self.model = model
        self.device = device
        self.slack = slack
        #: The names of the weights as the first run read them; None before.
        self.order: list[str] | None = None
        #: By module: the last tensor that it waits for.
        self.waits: dict[str, int] = {}
        self._hooks: dict[str, _native.Hook] = {}
        self._before: dict[str, tuple[bool, object]] = {}
        self._priority = priority
        self._timeout = timeout
        self._numbers: dict[str, int] = {}
        self._ends: list[int] = []
        self._undecided: list = []

    # ---- running ----

    def stream(self):
        """The current stream of the module's device, as a handle."""
        if self.device.type != "cuda":
            return None
        return torch._C._cuda_getCurrentRawStream(self.device.index)

    def run(self, *, priority: int | None = None, timeout: float | None = None):
        """A with statement around launches of captured graphs of the module."""
        return self.model.use(
            stream=self.stream(),
            priority=self._priority if priority is None else priority,
            timeout=self._timeout if timeout is None else timeout)

    def check(self) -> None:
        """LoadFailed where results cannot be believed; ask when they are there."""
        self.model.check()

    def unbind(self) -> None:
        """Takes the waits away. The weights stay shared, and must not be used."""
        modules = _modules(self.module)
        for name, (was_there, forward) in self._before.items():
            if was_there:
                modules[name].forward = forward
            else:
                modules[name].__dict__.pop("forward", None)
        self._before, self._hooks = {}, {}

    def compile(self, **options) -> None:
        """torch.compile() for each region between waits, which stay outside.

        A graph that the compiler makes cannot wait in its middle: so regions are
        larger than what is waited for otherwise, about a sixteenth of the weights
        each. options: of torch.compile(). The module must have run once.
        """
        record = _record.latest(self.module)
        if self.order is None or record is None:
            raise RuntimeError("the module has not run: compile() needs to know "
                               "which weights are used where")
        slack = max(self.slack, self.model.bytes // SLACK_COMPILED)
        self._install(_places.waits(record, self._numbers, self._ends, slack))
        for name, hook in list(self._hooks.items()):
            inside = any(each != name and each.startswith(name + ".")
                         for each in self._hooks)
            if name and not inside:
                self._set_hook(name, torch.compile(hook.forward, **options),
                               hook.tensor)

    # ---- waits ----

    def _hook(self, forward, number, is_run):
        is_cuda = self.device.type == "cuda"
        return _native.Hook(
            self.model, forward,
            torch._C._cuda_getCurrentRawStream if is_cuda else None,
            (self.device.index,) if is_cuda else (), number, self._priority,
            milliseconds(self._timeout), is_run)

    def _set_hook(self, name, forward, number):
        hook = self._hook(forward, number, name == "")
        self._hooks[name] = hook
        # Past Module.__setattr__(), which costs and has nothing to do with it.
        object.__setattr__(self._modules[name], "forward", hook)

    def _install(self, waits):
        """@waits: by module, the tensor; the whole always has a hook."""
        self.unbind()
        self._modules = _modules(self.module)
        self.waits = dict(waits)
        for name, number in {"": -1, **waits}.items():
            each = self._modules[name]
            self._before[name] = ("forward" in each.__dict__, each.forward)
            self._set_hook(name, each.forward, number)

    def _install_first(self):
        """The first run waits for everything, and is watched."""
        self._install({"": len(self._ends) - 1})
        forward = self._hooks[""].forward

        def watched(*args, **kwargs):
            if self._may_not_watch():
                return forward(*args, **kwargs)
            with _record.watching(self.module) as record:
                result = forward(*args, **kwargs)
            self._learn(record)
            return result

        self._set_hook("", watched, len(self._ends) - 1)

    def _may_not_watch(self):
        return torch.compiler.is_compiling() or (
            self.device.type == "cuda" and torch.cuda.is_current_stream_capturing())

    def _learn(self, record):
        # watching() is called inside the whole's forward, which it did not see.
        record.called.setdefault("", frozenset())
        for name, around in record.called.items():
            record.called[name] = (around | {""}) - {name}
        self.order = list(record.order)
        self._install(_places.waits(record, self._numbers, self._ends, self.slack))
        self._settle_buffers(record.written)

    def _settle_buffers(self, written):
        """Buffers that the run did not write become views, unless their module
        says that it writes them."""
        for slots, view, surely in self._undecided:
            if not surely and not any(name in written for name, *_ in slots):
                _put(slots, view)
        self._undecided = []


def _bind_state(bound, pairs):
    """Weights become views; buffers that may be written get copies."""
    views = _Views(bound.model)
    copies = []
    for slots, weight in pairs:
        view = views.of(weight)
        for name, *_ in slots:
            bound._numbers[name] = weight.number
        if not _is_buffer(slots):
            _put(slots, torch.nn.Parameter(view, requires_grad=False))
        elif _writes_itself(slots):
            copies.append((slots, view))
        else:
            _put(slots, view)
    if copies:
        _copy_buffers(bound, copies)


def _copy_buffers(bound, copies):
    model = bound.model
    with bound.run() as run:
        run.wait(len(model.tensors) - 1)
        if simulated.is_chosen():
            simulated.synchronize()
        for slots, view in copies:
            _put(slots, view.clone())
            surely = isinstance(slots[0][1], _NORMS)
            bound._undecided.append((slots, view, surely))
        if bound.device.type == "cuda":
            torch.cuda.current_stream(bound.device).synchronize()
    model.check()


def _move_the_rest(module, device):
    """What is no part of a model file: buffers that are not saved."""
    for name, each in module.named_modules():
        for key in each._non_persistent_buffers_set:
            buffer = each._buffers.get(key)
            if buffer is None:
                continue
            if buffer.is_meta:
                raise poolswitch.ModelMismatch(
                    poolswitch.Status.MODEL_MISMATCH,
                    f"{name}.{key} is on the meta device and not in the model: "
                    "make the module with it elsewhere")
            each._buffers[key] = buffer.to(device)


def bind(module: torch.nn.Module, model, *, pool: poolswitch.Pool | None = None,
         hash: bytes | None = None, strict: bool = True, slack: int | None = None,
         priority: int = poolswitch.PRIORITY_DEFAULT,
         timeout: float | None = None) -> Bound:
    """Makes a module's parameters and buffers views of shared weights.

    model: a name, or a Model. Checked by name, shape and dtype against it
    (ModelMismatch); tied weights stay tied. strict: also what the model has and
    the module has not is told. The module may be on the meta device.

    Afterwards `module(x)` is a run: the model is used, each part of the weights
    waited for on the current stream where a module begins that needs it, and
    released behind it. Who needs what the first run shows, which waits for
    everything before it begins. Later runs may take other ways through the
    module: what the first did not read is waited for early, or, of a part of which
    it neither called nor read anything, where a module of that part is called.

    Buffers that a module writes get copies of their own: those of normalization
    layers that train, and all that the first run wrote; bind in the mode in which
    the module will run. Parameters cannot be trained. slack: bytes that may be
    waited for together, where that saves a wait; None: a 256th of the model.
    priority, timeout: of each use (Model.use()).
    """
    if isinstance(model, str):
        model = (pool or default_pool()).model(model, hash=hash)
    pairs = _match(module, model, strict)
    bound = Bound(module, model, device_of(model.pool),
                  model.bytes // SLACK if slack is None else slack, priority, timeout)
    bound._ends = [weight.offset + weight.bytes for weight in model.tensors.values()]
    _move_the_rest(module, bound.device)
    _bind_state(bound, pairs)
    if bound._ends:
        bound._install_first()
    return bound


@contextlib.contextmanager
def bound_to(module, model, **options):
    """A with statement: bound inside it, its waits gone behind it."""
    bound = bind(module, model, **options)
    try:
        yield bound
    finally:
        bound.unbind()
