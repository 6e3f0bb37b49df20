"""Two small convolutional networks and what they are for.

`reference` decides which hard pictures make up split a (ImageNet-A: kept where a ResNet-50 errs; Hendrycks et al.
2021, arXiv 1907.07174). `surrogate` is the network that damagenet is made on (DAmageNet: a transfer attack, l_inf;
Chen et al. 2020, arXiv 2001.06325). Both run in float64, so that choices and gradient signs are the same on every
machine. `python -m nsbench.shapes10.pretrain` trains them. Suffixes: B batch, C channels, H, W, K classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 25.5 / 255  # l_inf bound of damagenet
STEPS = 6
BATCH = 20  # images at once: in double precision, what more of them take does not stay in a processor's cache
_WEIGHTS = Path(__file__).parent / "weights"


class Block(nn.Module):
    """Convolution, normalisation, rectifier; the normalisation is folded into the convolution when weights are kept."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.convolution(x)))

    def fold(self) -> None:
        """Make the normalisation part of the convolution (evaluation mode only)."""
        if isinstance(self.norm, nn.BatchNorm2d):
            norm, bias = self.norm, self.convolution.bias
            assert bias is not None
            assert norm.running_mean is not None
            assert norm.running_var is not None
            scale = norm.weight / (norm.running_var + norm.eps) ** 0.5
            self.convolution.weight.data.mul_(scale[:, None, None, None])
            bias.data.sub_(norm.running_mean).mul_(scale).add_(norm.bias)
            self.norm = nn.Identity()


def build_network(name: str) -> nn.Sequential:
    """`reference` or `surrogate`, untrained: (B, 3, 48, 48) in [0, 1] to logits (B, 10)."""
    sizes = {
        "reference": [(3, 16, 3, 2), (16, 32, 3, 2), (32, 40, 3, 1), (40, 48, 3, 2)],
        "surrogate": [(3, 20, 5, 2), (20, 28, 3, 2), (28, 36, 3, 1), (36, 48, 3, 2)],
    }[name]
    width = sizes[-1][1]
    return nn.Sequential(*(Block(*size) for size in sizes), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(9 * width, 10))


def weights_path(name: str) -> Path:
    return _WEIGHTS / f"shapes10_{name}.safetensors"


def load_network(name: str) -> nn.Sequential:
    """The shipped network in evaluation mode, float64."""
    from safetensors.torch import load_file

    network = build_network(name).eval()
    fold(network)
    network.load_state_dict(load_file(weights_path(name)))
    return network.double()


def fold(network: nn.Sequential) -> None:
    for block in network:
        if isinstance(block, Block):
            block.fold()


def to_tensor(images: np.ndarray) -> Tensor:
    """(B, H, W, C) uint8 to (B, C, H, W) float64 in [0, 1]."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).double() / 255


@torch.no_grad()
def predict(network: nn.Module, images: np.ndarray, classes: tuple[int, ...]) -> np.ndarray:
    """The most likely of `classes` for images (B, H, W, C) uint8."""
    logits_BK = torch.cat([network(to_tensor(images[i : i + BATCH])) for i in range(0, len(images), BATCH)])
    predicted: np.ndarray = np.array(classes)[logits_BK[:, list(classes)].argmax(dim=1).numpy()]
    return predicted


def perturb(network: nn.Module, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images (B, H, W, C) uint8 changed by at most EPS: iterated signs of a smoothed gradient with momentum.

    MI-FGSM (Dong et al. 2018) with a translation-invariant kernel (Dong et al. 2019), which makes the change coarse
    enough to carry over to other networks; the true label's cross-entropy is driven up.
    """
    clean_BCHW, target_B = to_tensor(images), torch.from_numpy(np.array(labels))
    adversarial_BCHW, momentum_BCHW = clean_BCHW.clone(), torch.zeros_like(clean_BCHW)
    smooth = _smoothing(images.shape[1])
    for _ in range(STEPS):
        variable_BCHW = adversarial_BCHW.clone().requires_grad_()
        loss = F.cross_entropy(network(variable_BCHW), target_B, reduction="sum")
        (gradient_BCHW,) = torch.autograd.grad(loss, variable_BCHW)
        gradient_BCHW = smooth @ gradient_BCHW @ smooth
        size_B111 = gradient_BCHW.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-300)
        momentum_BCHW = momentum_BCHW + gradient_BCHW / size_B111
        adversarial_BCHW = adversarial_BCHW + EPS / STEPS * momentum_BCHW.sign()
        adversarial_BCHW = (clean_BCHW + (adversarial_BCHW - clean_BCHW).clamp(-EPS, EPS)).clamp(0, 1)
    change_BCHW = torch.trunc((adversarial_BCHW - clean_BCHW) * 255 + 1e-6 * (adversarial_BCHW - clean_BCHW).sign())
    pixels_BCHW = (clean_BCHW * 255).round() + change_BCHW
    return pixels_BCHW.permute(0, 2, 3, 1).numpy().astype(np.uint8)


def _smoothing(side: int, reach: int = 2, sigma: float = 1.0) -> Tensor:
    """(side, side): smooths a line with a Gaussian of 2 reach + 1 pixels, zeros beyond its ends. Symmetric."""
    places = torch.arange(side, dtype=torch.float64)
    distance = places[:, None] - places
    weights = torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= reach)
    return weights / torch.exp(-(torch.arange(-reach, reach + 1).double() ** 2) / (2 * sigma**2)).sum()
