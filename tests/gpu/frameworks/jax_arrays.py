# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""JAX: matrix products, a convolution and a gradient. run.py chooses the
allocator by XLA_PYTHON_CLIENT_ALLOCATOR."""

import os

import outcome

jax, = outcome.need("jax")


def loss(weights, x):
    for weight in weights:
        x = jax.numpy.tanh(x @ weight)
    return (x ** 2).mean()


def make(count):
    keys = jax.random.split(jax.random.key(1), count + 1)
    weights = [jax.random.normal(key, (2048, 2048)) / 45 for key in keys[1:]]
    return weights, jax.random.normal(keys[0], (1024, 2048))


def allocated(arrays):
    """Bytes that the allocator has of the driver, as it says itself; where it
    says nothing: those of the arrays."""
    stats = jax.devices()[0].memory_stats() or {}
    own = stats.get("pool_bytes") or stats.get("bytes_in_use") or 0
    return max(own, sum(each.nbytes for each in arrays))


def main():
    if jax.default_backend() != "gpu":
        print("skipped: JAX sees no GPU")
        raise SystemExit(outcome.SKIPPED)
    weights, x = make(8)
    value, gradients = jax.jit(jax.value_and_grad(loss))(weights, x)
    image = jax.random.normal(jax.random.key(2), (8, 64, 64, 64))
    kernel = jax.random.normal(jax.random.key(3), (64, 64, 3, 3))
    convolved = jax.lax.conv(image, kernel, (1, 1), "SAME")
    jax.block_until_ready([value, gradients, convolved])
    arrays = [*weights, x, *gradients, image, kernel, convolved]
    outcome.say({"loss": outcome.digest(value),
                "gradients": outcome.digest(*gradients),
                "convolved": outcome.digest(convolved)},
               allocated(arrays),
               versions={"jax": jax.__version__},
               allocator=os.environ.get("XLA_PYTHON_CLIENT_ALLOCATOR", ""))


if __name__ == "__main__":
    main()
