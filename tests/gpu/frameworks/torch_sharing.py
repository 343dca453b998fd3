# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""CUDA tensors and events between processes by torch.multiprocessing: there
and back, the same one twice, and one whose producer has ended."""

import outcome

WAIT_S = 120


def consume(inbox, outbox, handle):
    """A child: changes what it is given, and gives one of its own."""
    import torch
    event = torch.cuda.Event.from_ipc_handle(torch.device("cuda", 0), handle)
    first, second = inbox.get(timeout=WAIT_S), inbox.get(timeout=WAIT_S)
    event.wait(torch.cuda.current_stream())
    outbox.put(outcome.digest(first))
    first += 1
    torch.cuda.synchronize()
    outbox.put(outcome.digest(second))  # the same memory: changed as well
    own = torch.full((1 << 20,), 7.0, device="cuda")
    outbox.put(own)
    inbox.get(timeout=WAIT_S)          # until the parent has copied it
    del first, second, own


def produce_and_die(outbox):
    """A child that ends at once, with its tensor on its way."""
    import os
    import torch
    tensor = torch.full((1 << 20,), 9.0, device="cuda")
    torch.cuda.synchronize()
    outbox.put(tensor)
    outbox.close()
    outbox.join_thread()
    os.kill(os.getpid(), 9)


def share(torch, context):
    inbox, outbox = context.Queue(), context.Queue()
    x = torch.arange(1 << 20, dtype=torch.float32, device="cuda")
    event = torch.cuda.Event(enable_timing=False, interprocess=True)
    event.record()
    child = context.Process(target=consume,
                            args=(inbox, outbox, event.ipc_handle()))
    child.start()
    inbox.put(x)
    inbox.put(x)
    said = [outbox.get(timeout=WAIT_S) for _ in range(2)]
    theirs = outbox.get(timeout=WAIT_S)
    said += [outcome.digest(theirs), outcome.digest(x)]
    del theirs
    inbox.put("done")
    child.join(WAIT_S)
    return [*said, child.exitcode]


def open_of_the_dead(torch, context):
    """What becomes of a tensor whose producer was killed: an error or the
    right contents, and this process goes on either way."""
    outbox = context.Queue()
    child = context.Process(target=produce_and_die, args=(outbox,))
    child.start()
    child.join(WAIT_S)
    try:
        tensor = outbox.get(timeout=WAIT_S)
        is_sound = bool((tensor == 9).all())
    except (RuntimeError, OSError, EOFError) as error:
        print(f"of a dead producer: {str(error).splitlines()[0]}")
        is_sound = True
    return [is_sound, bool((torch.ones(1000, device="cuda") == 1).all())]


def main():
    torch = outcome.torch_exact()
    context = torch.multiprocessing.get_context("spawn")
    shared = share(torch, context)
    dead = open_of_the_dead(torch, context)
    outcome.torch_say({"shared": shared, "dead": dead})


if __name__ == "__main__":
    main()
