# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""PyTorch on shared weights and on the pool's memory.

    import poolswitch.torch

    poolswitch.torch.save_model(module, "m.safetensors", example)   # once
    poolswitch.add("m", "m.safetensors")                            # once
    bound = poolswitch.torch.bind(module, "m")                      # each process
    y = module(x)            # begins while the last weights are on their way
    torch.cuda.synchronize()
    bound.check()
"""

from poolswitch.torch._allocator import mem_pool, pluggable_allocator
from poolswitch.torch._bind import Bound, bind, bound_to, default_pool
from poolswitch.torch._pipeswitch import install_pipeswitch_api
from poolswitch.torch._record import record_order
from poolswitch.torch._save import save_model

__all__ = ["Bound", "bind", "bound_to", "default_pool", "install_pipeswitch_api",
           "mem_pool", "pluggable_allocator", "record_order", "save_model"]
