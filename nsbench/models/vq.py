"""A vector-quantised autoencoder: pictures to a grid of codes out of a codebook, and back (van den Oord et al. 2017).

Layers, names and arithmetic are those of diffusers' `VQModel` without attention, so that weights fit both; diffusers is
not needed. Shapes: B images, H x W pixels, f the factor between pixels and codes, h x w = H/f x W/f, D a code's width.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from nsbench.errors import ModelError

EPS = 1e-6  # of the group norms


class Residual(nn.Module):
    """x + convolution(swish(norm(convolution(swish(norm(x))))))."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs, EPS), nn.GroupNorm(groups, outputs, EPS)
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        added: Tensor = self.conv_shortcut(x) + inner
        return added


class Halve(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.conv(F.pad(x, (0, 1, 0, 1)))
        return halved


class Double(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        doubled: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return doubled


class Level(nn.Module):
    """Residual blocks of one resolution, and the step to the next one."""

    def __init__(self, inputs: int, outputs: int, groups: int, count: int, step: str = "") -> None:
        super().__init__()
        widths = [inputs, *[outputs] * count]
        self.resnets = nn.ModuleList(Residual(a, b, groups) for a, b in pairwise(widths))
        if step == "halve":
            self.downsamplers = nn.ModuleList([Halve(outputs)])
        if step == "double":
            self.upsamplers = nn.ModuleList([Double(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            for module in part.children():
                x = module(x)
        return x


class Encoder(nn.Module):
    def __init__(self, widths: Sequence[int], layers: int, groups: int, latent: int) -> None:
        super().__init__()
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(before, width, groups, layers, "halve" if number < last else "")
            for number, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False))
        )
        self.mid_block = Level(widths[-1], widths[-1], groups, 2)
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPS)
        self.conv_out = nn.Conv2d(widths[-1], latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        latents: Tensor = self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))
        return latents


class Decoder(nn.Module):
    def __init__(self, widths: Sequence[int], layers: int, groups: int, latent: int) -> None:
        super().__init__()
        upwards, last = list(reversed(widths)), len(widths) - 1
        self.conv_in = nn.Conv2d(latent, upwards[0], 3, padding=1)
        self.mid_block = Level(upwards[0], upwards[0], groups, 2)
        self.up_blocks = nn.ModuleList(
            Level(before, width, groups, layers + 1, "double" if number < last else "")
            for number, (before, width) in enumerate(zip([upwards[0], *upwards], upwards, strict=False))
        )
        self.conv_norm_out = nn.GroupNorm(groups, widths[0], EPS)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(x))
        for block in self.up_blocks:
            x = block(x)
        pixels: Tensor = self.conv_out(F.silu(self.conv_norm_out(x)))
        return pixels


class Codebook(nn.Module):
    def __init__(self, codes: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, width)

    def indices(self, latents_BDhw: Tensor) -> Tensor:
        """(B, h, w): the nearest code of each place, by the Euclidean distance."""
        flat_ND = latents_BDhw.movedim(1, -1).flatten(0, -2)
        nearest_N = torch.cdist(flat_ND, self.embedding.weight).argmin(dim=1)
        return nearest_N.view(len(latents_BDhw), *latents_BDhw.shape[2:])

    def codes(self, indices_Bhw: Tensor) -> Tensor:
        codes_BhwD: Tensor = self.embedding(indices_Bhw)
        return codes_BhwD.movedim(-1, 1)


class VQAutoencoder(nn.Module):
    """`widths`: channels of each resolution from the finest to the coarsest, so f = 2 ** (len(widths) - 1)."""

    def __init__(
        self, widths: Sequence[int], layers: int = 1, latent: int = 4, codes: int = 256, groups: int = 8
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = (part(widths, layers, groups, latent) for part in (Encoder, Decoder))
        self.quant_conv, self.post_quant_conv = nn.Conv2d(latent, latent, 1), nn.Conv2d(latent, latent, 1)
        self.quantize = Codebook(codes, latent)

    def latents(self, pixels_B3HW: Tensor) -> Tensor:
        """(B, D, h, w), before quantisation, of pixels in [-1, 1]."""
        latents_BDhw: Tensor = self.quant_conv(self.encoder(pixels_B3HW))
        return latents_BDhw

    def decoded(self, codes_BDhw: Tensor) -> Tensor:
        pixels_B3HW: Tensor = self.decoder(self.post_quant_conv(codes_BDhw))
        return pixels_B3HW

    def indices(self, pixels_B3HW: Tensor) -> Tensor:
        """(B, h, w): places in the codebook."""
        return self.quantize.indices(self.latents(pixels_B3HW))

    def pictures(self, indices_Bhw: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) that these codes stand for; a few may lie outside [-1, 1]."""
        return self.decoded(self.quantize.codes(indices_Bhw))

    def forward(self, pixels_B3HW: Tensor) -> Tensor:
        """What the codes keep of pixels in [-1, 1]."""
        return self.pictures(self.indices(pixels_B3HW))


def load_vq(path: Path) -> VQAutoencoder:
    """The network in a safetensors file that states its `sizes` in its header. Raises ModelError."""
    try:
        with safe_open(path, framework="pt") as file:
            network = VQAutoencoder(**json.loads((file.metadata() or {})["sizes"]))
            network.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise ModelError(f"{path}: is no discretiser of this package ({why}); see nsbench/models/vq.py") from error
    return network.eval()
