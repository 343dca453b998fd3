# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""CuPy: its pool of plain memory, its stream-ordered pool, no pool at all,
and its pool of managed memory, which the pool cannot hold."""

import outcome

cupy, = outcome.need("cupy")


def work():
    random = cupy.random.RandomState(1)
    a, b = (random.standard_normal((2048, 2048), dtype=cupy.float32)
            for _ in range(2))
    c = a @ b
    kept = [c, cupy.sort(c, axis=1), cupy.fft.fft(a[:256]),
            cupy.cumsum(b, axis=0)]
    cupy.cuda.Device().synchronize()
    return kept


def with_allocator(allocator):
    cupy.cuda.set_allocator(allocator)
    return work()


def main():
    if cupy.cuda.runtime.getDeviceCount() == 0:
        raise SystemExit(outcome.SKIPPED)
    plain, managed = cupy.cuda.MemoryPool(), cupy.cuda.MemoryPool(
        cupy.cuda.malloc_managed)
    ordered = cupy.cuda.MemoryAsyncPool()
    kept = {
        "plain": with_allocator(plain.malloc),
        "ordered": with_allocator(ordered.malloc),
        "none": with_allocator(None),
        "managed": with_allocator(managed.malloc),
    }
    loose = sum(each.nbytes for name in ("ordered", "none")
                for each in kept[name])
    outcome.say({name: outcome.digest(*each) for name, each in kept.items()},
               plain.total_bytes() + loose, outside=managed.total_bytes(),
               versions={"cupy": cupy.__version__})


if __name__ == "__main__":
    main()
