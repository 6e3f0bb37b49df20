"""Patch-Fool (Fu et al. 2022, ICLR, arXiv:2203.08392): replace a few patches by learned ones.

Differs from the authors' code where that is wrong: the PCGrad projection divides by ||g||^2 (arXiv:2001.06782,
algorithm 1), every chosen patch enters the attention term, patch size and number of tokens come from the model,
the best iterate is kept, and an image leaves as soon as it is misclassified.

Shape legend: B images, C channels, H x W pixels, K chosen patches, N tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor

from nsbench.attacks.common import (
    PROJECT,
    Adam,
    check_passes,
    check_threat,
    cross_entropy,
    gradient,
    l2_norm,
    linf_norm,
    margin,
    misclassified,
    per_image,
    room_for,
    take,
    uniform,
)
from nsbench.attacks.convergence import NEVER, Breaking, Descent
from nsbench.attacks.patch_choice import choose_patches
from nsbench.errors import UsageError
from nsbench.models.attention import attention_modules, recorded_attention
from nsbench.registry import attack
from nsbench.types import Passes, ThreatModel

Inside = Callable[[Tensor, Tensor, Tensor], Tensor]  # content, images, mask -> images with it, as far as allowed
BOUNDS = ("linf", "l2")  # of an image's change, beside the patches


def _passes(model: Any, *, steps: int, select: str, attention_weight: float, eot: int, **_: object) -> Passes:
    """A choice, an iterate more than steps, and of each iterate a gradient of the loss and one for each watched layer
    (a last one's, too, where others of its batch go on)."""
    layers = len(_watched(attention_modules(getattr(model, "vit", model)), attention_weight))
    iterates = Passes(steps + 1, (1 + layers) * (steps + 1) if steps else 0)
    return Passes(1, select == "saliency") + iterates * eot


def _watched(modules: Sequence[Any], weight: float) -> Sequence[Any]:
    """Those whose attention the loss is about: of the first half, without the first."""
    return modules[1 : max(2, len(modules) // 2)] if weight else []


@attack(loss="cross-entropy, PCGrad with log attention", start="uniform", passes=_passes)
@torch.enable_grad()
def patchfool(
    model: Any,
    images_BCHW: Tensor,
    labels_B: Tensor,
    *,
    ids: Sequence[str],
    seed: int,
    threat: ThreatModel,
    steps: PositiveInt = 250,
    lr: PositiveFloat = 0.22,
    decay: PositiveFloat = 0.95,
    decay_every: PositiveInt = 10,
    select: str = "attention",
    select_layer: NonNegativeInt = 4,
    attention_weight: NonNegativeFloat = 0.002,
    bound: str | None = None,
    eot: PositiveInt = 1,
    batch_size: int | None = None,
) -> Tensor:
    """Replace `threat.patches` patches of each image by content that Adam learns from a uniform start.

    `select` chooses them (see `choose_patches`): by default those that layer `select_layer` attends to most. Ascends
    the cross-entropy plus `attention_weight` times the mean log attention to the patches in each layer of the
    network's first half but the first (1 to 5 of 12). `bound` "linf" or "l2" keeps the change of an image within
    `threat.eps` in that norm, over all its patches together (the paper's mild forms); start and iterates are
    projected. Returns the first misclassified iterate, else the one of the highest cross-entropy; an image that the
    model already gets wrong comes back unchanged. `lr` is in [0, 1] pixels, whatever the model's normalisation; the
    authors' code takes the same number on pixels divided by ImageNet's deviation (here `lr=0.05`), which took an
    ImageNet ViT-Tiny three times the steps. With `eot` above 1 logits and attention terms are means over so many passes of
    a model that draws; the patches are chosen in one. `model` is a timm vision transformer or has one as `model.vit`.
    Raises ModelError where there are no attention maps, UsageError for another threat model, bound or choice.
    """
    inside = _budget(threat, bound)
    check_passes("patchfool", eot)
    modules = attention_modules(getattr(model, "vit", model))
    chosen = [
        choose_patches(
            model,
            modules,
            select,
            select_layer,
            threat.patches,
            images_BCHW[part],
            labels_B[part],
            [ids[i] for i in part.tolist()],
            seed,
        )
        for part in torch.arange(len(ids), device=labels_B.device).split(batch_size or max(len(ids), 1))
    ]
    wrong_B, columns_BK, mask = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    content = inside(uniform(images_BCHW, ids, seed, "patchfool"), images_BCHW, mask)
    watched = _watched(modules, attention_weight)
    rates = [lr * decay ** (step // decay_every) for step in range(steps)]
    result, right = images_BCHW.clone(), ~wrong_B
    result[right] = _learn(
        model,
        images_BCHW[right],
        labels_B[right],
        content[right],
        mask[right],
        columns_BK[right],
        watched,
        attention_weight,
        rates,
        inside,
        eot,
        room_for(batch_size, eot),
    )
    return result


def _budget(threat: ThreatModel, bound: str | None) -> Inside:
    """Puts the content into the masked pixels of the images, within the threat model."""
    if bound is None:
        check_threat("patchfool", threat, ["patch"], bounded=False)
        return lambda content, images, mask: torch.where(mask, content.clamp(0, 1), images)
    if bound not in BOUNDS:
        raise UsageError(f"patchfool: bound '{bound}' is not known; give {' or '.join(BOUNDS)}, or none")
    project, eps = PROJECT[bound], check_threat("patchfool", threat, ["patch"])
    return lambda content, images, mask: project(torch.where(mask, content, images), images, eps)


def _learn(
    model: Any,
    images_BCHW: Tensor,
    labels_B: Tensor,
    contents: Tensor,
    mask: Tensor,
    columns_BK: Tensor,
    watched: Sequence[Any],
    weight: float,
    rates: Sequence[float],
    inside: Inside,
    eot: int,
    batch_size: int | None,
) -> Tensor:
    """One Adam step per rate; each image's first misclassified iterate, else that of the highest cross-entropy.

    When an image leaves the batch, the next waiting one takes its place and counts its own steps from 0.
    """
    result, best_B = images_BCHW.clone(), torch.full_like(images_BCHW[:, 0, 0, 0], -torch.inf)
    rates_S = images_BCHW.new_tensor([*rates, 0.0])
    descent, breaking = Descent(len(rates) + 1), Breaking(labels_B)
    waiting = deque(range(len(images_BCHW)))
    active = torch.tensor(take(waiting, batch_size), dtype=torch.long, device=labels_B.device)
    content, step_B = contents[active], torch.zeros_like(active)
    adam = Adam(content)
    with recorded_attention(watched) as maps:
        while len(active):
            content = content.detach().requires_grad_(bool((step_B < len(rates)).any()))
            adversarial = torch.where(mask[active], content, images_BCHW[active])
            looks = [(model(adversarial), list(maps)) for _ in range(eot)]
            logits_BK = looks[0][0] if eot == 1 else torch.stack([logits_BK for logits_BK, _ in looks]).mean(dim=0)
            loss_B, broken_B = cross_entropy(logits_BK, labels_B[active]), misclassified(logits_BK, labels_B[active])
            margin_B = margin(logits_BK.detach(), labels_B[active])
            descent.look(step_B, active, margin_B, margin_B, len(labels_B))
            breaking.note(active, broken_B, step_B)
            better_B = broken_B | (loss_B > best_B[active])
            result[active[better_B]] = adversarial.detach()[better_B]
            best_B[active[better_B]] = loss_B.detach()[better_B].to(best_B.dtype)
            stays_B = ~broken_B & (step_B < len(rates))
            if stays_B.any():
                slope = _ascent(loss_B, [seen for _, seen in looks], columns_BK[active], content, weight)[stays_B]
            active, content, step_B = active[stays_B], content.detach()[stays_B], step_B[stays_B]
            adam.keep(stays_B)
            if len(active):  # Adam descends
                content = inside(content - adam.step(slope, rates_S[step_B]), images_BCHW[active], mask[active])
            if fresh := take(waiting, batch_size, len(active)):
                added = torch.tensor(fresh, device=active.device)
                active, content = torch.cat([active, added]), torch.cat([content, contents[added]])
                adam.grow(len(fresh))
            step_B = torch.cat([step_B + 1, step_B.new_zeros(len(fresh))])
    descent.tell(breaking.first_B == NEVER)
    breaking.tell(len(rates))
    return result


def _ascent(
    loss_B: Tensor, looks: Sequence[Sequence[Tensor]], columns_BK: Tensor, content: Tensor, weight: float
) -> Tensor:
    """Direction of ascent: the cross-entropy's gradient plus each layer's projected attention gradient.

    `looks`: the maps of each pass; a layer's term is the mean over them.
    """
    layers = list(zip(*looks, strict=True))
    slope = gradient(loss_B, content, retain_graph=bool(layers))
    total, unit = slope.clone(), direction(slope)
    for position, maps in enumerate(layers):
        terms = [_attention_paid(attention_BHNN, columns_BK) for attention_BHNN in maps]
        term_B = terms[0] if len(terms) == 1 else torch.stack(terms).mean(dim=0)
        pull = gradient(term_B, content, retain_graph=position < len(layers) - 1)
        total.add_(project_conflict(pull, unit), alpha=weight)
    return total


def _attention_paid(attention_BHNN: Tensor, columns_BK: Tensor) -> Tensor:
    """Mean log attention to the chosen patches, (B,), over all tokens that pay it."""
    paid_BNK = attention_BHNN.mean(dim=1).gather(2, columns_BK[:, None].expand(-1, attention_BHNN.shape[2], -1))
    return paid_BNK.clamp_min(1e-30).log().mean(dim=(1, 2))


def direction(slope: Tensor) -> Tensor:
    """Each image's slope at Euclidean norm 1; zero stays zero."""
    scaled = slope / per_image(linf_norm(slope).clamp_min(1e-37), slope)  # or its square underflows
    return scaled.div_(per_image(l2_norm(scaled).clamp_min(1e-12), slope))


def project_conflict(pull: Tensor, unit: Tensor) -> Tensor:
    """PCGrad: where <pull, unit> < 0, `pull` loses its component along the slope whose `direction` is unit; in place.

    With a slope g this is pull - <pull, g> g / ||g||^2.
    """
    inner_B = torch.linalg.vecdot(pull.flatten(1), unit.flatten(1)).clamp(max=0)
    return pull.addcmul_(unit, per_image(inner_B, unit), value=-1)
