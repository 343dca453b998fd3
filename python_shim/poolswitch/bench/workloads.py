# SPDX-FileCopyrightText: 2026 The poolswitch authors
# SPDX-License-Identifier: Apache-2.0
"""Networks with random weights and the inputs that they are run on."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Callable

BATCH = 8
TOKENS = 251  # of a text, as PipeSwitch's BERT has
SYNTHETIC_LAYERS = 32
SYNTHETIC_WIDTH = 4608  # 12 width^2 numbers of two bytes a layer: 16.3 GB in all


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    make: Callable[[Any], Any]           # of torch; the module, on the CPU
    inputs: Callable[[Any], tuple]       # of torch; on the CPU
    hand_groups: int = 32                # of PipeSwitch's own grouping
    has_processes: bool = False          # what many processes take is measured
    is_large: bool = False               # too much to have several times


def _resnet152(torch):
    import torchvision
    return torchvision.models.resnet152(weights=None).eval()


def _inception(torch):
    import torchvision
    return torchvision.models.inception_v3(weights=None, init_weights=False,
                                           aux_logits=False).eval()


def _bert(torch):
    """Without the masks, which are made another way while a graph is captured."""
    import transformers

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = transformers.BertModel(transformers.BertConfig(),
                                               add_pooling_layer=False)

        def forward(self, ids):
            return self.bert.encoder(self.bert.embeddings(ids),
                                     attention_mask=None)[0]
    return Encoder().eval()


def _images(side):
    return lambda torch: (torch.randn(BATCH, 3, side, side),)


def _texts(torch):
    return (torch.randint(0, 30000, (BATCH, TOKENS)),)


def _block(torch, width):
    """The matrices of a transformer's layer, without its attention."""
    class Block(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = torch.nn.Linear(width, 4 * width, bias=False)
            self.up = torch.nn.Linear(width, 4 * width, bias=False)
            self.down = torch.nn.Linear(4 * width, width, bias=False)

        def forward(self, x):
            a, b, c, d = self.mix(x).chunk(4, dim=-1)
            y = x + torch.tanh(a) * b + torch.sigmoid(c) * d
            return y + self.down(torch.relu(self.up(y)))
    return Block()


def _synthetic(layers, width):
    def make(torch):
        torch.set_default_dtype(torch.bfloat16)
        try:
            with torch.no_grad():
                return torch.nn.Sequential(
                    *[_block(torch, width) for _ in range(layers)]).eval()
        finally:
            torch.set_default_dtype(torch.float32)
    return make


def _vectors(width):
    return lambda torch: (torch.randn(BATCH, 16, width, dtype=torch.bfloat16),)


RESNET = Workload("ResNet-152", _resnet152, _images(224), hand_groups=52,
                  has_processes=True)
INCEPTION = Workload("Inception-v3", _inception, _images(299), hand_groups=17)
BERT = Workload("BERT-base", _bert, _texts, hand_groups=39)
SYNTHETIC = Workload("16 GB, synthetic", _synthetic(SYNTHETIC_LAYERS, SYNTHETIC_WIDTH),
                     _vectors(SYNTHETIC_WIDTH), is_large=True)
#: To see that the benchmark works, where there is no GPU.
TINY = Workload("tiny", _synthetic(4, 64), _vectors(64), hand_groups=4,
                has_processes=True)

ALL = {"resnet152": RESNET, "inception": INCEPTION, "bert": BERT,
       "synthetic": SYNTHETIC, "tiny": TINY}


@contextlib.contextmanager
def seeded(torch, seed: int):
    """The same weights in every process that makes them with this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def build(torch, workload: Workload, seed: int):
    """On the CPU; what is large where it is made fast."""
    is_there = workload.is_large and torch.cuda.is_available()
    device = torch.device("cuda" if is_there else "cpu")
    with seeded(torch, seed), torch.no_grad(), device:
        return workload.make(torch)


def empty(torch, workload: Workload):
    """A module to be bound, whose weights are nobody's: on the meta device where
    they are large. Elsewhere not, as buffers that are not saved must have been
    made."""
    if not workload.is_large:
        return workload.make(torch)
    with torch.device("meta"):
        return workload.make(torch)


def make_inputs(torch, workload: Workload, device):
    with seeded(torch, 7):
        return tuple(each.to(device) for each in workload.inputs(torch))
