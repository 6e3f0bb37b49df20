"""Negative views: images whose tiles are moved, of which a model shall not be sure (Qin et al. 2022, arXiv 2110.07858).

A tile is a whole number of the model's patches, so that what is inside a patch stays there, turned at most.
Shapes: B images of C colours, H x W pixels; T tiles of S x S pixels; K classes; D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn.functional import log_softmax, normalize, softmax

from nsbench.errors import ModelError, TrainingError, UnknownName, UsageError
from nsbench.models import Model
from nsbench.models.attention import patch_size
from nsbench.training.recipe import Recipe
from nsbench.training.views import BatchView


@dataclass(frozen=True)
class Seen:
    """What a model makes of images."""

    features: torch.Tensor  # (B, D): what its classifier reads
    logits: torch.Tensor  # (B, K)


NegativeLoss = Callable[[Seen, Seen, torch.Tensor], torch.Tensor]  # images, their negative views, targets -> batch mean


def seen(model: Model, images_BVCHW: torch.Tensor) -> Iterator[Seen]:
    """Each of the V views through the model, one after the other: the first exactly as the control's images go."""
    for images_BCHW in images_BVCHW.unbind(dim=1):
        features = model.encode(model.embed(images_BCHW))
        yield Seen(features, model.head(features))


# Views


def negative_view(model: Model, transform: str, *, tile: int = 0, rate: float = 0.25) -> BatchView:
    """A function of images (B, 3, H, W) in whose result tiles are in a wrong place.

    "rotate" turns each tile by 0, 90, 180 or 270 degrees, "shuffle" permutes the tiles, and "infill" replaces the
    `rate` of all tiles that are nearest to the centre by tiles of the outermost ring, none of which is taken again
    before all were. `tile` is the side in pixels. 0 is one patch for "infill", where every patch counts, and else the
    least number of patches above one that the input can be cut into: 32 pixels of 224 or 384, with patches of 16.
    """
    known = ("rotate", "shuffle", "infill")
    if transform not in known:
        raise UnknownName("transform", transform, known)
    side = _side(model, tile, one_patch=transform == "infill")
    if transform == "infill":
        _places(model.input_size // side, rate)  # refuses a rate that does not fit
        return partial(infilled, side=side, rate=rate)
    return partial(rotated if transform == "rotate" else shuffled, side=side)


def _side(model: Model, tile: int, *, one_patch: bool) -> int:
    """The side of a tile in pixels, as `tile` says or by the rule of `negative_view`."""
    if model.patch_embed is None:
        raise ModelError(
            f"model '{model.name}' has no patches to move; this method needs a vision transformer "
            "such as vit_tiny_patch16_224"
        )
    size, patch = model.input_size, math.lcm(*patch_size(model.vit))
    possible = [side for side in range(patch, size // 2 + 1, patch) if size % side == 0]
    if tile in possible:
        return tile
    if tile or not possible:
        raise UsageError(
            f"tile {tile}: '{model.name}' has {size} pixels in patches of {patch}; possible tiles: "
            + (", ".join(map(str, possible)) or "none")
        )
    return possible[0] if one_patch or len(possible) == 1 else possible[1]


def cut(images_BCHW: torch.Tensor, side: int) -> torch.Tensor:
    """Tiles (B, T, C, S, S), row by row."""
    parts = images_BCHW.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B, C, rows, S, columns, S)
    tiles_BTCSS: torch.Tensor = parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    return tiles_BTCSS


def joined(tiles_BTCSS: torch.Tensor, columns: int) -> torch.Tensor:
    """The reverse of `cut`: images (B, C, H, W)."""
    parts = tiles_BTCSS.unflatten(1, (-1, columns))  # (B, rows, columns, C, S, S)
    images_BCHW: torch.Tensor = parts.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
    return images_BCHW


def rotated(images_BCHW: torch.Tensor, side: int) -> torch.Tensor:
    tiles = cut(images_BCHW, side)
    turns_BT111 = torch.randint(4, tiles.shape[:2]).to(tiles.device)[..., None, None, None]  # drawn here: on any device
    turned = tiles
    for quarters in (1, 2, 3):
        turned = torch.where(turns_BT111 == quarters, tiles.rot90(quarters, (3, 4)), turned)
    return joined(turned, images_BCHW.shape[3] // side)


def shuffled(images_BCHW: torch.Tensor, side: int) -> torch.Tensor:
    tiles = cut(images_BCHW, side)
    return joined(_taken(tiles, _permutations(*tiles.shape[:2])), images_BCHW.shape[3] // side)


def infilled(images_BCHW: torch.Tensor, side: int, rate: float) -> torch.Tensor:
    tiles, columns = cut(images_BCHW, side), images_BCHW.shape[3] // side
    centre, ring = _places(columns, rate)
    rounds = [_permutations(len(tiles), len(ring)) for _ in range(-(-len(centre) // len(ring)))]
    sources = torch.arange(columns**2).repeat(len(tiles), 1)
    if rounds:
        sources[:, centre] = ring[torch.cat(rounds, dim=1)[:, : len(centre)]]
    return joined(_taken(tiles, sources), columns)


def _permutations(images: int, places: int) -> torch.Tensor:
    """One for each image (B, T)."""
    return torch.rand(images, places).argsort(dim=1)


def _taken(tiles_BTCSS: torch.Tensor, sources_BT: torch.Tensor) -> torch.Tensor:
    """Each place's tile of its image."""
    image_B1 = torch.arange(len(tiles_BTCSS), device=tiles_BTCSS.device)[:, None]
    return tiles_BTCSS[image_B1, sources_BT.to(tiles_BTCSS.device)]


def _places(columns: int, rate: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The round(rate * T) tiles nearest to the centre, of equals the first, and the ring of columns x columns tiles."""
    row, column = torch.meshgrid(torch.arange(columns), torch.arange(columns), indexing="ij")
    across, down = (2 * place.flatten() - columns + 1 for place in (row, column))  # doubled, from the centre
    on_ring = torch.maximum(across.abs(), down.abs()) == columns - 1
    replaced, inside = round(rate * columns**2), max(columns - 2, 0) ** 2
    if not 0 < replaced <= inside:
        raise UsageError(
            f"rate {rate:g}: replaces {replaced} of {columns} x {columns} tiles; possible are 1 to {inside}, "
            "which are not at the border. Give another rate or a smaller tile"
        )
    nearest = (across**2 + down**2 + on_ring * 4 * columns**2).argsort(stable=True)
    return nearest[:replaced], on_ring.nonzero().flatten()


# Losses


def negative_loss(loss: str, recipe: Recipe, *, temperature: float = 0.1) -> NegativeLoss:
    """A function of what the model makes of images, of their negative views, and of the targets.

    "uniform": cross-entropy of the negative views against the uniform distribution, log K at the least. "l2": minus the
    distance of both predictions, -sqrt(2) at the least. "contrastive": the supervised contrastive loss (Khosla et al.
    2020, temperature 0.1) of the images, whose negatives hold all negative views as well.
    """
    losses: dict[str, NegativeLoss] = {
        "uniform": uniform,
        "l2": l2,
        "contrastive": partial(contrastive, temperature=temperature),
    }
    if loss not in losses:
        raise UnknownName("loss", loss, losses)
    if loss != "contrastive":
        return losses[loss]
    if temperature <= 0:
        raise UsageError(f"temperature {temperature:g}: must be above 0")
    if recipe.mixup or recipe.cutmix:
        raise UsageError("loss 'contrastive' needs images of one class; use --set mixup=0 --set cutmix=0, or 'uniform'")

    def whole(clean: Seen, negative: Seen, targets_B: torch.Tensor) -> torch.Tensor:
        if len(targets_B) < recipe.batch_size:
            raise TrainingError(
                f"loss 'contrastive' compares all {recipe.batch_size} images of a batch, and {len(targets_B)} go through "
                "the model at a time; give a smaller batch_size and no micro_batch, or loss 'uniform'"
            )
        return losses[loss](clean, negative, targets_B)

    return whole


def uniform(clean: Seen, negative: Seen, targets: torch.Tensor) -> torch.Tensor:
    return -log_softmax(negative.logits, dim=1).mean()


def l2(clean: Seen, negative: Seen, targets: torch.Tensor) -> torch.Tensor:
    """Of probabilities, and not squared; both views are moved. At no distance the gradient is 0."""
    difference_BK = softmax(clean.logits, dim=1) - softmax(negative.logits, dim=1)
    distance: torch.Tensor = torch.linalg.vector_norm(difference_BK, dim=1).mean()
    return -distance


def contrastive(clean: Seen, negative: Seen, labels_B: torch.Tensor, temperature: float) -> torch.Tensor:
    """Batch mean over the images whose class has another image in the batch; 0 where none has."""
    kind = torch.promote_types(clean.features.dtype, torch.float32)
    anchors_BD, negatives_BD = (normalize(view.features.flatten(1).to(kind)) for view in (clean, negative))
    with torch.autocast(anchors_BD.device.type, enabled=False):  # a small temperature wants all digits
        similarity_BN = anchors_BD @ torch.cat([anchors_BD, negatives_BD]).T / temperature  # N = 2B
    itself_BN = torch.eye(*similarity_BN.shape, dtype=torch.bool, device=similarity_BN.device)
    same_BB = labels_B[:, None] == labels_B
    positive_BN = torch.cat([same_BB, torch.zeros_like(same_BB)], dim=1) & ~itself_BN
    shares_BN = log_softmax(similarity_BN.masked_fill(itself_BN, -torch.inf), dim=1)
    positives_B = positive_BN.sum(dim=1)
    each_B = -shares_BN.masked_fill(~positive_BN, 0).sum(dim=1) / positives_B.clamp(min=1)
    mean: torch.Tensor = each_B.sum() / (positives_B > 0).sum().clamp(min=1)
    return mean + 0 * negative.logits.sum()  # decide nothing; with them the backward pass is counted as cost
