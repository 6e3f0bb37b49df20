"""Linear layers of tokens as convolutions of 1 x 1 pixel, where a processor computes those faster.

On AMD's processors with AVX-512 torch multiplies float32 matrices by MKL, which takes its AVX2 code there, and computes
convolutions by oneDNN, which takes AVX-512. A linear layer is a convolution of 1 x 1 pixel over the tokens: the same
products, summed in another order where the layer is wide, so that results are equal up to rounding.

Shapes: B images, any number of token dimensions between, D and E widths.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import conv2d


class TokenLinear(nn.Linear):
    """A linear layer that convolves where it is given tokens (B, ..., D) -> (B, ..., E) of several images."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim not in (3, 4) or len(x) < 2:  # torch gives a single picture's convolution to MKL
            return super().forward(x)
        x_BHWD = x if x.ndim == 4 else x.unsqueeze(1)
        y_BHWE = conv2d(x_BHWD.permute(0, 3, 1, 2), self.weight[:, :, None, None], self.bias).permute(0, 2, 3, 1)
        return y_BHWE if x.ndim == 4 else y_BHWE.squeeze(1)


@contextmanager
def faster_linear(model: nn.Module) -> Iterator[None]:
    """Inside, the model's plain linear layers of float32 on a processor convolve, if it is one where that is faster."""
    layers = [layer for layer in model.modules() if type(layer) is nn.Linear and _gains(layer.weight)]
    for layer in layers:
        layer.__class__ = TokenLinear
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.Linear


def _gains(weight: torch.Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and convolutions_are_faster()


@functools.cache
def convolutions_are_faster() -> bool:
    """Whether this is a processor of AMD with AVX-512, and torch has oneDNN."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.is_available():
        return False
    described = Path("/proc/cpuinfo")
    return described.is_file() and "AuthenticAMD" in described.read_text(errors="replace")
