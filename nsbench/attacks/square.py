"""Square Attack (Andriushchenko et al. 2020, arXiv:1912.00049), l-inf, l2 and l1: random squares, and no gradient.

In l1 it is that of Croce and Hein 2021 (arXiv:2103.01208, section 5).

Own code: pyautoattack draws one square for all images of a batch that are still robust. Here each image has squares of
its own, those that pyautoattack draws for a batch of this one image, and a count of its queries, so that it may enter
and leave the batch at any time. A test holds what comes back to 1e-5 of pyautoattack's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from pydantic import PositiveInt
from torch import Tensor

from nsbench.attacks.apgd_l1 import into_l1
from nsbench.attacks.common import (
    PROJECT,
    Classifier,
    check_threat,
    l1_norm,
    l2_norm,
    logits_of,
    margin,
    misclassified,
    per_image,
    stream,
)
from nsbench.attacks.refill import refill
from nsbench.errors import UsageError
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel

SHARE = 0.8  # of the pixels, in a square of the first queries
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries after which the share is halved
ORDER, POWER = {"l2": 2, "l1": 1}, {"l2": 2, "l1": 4}  # of a norm, and of the rings of its bumps
TILES = 5  # the l2 and l1 starts have about so many tiles in a row
TINY = 1e-12


def search_passes(queries: int) -> Passes:
    """Of one image in `search`, at most: the start is looked at, too."""
    return Passes(queries + 1)


@attack(
    loss="margin of the logits",
    start="random in the budget",
    passes=lambda model, *, queries, **_: Passes(1) + search_passes(queries),
)
@torch.no_grad()
def square(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    queries: PositiveInt = 5000,
    batch_size: int | None = None,
) -> Tensor:
    """Change a random square, keep the change if the margin of the label falls, and `queries` times over again.

    Squares become smaller by a fixed schedule. An image leaves as soon as its margin is not positive; one that stays
    right comes back as it is. Raises UsageError for another norm, and for l2 and l1 on images of fewer than five pixels
    in a row.
    """
    eps = check_threat("square", threat, ["linf", "l2", "l1"])
    logits_BK = logits_of(model, images_BCHW, batch_size)
    found = images_BCHW.clone()
    right = (~misclassified(logits_BK, labels_B)).nonzero().squeeze(1)
    streams = [stream(seed, "square", ids[i]) for i in right.tolist()]
    found[right], _ = search(model, images_BCHW[right], labels_B[right], streams, threat.norm, eps, queries, batch_size)
    return PROJECT[threat.norm](found, images_BCHW, eps)  # takes back at most a rounding error


@dataclass(frozen=True)
class _Rows:
    """Images at work, one row each."""

    image: Tensor  # which of the images
    run: Tensor
    step: Tensor  # queries after the start's
    clean: Tensor
    candidate: Tensor  # what is asked next
    best: Tensor  # the candidate of the smallest margin
    margin: Tensor  # of that one
    draws: Tensor  # in [0, 1), (B, queries, draws of one query)


def search(
    model: Classifier,
    images_BCHW: Tensor,
    labels_B: Tensor,
    streams: Sequence[torch.Generator],
    norm: str,
    eps: float,
    queries: int,
    batch_size: int | None,
) -> tuple[Tensor, Tensor]:
    """Adversarial images, unchanged where none was found, and which are broken (B,)."""
    found, broken_B = images_BCHW.clone(), torch.zeros_like(labels_B, dtype=torch.bool)
    height, width = images_BCHW.shape[2:]
    if norm != "linf" and min(height, width) < TILES:
        raise UsageError(
            f"square: {norm} needs images of {TILES} x {TILES} pixels; these have {height} x {width}; use linf"
        )
    sides = torch.tensor([_side(query, norm, height, width) for query in range(queries)], device=labels_B.device)
    first, change = (_stripes, _linf_change) if norm == "linf" else (partial(_tiles, norm), partial(_move_bumps, norm))
    draws_each = (2 if norm == "linf" else 5) + images_BCHW.shape[1]

    def start(jobs: Sequence[tuple[int, int]]) -> _Rows:
        image, run = torch.tensor(jobs, device=labels_B.device).unbind(1)
        clean, own = images_BCHW[image], [streams[i] for i, _ in jobs]
        candidate = torch.cat([first(clean[k : k + 1], source, eps) for k, source in enumerate(own)])
        draws = torch.stack([torch.rand(queries, draws_each, generator=source) for source in own]).to(clean.device)
        infinite_B = torch.full_like(clean[:, 0, 0, 0], torch.inf)
        return _Rows(image, run, torch.zeros_like(image), clean, candidate, candidate.clone(), infinite_B, draws)

    def look(rows: _Rows) -> tuple[_Rows, Tensor, Tensor]:
        labels = labels_B[rows.image]
        logits_BK = model(rows.candidate)
        margin_B = margin(logits_BK, labels).to(rows.margin.dtype)
        better_B = margin_B < rows.margin
        rows.best[better_B] = rows.candidate[better_B]
        margin_B = torch.where(better_B, margin_B, rows.margin)
        over_B, wrong_B = margin_B <= 0, misclassified(logits_BK, labels)
        found[rows.image[wrong_B]] = rows.candidate[wrong_B]
        broken_B[rows.image[wrong_B]] = True
        return replace(rows, margin=margin_B), ~over_B & (rows.step < queries), wrong_B

    def move(rows: _Rows) -> _Rows:
        candidate, side_B = rows.best.clone(), sides[rows.step]
        for side in side_B.unique().tolist():
            at = (side_B == side).nonzero().squeeze(1)
            change(candidate, rows.clean, at, rows.draws[at, rows.step[at]], side, eps)
        return replace(rows, step=rows.step + 1, candidate=candidate)

    with torch.no_grad():
        refill(len(labels_B), 1, batch_size, start, look, move)
    return found, broken_B


def _side(query: int, norm: str, height: int, width: int) -> int:
    """Pixels in a side of the square: from 0.8 of the image's area on, halved again and again."""
    share = SHARE / 2 ** sum(query > after for after in HALVINGS)
    side = round(math.sqrt(share * height * width))
    if norm != "linf":
        side = max(side, 3)
        side += side % 2 == 0
    return min(max(side, 1), height, width)


def _sign(drawn: Tensor) -> Tensor:
    return (2 * drawn - 1).sign()


def _stripes(clean: Tensor, source: torch.Generator, eps: float) -> Tensor:
    """One image with vertical stripes of one pixel, each eps up or down."""
    drawn = torch.rand(1, clean.shape[1], 1, clean.shape[3], generator=source)
    return (clean + eps * _sign(drawn).to(clean)).clamp(0, 1)


def _linf_change(candidate: Tensor, clean: Tensor, at: Tensor, drawn: Tensor, side: int, eps: float) -> None:
    """One square moved 2 eps up or down, and back into the budget: eps from the image itself, where it fits."""
    here = _window(candidate, at, drawn[:, 0], drawn[:, 1], side)
    sign, pixels = _sign(drawn[:, 2:])[:, :, None, None].to(clean), clean[here]
    candidate[here] = torch.clamp(candidate[here] + 2 * eps * sign, pixels - eps, pixels + eps).clamp(0, 1)


def _tiles(norm: str, clean: Tensor, source: torch.Generator, eps: float) -> Tensor:
    """One image with tiles of bumps, each channel of each tile up or down, within the budget."""
    channels, height, width = clean.shape[1:]
    change, side = torch.zeros(clean.shape), height // TILES
    begin = (height - side * TILES) // 2
    for top in range(begin, begin + height // side * side, side):
        for left in range(begin, begin + width // side * side, side):
            tile = _bumps(norm, torch.rand(1, 1 + channels, generator=source), side, change)
            part = change[:, :, top : top + side, left : left + side]  # at the border: less than a tile, or nothing
            part += tile[:, :, : part.shape[2], : part.shape[3]]
    return WITHIN[norm](change.to(clean), clean, eps)


def _move_bumps(norm: str, candidate: Tensor, clean: Tensor, at: Tensor, drawn: Tensor, side: int, eps: float) -> None:
    """Bumps in one square, paid with what the budget has left and with the change inside another square."""
    pixels = clean[at]
    change = candidate[at].sub_(pixels)
    each = torch.arange(len(at), device=at.device)
    here, there = (_window(change, each, drawn[:, k], drawn[:, k + 1], side) for k in (0, 2))
    either = torch.zeros_like(change)
    either[here] = either[there] = 1
    old, held = change[here], _length(norm, either.mul_(change))
    if norm == "l2":
        left_B = (eps**2 - l2_norm(change) ** 2).clamp_min(0)
        length = (per_image(left_B, change) / change.shape[1] + held**2).sqrt()
    else:  # every channel is given the sum of all, which the projection takes back
        left_B = (eps - l1_norm(change)).clamp_min(0)
        length = (per_image(left_B, change) / change.shape[1] + held) * change.shape[1]
    new = _bumps(norm, drawn[:, 4:], side, clean) + old / (TINY + _length(norm, old))
    change[there] = 0
    change[here] = new / (TINY + _length(norm, new)) * length
    candidate[at] = WITHIN[norm](change, pixels, eps)


Window = tuple[Tensor, Tensor, Tensor, Tensor]


def _window(images_BCHW: Tensor, at: Tensor, down: Tensor, right: Tensor, side: int) -> Window:
    """Indices of a square of each of the images `at`, at a place that numbers in [0, 1) choose."""
    channels, height, width = images_BCHW.shape[1:]
    along = torch.arange(side, device=at.device)
    rows = ((height - side) * down).long()[:, None] + along
    columns = ((width - side) * right).long()[:, None] + along
    channel = torch.arange(channels, device=at.device)[:, None, None]
    return at[:, None, None, None], channel, rows[:, None, :, None], columns[:, None, None, :]


def _length(norm: str, window_BCSS: Tensor) -> Tensor:
    """l2 or l1 norm of each channel, (B, C, 1, 1)."""
    if norm == "l1":
        return window_BCSS.abs().sum((-2, -1), keepdim=True)
    return window_BCSS.square().sum((-2, -1), keepdim=True).sqrt()


def _at_eps(change: Tensor, clean: Tensor, eps: float) -> Tensor:
    """The image with the change at l2 distance eps, before it is clipped; `change` is used up."""
    return change.div_(per_image(l2_norm(change), change) + TINY).mul_(eps).add_(clean).clamp_(0, 1)


def _within_l1(change: Tensor, clean: Tensor, eps: float) -> Tensor:
    """The image with the change, moved to where l1 and [0, 1] allow it."""
    return clean + change + into_l1(change, clean, eps * (1 - 1e-6))


WITHIN = {"l2": _at_eps, "l1": _within_l1}  # the image with a change that keeps to the budget, by norm


def _bumps(norm: str, drawn: Tensor, side: int, like: Tensor) -> Tensor:
    """A bump up beside one down, upright or lying as the first number says, each channel's sign as its own one says."""
    pair = _pair(norm, side).to(like)
    lying = (drawn[:, 0] > 0.5)[:, None, None]
    return torch.where(lying, pair.T, pair)[:, None] * _sign(drawn[:, 1:])[:, :, None, None].to(like)


@cache
def _pair(norm: str, side: int) -> Tensor:
    """Two bumps that fill a square, the upper one positive, of norm 1."""
    pair = torch.cat([_bump(norm, side // 2, side), -_bump(norm, side - side // 2, side)])
    return pair.div_(torch.linalg.vector_norm(pair, ORDER[norm]))


def _bump(norm: str, height: int, width: int) -> Tensor:
    """1 + 1/4 + 1/9 + ... in the middle, with one term fewer in each ring around it, of l2 norm 1; in l1 1 + 1/16 + ..."""
    bump, rings = torch.zeros(height, width), max(height, width) // 2 + 1
    top, left = height // 2, width // 2
    for ring in range(rings):
        side = 2 * ring + 1
        bump[max(top, 0) : min(top + side, height), max(left, 0) : min(left + side, width)] += (
            1 / (ring + 1) ** POWER[norm]
        )
        top, left = top - 1, left - 1
    return bump.div_(torch.linalg.vector_norm(bump, ORDER[norm]))
