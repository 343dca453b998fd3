# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""CUDA's memory handles as such, by CuPy: opened twice, closed, forged, of
one's own, and of a process that has ended."""

import multiprocessing

import outcome

cupy, = outcome.need("cupy")
runtime = cupy.cuda.runtime
BYTES = 1 << 20
WAIT_S = 120


def serve(pipe):
    """A child with a block: gives its handle, stays until told."""
    pointer = runtime.malloc(BYTES)
    runtime.memset(pointer, 0x5a, BYTES)
    runtime.deviceSynchronize()
    pipe.send(runtime.ipcGetMemHandle(pointer))
    pipe.recv()
    runtime.free(pointer)


def read(pointer):
    memory = cupy.cuda.UnownedMemory(pointer, BYTES, None)
    return outcome.digest(cupy.ndarray(
        BYTES, cupy.uint8, cupy.cuda.MemoryPointer(memory, 0)))


def is_refused(handle):
    try:
        runtime.ipcCloseMemHandle(runtime.ipcOpenMemHandle(handle))
    except runtime.CUDARuntimeError as error:
        print(f"refused: {error}")
        return True
    return False


def forge(handle):
    """One bit is another, anywhere but in what nobody reads."""
    forged = bytearray(handle)
    for at in range(0, len(forged), 8):
        forged[at] ^= 1
    return bytes(forged)


def open_twice(handle):
    first, second = (runtime.ipcOpenMemHandle(handle) for _ in range(2))
    said = [first == second, read(first)]
    runtime.ipcCloseMemHandle(first)
    said.append(read(second))
    runtime.ipcCloseMemHandle(second)
    again = runtime.ipcOpenMemHandle(handle)
    said.append(read(again))
    runtime.ipcCloseMemHandle(again)
    return said


def main():
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=serve, args=(theirs,))
    child.start()
    assert ours.poll(WAIT_S)
    handle = ours.recv()
    outputs = {"twice": open_twice(handle), "forged": is_refused(forge(handle))}
    ours.send("end")
    child.join(WAIT_S)
    outputs["of one that ended"] = is_refused(handle)
    own = runtime.malloc(BYTES)
    outputs["its own"] = is_refused(runtime.ipcGetMemHandle(own))
    outcome.say(outputs, BYTES, versions={"cupy": cupy.__version__})
    runtime.free(own)


if __name__ == "__main__":
    main()
