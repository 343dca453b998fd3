#!/usr/bin/env python3
# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0

"""Train the demo's two classifiers and write demo/data/.

    python3 -m venv /tmp/train && /tmp/train/bin/pip install numpy scikit-learn
    /tmp/train/bin/python demo/train.py

This is how the committed files were made, and all of how. The digits are cut
once, by a fixed seed, into a training part and a held-out part that training
never sees; only the held-out part is written, so the demo's accuracy is the
accuracy on unseen images. The same library versions give the same bytes;
others may differ in the last bits of a weight.

What is stored with each model (__metadata__) is what the demo checks itself
against: the number of held-out images, and how many of them are answered
right. That number must not hang on the order in which somebody adds floats:
training fails when an image's two best scores are closer than MARGIN.
"""

import json
import pathlib
import struct

import numpy as np
from sklearn.datasets import load_digits

DATA = pathlib.Path(__file__).resolve().parent / "data"
SEED = 20201104
TEST_IMAGES = 597
EPOCHS = 60
BATCH = 32
RATE = 0.05
DECAY = 1e-4
MARGIN = 1e-3
AT_LEAST = 0.95


def write_safetensors(path, tensors, metadata):
    """Tensors lie in the order given: the order in which they are used."""
    names = {"float32": "F32", "uint8": "U8"}
    header = {"__metadata__": metadata}
    at = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": names[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for array in tensors.values():
            out.write(np.ascontiguousarray(array).tobytes())


def patches(x):
    """The 3x3 neighbourhoods of each pixel, zeros outside: N,C,H,W,9."""
    n, c, h, w = x.shape
    padded = np.zeros((n, c, h + 2, w + 2), np.float32)
    padded[:, :, 1:-1, 1:-1] = x
    cuts = [padded[:, :, dy:dy + h, dx:dx + w]
            for dy in range(3) for dx in range(3)]
    return np.stack(cuts, axis=-1)


class Dense:
    """y = x w + b, then relu where wanted; w is [in, out]."""

    def __init__(self, rng, name, n_in, n_out, relu):
        self.name, self.relu = name, relu
        scale = np.sqrt(2.0 / n_in)
        self.w = (rng.standard_normal((n_in, n_out)) * scale).astype("f4")
        self.b = np.zeros(n_out, np.float32)

    def forward(self, x):
        self.shape = x.shape
        self.x = x.reshape(len(x), -1)
        self.y = self.x @ self.w + self.b
        return np.maximum(self.y, 0) if self.relu else self.y

    def backward(self, grad):
        if self.relu:
            grad = grad * (self.y > 0)
        self.dw, self.db = self.x.T @ grad, grad.sum(0)
        return (grad @ self.w.T).reshape(self.shape)


class Conv3x3:
    """3x3, same size, relu; w is [out, in, 3, 3]."""

    def __init__(self, rng, name, n_in, n_out):
        self.name = name
        scale = np.sqrt(2.0 / (9 * n_in))
        w = rng.standard_normal((n_out, n_in, 3, 3)) * scale
        self.w = w.astype("f4")
        self.b = np.zeros(n_out, np.float32)

    def forward(self, x):
        self.cuts = patches(x)
        flat = self.w.reshape(self.w.shape[0], -1, 9)
        self.y = np.einsum("ncyxk,ock->noyx", self.cuts, flat, optimize=True)
        self.y += self.b[:, None, None]
        return np.maximum(self.y, 0)

    def backward(self, grad):
        grad = grad * (self.y > 0)
        self.db = grad.sum((0, 2, 3))
        dw = np.einsum("noyx,ncyxk->ock", grad, self.cuts, optimize=True)
        self.dw = dw.reshape(self.w.shape)
        turned = self.w[:, :, ::-1, ::-1].reshape(*self.w.shape[:2], 9)
        return np.einsum("noyxk,ock->ncyx", patches(grad), turned,
                         optimize=True)


class MaxPool2:
    """The largest of each 2x2 block."""

    name = None

    def forward(self, x):
        n, c, h, w = x.shape
        self.x = x.reshape(n, c, h // 2, 2, w // 2, 2)
        self.y = self.x.max((3, 5))
        return self.y

    def backward(self, grad):
        hit = self.x == self.y[:, :, :, None, :, None]
        out = hit * (grad / hit.sum((3, 5)))[:, :, :, None, :, None]
        n, c, h, _, w, _ = self.x.shape
        return out.reshape(n, c, 2 * h, 2 * w).astype("f4")


def forward(layers, x):
    for layer in layers:
        x = layer.forward(x)
    return x


def train(rng, layers, x, labels):
    """Plain SGD on the cross entropy."""
    for epoch in range(EPOCHS):
        rate = np.float32(RATE * (0.1 if epoch >= EPOCHS * 2 // 3 else 1))
        order = rng.permutation(len(x))
        for at in range(0, len(x), BATCH):
            pick = order[at:at + BATCH]
            scores = forward(layers, x[pick])
            grad = np.exp(scores - scores.max(1, keepdims=True))
            grad /= grad.sum(1, keepdims=True)
            grad[np.arange(len(pick)), labels[pick]] -= 1
            grad = (grad / len(pick)).astype("f4")
            for layer in reversed(layers):
                grad = layer.backward(grad)
            for layer in (l for l in layers if l.name):
                layer.w -= rate * (layer.dw + np.float32(DECAY) * layer.w)
                layer.b -= rate * layer.db


def check(name, layers, x, labels):
    """How many held-out images are right; fails when that is not robust."""
    scores = forward(layers, x)
    best = np.sort(scores, axis=1)
    margin = float((best[:, -1] - best[:, -2]).min())
    right = int((scores.argmax(1) == labels).sum())
    print(f"{name}: {right} of {len(x)} right ({right / len(x):.2%}), "
          f"smallest margin {margin:.4f}")
    if right < AT_LEAST * len(x) or margin < MARGIN:
        raise SystemExit(f"{name}: not good enough; choose another seed")
    return right


def write_model(name, layers, x, labels):
    right = check(name, layers, x, labels)
    tensors = {}
    for layer in (l for l in layers if l.name):
        tensors[f"{layer.name}.weight"] = layer.w
        tensors[f"{layer.name}.bias"] = layer.b
    write_safetensors(DATA / f"{name}.safetensors", tensors, {
        "test_images": str(len(x)),
        "test_right": str(right),
        "trained_by": "demo/train.py",
    })


def main():
    digits = load_digits()
    order = np.random.default_rng(SEED).permutation(len(digits.images))
    images = digits.images[order].astype(np.uint8)
    labels = digits.target[order].astype(np.uint8)
    x = (images / np.float32(16)).astype("f4")[:, None]
    cut = len(x) - TEST_IMAGES

    rng = np.random.default_rng(SEED + 1)
    mlp = [Dense(rng, "fc1", 64, 256, True), Dense(rng, "fc2", 256, 128, True),
           Dense(rng, "fc3", 128, 10, False)]
    cnn = [Conv3x3(rng, "conv1", 1, 16), MaxPool2(),
           Conv3x3(rng, "conv2", 16, 32), MaxPool2(),
           Dense(rng, "fc1", 128, 64, True), Dense(rng, "fc2", 64, 10, False)]
    DATA.mkdir(exist_ok=True)
    for name, layers in (("mlp", mlp), ("cnn", cnn)):
        train(rng, layers, x[:cut], labels[:cut])
        write_model(name, layers, x[cut:], labels[cut:])
    write_safetensors(DATA / "digits-test.safetensors",
                      {"images": images[cut:], "labels": labels[cut:]},
                      {"source": "UCI Optical Recognition of Handwritten "
                                 "Digits, E. Alpaydin and C. Kaynak",
                       "licence": "CC BY 4.0"})


if __name__ == "__main__":
    main()
