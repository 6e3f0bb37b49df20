"""Relevance of a vision transformer's patches, driven to the foreground (Chefer et al. 2022, arXiv:2206.01161).

B images of H x W pixels, N patches on a grid of h x w, T tokens with the prefix tokens first, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, normalize

from nsbench import processes
from nsbench.data import Split
from nsbench.errors import DataError, ModelError, TrainingError, UsageError
from nsbench.models import Model, frozen
from nsbench.models.attention import attention_modules, patch_size, recorded_attention
from nsbench.models.model import hooked
from nsbench.progress import Progress
from nsbench.training.cost import besides
from nsbench.training.trainable import Work

AFFINITY = 0.2  # cosine of two patches' keys above which they are neighbours
FAR = 1e-5  # weight of the edge between patches that are none
WAYS = "'source' (the masks of the training images) or 'model' (cut out of the checkpoint's own features)"


def relevance(model: Model, images_BCHW: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (B, K), and what each pixel adds to the logit of its class, (B, H, W) in [0, 1], from one pass.

    Block by block R <- R + mean over heads of (gradient x attention)+ @ R from the identity; the class token's row of
    it, without the prefix tokens' columns, as a grid, bilinearly enlarged, and from 0 to 1 in each image. The gradient
    is that of the target's logit and is held constant, so the weights are reached through the attention alone. Of soft
    targets (B, K) it is the gradient of the logits weighted by them. Drop path is off, or the maps would be noise.
    Raises UsageError where the first blocks' attention has no gradient, ModelError where the patches are no square grid.
    """
    model.eval()
    with recorded_attention(attention_modules(model.vit)) as maps:
        logits_BK = model(images_BCHW)
    if not all(one.requires_grad for one in maps):
        raise UsageError(
            f"model '{model.name}': the relevance needs a gradient of every block's attention, and of the first ones no "
            "weight before it is trained; take trainable=all, norm or bias"
        )
    soft = targets.is_floating_point()
    score = (logits_BK * targets).sum() if soft else logits_BK.gather(1, targets[:, None]).sum()
    gradients = torch.autograd.grad(score, list(maps), retain_graph=True)
    # it stops at the maps, without the weights' gradients that a backward pass counts
    besides(-len(images_BCHW) * Work.of(model).weights)
    side = images_BCHW.shape[2] // patch_size(model.vit)[0]
    row_BT = class_row(maps, gradients)[:, model.vit.num_prefix_tokens :]
    if row_BT.shape[1] != side * side:
        raise ModelError(f"model '{model.name}': {row_BT.shape[1]} patch tokens are no grid of {side} x {side}")
    map_B1HW = interpolate(row_BT.view(-1, 1, side, side), images_BCHW.shape[2:], mode="bilinear")
    low_B111, high_B111 = map_B1HW.amin(dim=(2, 3), keepdim=True), map_B1HW.amax(dim=(2, 3), keepdim=True)
    span_B111 = (high_B111 - low_B111).clamp_min(torch.finfo(map_B1HW.dtype).tiny)  # a constant map becomes 0
    return logits_BK, ((map_B1HW - low_B111) / span_B111)[:, 0]


def require_class_token(model: Model) -> None:
    """Raises ModelError where the logits are not read from a class token at the first place, whose row is taken."""
    attention_modules(model.vit)
    vit = model.vit
    pooling = getattr(vit, "global_pool", "token")
    first = getattr(vit, "cls_token", None) is not None and bool(getattr(vit, "num_prefix_tokens", 0))
    if not first or pooling not in ("token", ""):
        raise ModelError(
            f"model '{model.name}': its logits are not those of a class token (global_pool '{pooling}'), whose relevance "
            "this method takes; choose a vision transformer with a class token"
        )


def class_row(maps: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """(B, T): the first token's row of the product of (identity + flow) over the blocks, the last one at the left."""
    row_B1T = torch.zeros_like(maps[0][:, 0, :1])
    row_B1T[:, :, 0] = 1
    for attention_BHTT, gradient_BHTT in zip(reversed(maps), reversed(gradients), strict=True):
        flow_BTT = (attention_BHTT * gradient_BHTT.detach()).clamp_min(0).mean(dim=1)
        row_B1T = row_B1T + row_B1T @ flow_BTT
    return row_B1T[:, 0]


class Foreground:
    """The foreground of training images: the source's masks, or what a model's own features tell apart."""

    def __init__(self, source: str, cutter: Model | None) -> None:
        self.source, self.cutter = source, cutter
        self.images = 0  # of the present round
        self.unknown: Tensor | int = 0  # of these: without a mask; on the device

    @staticmethod
    def needs(train: Split, masks: str = "") -> str:
        """A digest of the masks. Raises UsageError for a word that is not known, DataError where there are none."""
        if masks not in ("", "source", "model"):
            raise UsageError(f"masks '{masks}' is not known; give {WAYS}, or leave it out for what is there")
        if masks == "source" and train.masked is None:
            raise DataError("these training images have no masks; name a folder in the data config, or masks=model")
        return train.masks_digest if masks != "model" and train.masked is not None else ""

    @staticmethod
    def requires(model: Model) -> None:
        """Raises ModelError for a model whose relevance cannot be told."""
        require_class_token(model)

    @staticmethod
    def cuts(train: Split, masks: str) -> bool:
        """Whether the masks are cut out of the checkpoint's features, by a pass more for every image."""
        return masks == "model" or train.masked is None

    @classmethod
    def open(cls, masks: str, model: Model, train: Split, progress: Progress | None = None) -> Foreground:
        """`masks` as in `needs`; with "" the source's where it has some, else the model's. It is said which."""
        cls.needs(train, masks)
        cls.requires(model)
        own = not cls.cuts(train, masks)
        if progress:
            progress.line(f"foreground by {train.masks if own else 'the features of the checkpoint'}", style="dim")
        return cls(train.masks if own else "the checkpoint's features", None if own else model)

    @property
    def given(self) -> bool:
        """Whether masks come with the images, so that the training has to hand them over."""
        return self.cutter is None

    def losses(
        self,
        model: Model,
        images_BCHW: Tensor,
        targets: Tensor,
        masks_B1HW: Tensor | None,
        *,
        temperature: float = 1.0,
    ) -> dict[str, Tensor]:
        """Mean squares of the relevance outside the foreground and of what it lacks inside, over pixels and images
        whose mask is known, and the cross-entropy of the logits over `temperature` with the model's own prediction."""
        if temperature <= 0:
            raise UsageError(f"temperature {temperature:g} must be above 0")
        if self.cutter is not None:
            mask_BHW = normalised_cut(self.cutter, images_BCHW)
        else:
            assert masks_B1HW is not None
            mask_BHW = masks_B1HW[:, 0]
        known_B = ~mask_BHW.isnan().flatten(1).any(dim=1)
        self.images += len(known_B)
        self.unknown = self.unknown + (~known_B).sum()
        logits_BK, map_BHW = relevance(model, images_BCHW, targets)
        terms = foreground_terms(map_BHW, mask_BHW.to(map_BHW), known_B)
        confidence = cross_entropy(logits_BK / temperature, logits_BK.argmax(dim=1))
        return {**terms, "confidence": confidence}

    def facts(self) -> Mapping[str, int | float | str]:
        """What the history tells of a round: which masks, and the share of images without one, in percent.

        Raises TrainingError where several processes trained with images whose mask is not known.
        """
        unknown, images = processes.totals([int(self.unknown), self.images])
        if unknown and processes.count() > 1:  # means over known masks of a part do not add up to that over a batch
            raise TrainingError(
                f"{unknown} of {images} images have no mask: train this in one process, or with masks=model"
            )
        missing = round(100 * unknown / images, 3) if images else 0.0
        self.images, self.unknown = 0, 0
        return {"masks": self.source, "images_without_mask": missing}


def foreground_terms(map_BHW: Tensor, mask_BHW: Tensor, known_B: Tensor) -> dict[str, Tensor]:
    """ "background" and "foreground": means over all pixels of the images whose mask is known; 0 where there is none."""
    count = known_B.sum().clamp_min(1) * map_BHW[0].numel()
    inside_BHW = torch.where(known_B[:, None, None], mask_BHW, 0)
    background_BHW = map_BHW * torch.where(known_B[:, None, None], 1 - mask_BHW, 0)
    return {
        "background": background_BHW.square().sum() / count,
        "foreground": (map_BHW * inside_BHW - inside_BHW).square().sum() / count,
    }


@torch.no_grad()
def normalised_cut(model: Model, images_BCHW: Tensor) -> Tensor:
    """(B, H, W): 1 where the last block's keys tell an object from the rest, without labels.

    As TokenCut (Wang et al. 2022, arXiv:2202.11539) without its bilateral solver: patches whose keys' cosine is above
    0.2 are neighbours; the second eigenvector of the normalised cut is split at its mean; the foreground is the side of
    its largest entry, and of that the connected part that holds it.
    """
    keys: list[Tensor] = []
    module = attention_modules(model.vit)[-1]
    if not isinstance(qkv := getattr(module, "qkv", None), torch.nn.Module):
        raise ModelError(f"model '{model.name}': its attention has no qkv layer to cut by; give masks=source")
    with frozen(model), hooked(qkv, lambda layer, inputs, output: keys.append(output.chunk(3, dim=-1)[1])):
        model(images_BCHW.clamp(0, 1))
    besides(len(images_BCHW))
    unit_BND = normalize(keys[0][:, model.vit.num_prefix_tokens :].double(), dim=2)
    second_BN = second_eigenvector(torch.where(unit_BND @ unit_BND.mT > AFFINITY, 1.0, FAR)).cpu().numpy()
    height, width = patch_size(model.vit)
    grid = images_BCHW.shape[2] // height, images_BCHW.shape[3] // width
    objects_Bhw = np.stack([connected(one.reshape(grid)) for one in second_BN])
    mask_BHW = torch.from_numpy(objects_Bhw).repeat_interleave(height, 1).repeat_interleave(width, 2)
    return mask_BHW.to(images_BCHW)


def second_eigenvector(weights_BNN: Tensor) -> Tensor:
    """(B, N): of (D - W) y = lambda D y, with D the row sums of W, for the second smallest lambda."""
    root_BN = weights_BNN.sum(dim=2).rsqrt()
    eye_NN = torch.eye(weights_BNN.shape[1], dtype=weights_BNN.dtype, device=weights_BNN.device)
    vectors_BNN = torch.linalg.eigh(eye_NN - root_BN[:, :, None] * weights_BNN * root_BN[:, None])[1]
    second_BN: Tensor = root_BN * vectors_BNN[:, :, 1]
    return second_BN


def connected(values_hw: np.ndarray) -> np.ndarray:
    """1.0 in the part around the largest absolute value that lies on its side of the mean."""
    peak = np.unravel_index(np.abs(values_hw).argmax(), values_hw.shape)
    above = values_hw > values_hw.mean()
    parts, _ = ndimage.label(above == above[peak])
    inside: np.ndarray = (parts == parts[peak]).astype(np.float64)
    return inside
