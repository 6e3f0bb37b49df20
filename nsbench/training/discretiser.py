"""Discretisers: images as the codes of a vector-quantised autoencoder keep them, and adversarial images made of codes.

Q(x) = decode(nearest codes(encode(2x - 1))), clamped to [-1, 1] and brought back to [0, 1]; frozen, without gradients.
A discretiser is the one that a source brings along, a file of this package's own form (`nsbench.models.vq`), or a
`VQModel` of diffusers in a folder or on the Hugging Face hub. B images of H x W pixels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nsbench import processes
from nsbench.data import Split
from nsbench.data.loading import batches
from nsbench.errors import UsageError
from nsbench.models import Model, frozen
from nsbench.models.preprocessing import unit
from nsbench.models.vq import VQAutoencoder, load_vq
from nsbench.progress import Progress
from nsbench.training.cost import besides

LOOKED_AT = 256  # training images on which the quality is measured
SHIPPED = "shapes10"  # the name of the one that comes with this package
WAYS = "the folder or owner/name of a diffusers VQModel, or 'shapes10'"
Criterion = Callable[[Tensor, Tensor], Tensor]


class Quantiser(Protocol):
    """Pixels (B, 3, H, W) in [-1, 1] to places in a codebook (B, h, w), and back."""

    def indices(self, pixels_B3HW: Tensor, /) -> Tensor: ...

    def pictures(self, indices_Bhw: Tensor, /) -> Tensor: ...


class Discretiser:
    """One Q, ready for the images of a model. It counts what its passes cost, and which codes an attack changes."""

    def __init__(self, network: Quantiser, name: str = "", passes: float = 0.0) -> None:
        self.network, self.name = network, name
        self.passes = passes  # what Q costs for one image, in forward passes of the model
        self.changed: Tensor | int = 0  # codes of the present round that the attack changed; on the device
        self.places = 0  # codes of the present round
        self.quality: dict[str, int | float | str] = {}

    @staticmethod
    def needs(train: Split, discretiser: str = "") -> str:
        """A digest of the weights. Raises UsageError where there is none for these images, or it cannot be read."""
        return _opened(_place(discretiser, train))[1]

    @classmethod
    def open(cls, discretiser: str, model: Model, train: Split, progress: Progress | None = None) -> Discretiser:
        """The named one, or with "" the one that comes with the images, measured on some of them, which is said.

        Raises UsageError where there is none, or where it gives pictures of another size back.
        """
        place = _place(discretiser, train)
        network, digest = _opened(place)
        network = network.to(model.device)
        side = model.input_size
        probe_13HW = torch.zeros(1, 3, side, side, device=model.device)
        with torch.no_grad():
            given = network.pictures(network.indices(probe_13HW)).shape
        if given != probe_13HW.shape:
            raise UsageError(
                f"discretiser {place}: gives {tuple(given[2:])} pixels for the {side} x {side} of model '{model.name}'; "
                "give one whose factor divides the side, or another --img-size"
            )
        opened = cls(network, f"{Path(place).stem} {digest}", _passes(network, model))
        opened.quality = opened._measured(model, train)
        if progress:
            progress.line(str(opened), style="dim")
        return opened

    @staticmethod
    def passes_of(discretiser: str, model: Model, train: Split) -> float:
        """What Q costs for one image, in forward passes of the model. Raises UsageError as `needs`."""
        return _passes(_opened(_place(discretiser, train))[0].to(model.device), model)

    def __call__(self, images_BCHW: Tensor) -> Tensor:
        """Q of images in [0, 1]."""
        return self.pictures(self.codes(images_BCHW))

    @torch.no_grad()
    def codes(self, images_BCHW: Tensor) -> Tensor:
        """(B, h, w): places in the codebook. Counted with all of a pass of Q."""
        besides(self.passes * len(images_BCHW))
        return self.network.indices(2 * images_BCHW - 1)

    @torch.no_grad()
    def pictures(self, codes_Bhw: Tensor) -> Tensor:
        return (self.network.pictures(codes_Bhw).clamp(-1, 1) + 1) / 2

    def adversarial(
        self,
        model: Model,
        images_BCHW: Tensor,
        targets: Tensor,
        criterion: Criterion,
        *,
        radius: float = 0.1,
        random_start: float = 0.8,
        straight_through: bool = True,
    ) -> Tensor:
        """Discrete adversarial images: what the codes keep of images that were moved against the model.

        One l2 step of length `radius` up the criterion's gradient at Q(x), with probability `random_start` (of a call)
        from a random point at that distance; the change is brought back into the l2 ball around Q(x) and into [0, 1].
        With `straight_through` it is added to x itself, Q(x + change), otherwise to the quantised image,
        Q(Q(x) + change). The model is in training mode, with gradients for the images only, in full precision.
        """
        if radius < 0 or not 0 <= random_start <= 1:
            raise UsageError(f"radius {radius:g}, random_start {random_start:g}: give at least 0, and 0 to 1")
        images_BCHW = images_BCHW.clamp(0, 1)
        with torch.autocast(images_BCHW.device.type, enabled=False):
            codes_Bhw = self.codes(images_BCHW)
            kept_BCHW = self.pictures(codes_Bhw)
            change_BCHW = one_step(model, kept_BCHW, targets, criterion, radius, random_start) - kept_BCHW
            moved_Bhw = self.codes(((images_BCHW if straight_through else kept_BCHW) + change_BCHW).clamp(0, 1))
            self.changed += (moved_Bhw != codes_Bhw).sum()
            self.places += codes_Bhw.numel()
            return self.pictures(moved_Bhw)

    def facts(self) -> Mapping[str, int | float | str]:
        """What the history tells of a round: the quality on training images, and how many codes the attack changed."""
        moved, places = processes.totals([int(self.changed), self.places])
        changed = round(100 * moved / places, 3) if places else 0.0
        self.changed, self.places = 0, 0
        return {"discretiser": self.name, **self.quality, "codes_changed": changed}

    @torch.no_grad()
    def _measured(self, model: Model, train: Split) -> dict[str, int | float | str]:
        """On images that the checkpoint's own preparation gives, before anything is trained."""
        chosen = train.limited(LOOKED_AT)
        squares, right, kept, codes, n = 0.0, 0, 0, set[int](), len(chosen)
        with frozen(model):
            for batch in batches(chosen, model.preprocessing.transform(), batch_size=32):
                images_BCHW, labels_B = unit(batch.images, model.device), batch.labels.to(model.device)
                codes_Bhw = self.codes(images_BCHW)
                rebuilt_BCHW = self.pictures(codes_Bhw)
                squares += (rebuilt_BCHW - images_BCHW).square().mean(dim=(1, 2, 3)).sum().item()
                right += int((model(images_BCHW).argmax(dim=1) == labels_B).sum())
                kept += int((model(rebuilt_BCHW).argmax(dim=1) == labels_B).sum())
                codes |= set(codes_Bhw.unique().tolist())
        return {
            "psnr": round(-10 * math.log10(max(squares / n, 1e-12)), 2),
            "codes_used": len(codes),
            "top1": round(100 * right / n, 2),
            "top1_discretised": round(100 * kept / n, 2),
        }

    def __str__(self) -> str:
        """In words, for the log."""
        q = self.quality
        return (
            f"discretiser {self.name}: {q['psnr']} dB, {q['codes_used']} codes used; top-1 {q['top1']} % on "
            f"training images, {q['top1_discretised']} % on what it keeps of them"
        )


def one_step(
    model: Model, centre_BCHW: Tensor, targets: Tensor, criterion: Criterion, radius: float, random_start: float
) -> Tensor:
    """Images in [0, 1] within `radius` (l2) of the centre, after one step up the criterion; see `adversarial`."""
    start_BCHW = centre_BCHW
    if random_start and torch.rand(()).item() < random_start:
        direction_BCHW = _to_length(torch.randn_like(centre_BCHW), 1.0)
        start_BCHW = (centre_BCHW + radius * direction_BCHW).clamp(0, 1)
    with frozen(model), torch.enable_grad():
        model.train()  # drop path is on, as in a training step; `frozen` has what was before
        start_BCHW = start_BCHW.detach().requires_grad_()
        loss = criterion(model(start_BCHW), targets) * len(centre_BCHW)
        (slope_BCHW,) = torch.autograd.grad(loss, start_BCHW)
    change_BCHW = start_BCHW.detach() + _to_length(slope_BCHW, radius) - centre_BCHW
    lengths_B111 = change_BCHW.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    change_BCHW = change_BCHW * (radius / lengths_B111.clamp_min(1e-12)).clamp(max=1)
    moved_BCHW: Tensor = (centre_BCHW + change_BCHW).clamp(0, 1)
    return moved_BCHW


def _to_length(images_BCHW: Tensor, length: float) -> Tensor:
    scaled_BCHW: Tensor = length * images_BCHW / (images_BCHW.flatten(1).norm(dim=1).view(-1, 1, 1, 1) + 1e-10)
    return scaled_BCHW


def _passes(network: Quantiser, model: Model) -> float:
    """Both on one image of the model's size and on its device."""
    probe_13HW = torch.zeros(1, 3, model.input_size, model.input_size, device=model.device)
    return _work(lambda one: network.pictures(network.indices(one)), probe_13HW) / _work(model, probe_13HW)


def _work(network: Callable[[Tensor], object], probe_13HW: Tensor) -> int:
    """Floating-point operations of one pass, but for those of attention's kernels, of which torch counts a GPU's alone."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(probe_13HW)
    by_operation = counter.get_flop_counts()["Global"]
    return max(sum(int(flops) for name, flops in by_operation.items() if "attention" not in str(name)), 1)


def _place(discretiser: str, train: Split) -> str:
    if discretiser == SHIPPED:
        from nsbench.shapes10 import DISCRETISER

        return str(DISCRETISER)
    if not discretiser and not train.discretiser:
        raise UsageError(f"these images come with no discretiser; give the setting discretiser={WAYS}")
    return discretiser or str(train.discretiser)


@lru_cache(maxsize=4)
def _opened(place: str) -> tuple[VQAutoencoder | OfDiffusers, str]:
    """The frozen network and 16 hex digits over its weights, and over diffusers' configuration of it."""
    network = load_vq(Path(place)) if place.endswith(".safetensors") else _of_diffusers(place)
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name}\x1f{tuple(value.shape)}\x1f".encode())
        digest.update(np.ascontiguousarray(value.float().numpy()).data)
    if isinstance(network, OfDiffusers):  # whose groups and activations no weight tells
        digest.update(network.configuration.encode())
    return network.eval().requires_grad_(False), digest.hexdigest()[:16]


class OfDiffusers(nn.Module):
    """A `VQModel` of diffusers as a Quantiser."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    @property
    def configuration(self) -> str:
        """What config.json decides, as JSON; names that begin with _ are about the file."""
        return json.dumps({key: one for key, one in self.model.config.items() if key[0] != "_"}, sort_keys=True)

    def indices(self, pixels_B3HW: Tensor) -> Tensor:
        latents_BDhw = self.model.encode(pixels_B3HW).latents
        indices: Tensor = self.model.quantize(latents_BDhw)[2][2]
        return indices.view(len(latents_BDhw), *latents_BDhw.shape[2:])

    def pictures(self, indices_Bhw: Tensor) -> Tensor:
        codes_BDhw = self.model.quantize.embedding(indices_Bhw).movedim(-1, 1)
        rebuilt: Tensor = self.model.decode(codes_BDhw, force_not_quantize=True).sample
        return rebuilt


def _of_diffusers(place: str) -> OfDiffusers:
    """From a folder, or from the hub: owner/name, or owner/name/subfolder. Raises UsageError."""
    try:
        from diffusers import VQModel
    except ImportError as error:
        raise UsageError(
            f"discretiser {place}: needs the package diffusers; install it: pip install 'nsbench[diffusers]'"
        ) from error
    folder = Path(place).expanduser()
    where, _, below = (str(folder), "", "") if folder.exists() else _split(place)
    try:
        model: Any = VQModel
        return OfDiffusers(model.from_pretrained(where, subfolder=below or None).float())
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise UsageError(f"discretiser {place}: cannot be opened ({why}); give {WAYS}") from error


def _split(place: str) -> tuple[str, str, str]:
    owner, _, rest = place.partition("/")
    name, slash, below = rest.partition("/")
    return f"{owner}/{name}", slash, below
