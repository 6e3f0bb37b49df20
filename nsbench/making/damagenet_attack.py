"""The attack behind an own DAmageNet: on what a surrogate attends to, and on its decision.

After Chen et al. 2022 (arXiv:2001.06325). Of a vision transformer the attention rollout (Abnar and Zuidema 2020,
arXiv:2005.00928) from the class token to the patches that lead on the clean image is driven down; of any other network
the features of the last layer are driven away from the clean ones. Both go with the true label's cross-entropy. Each
term's gradient is scaled to a mean absolute value of one per image, smoothed (Dong et al. 2019, arXiv:1904.02884) and
followed by momentum (Dong et al. 2018, arXiv:1710.06081) in sign steps.

Shapes: B images, C channels, H x W pixels, N tokens, K leading patches (of logits: classes).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.errors import ModelError
from nsbench.models import Model, frozen
from nsbench.models.attention import attention_modules, recorded_attention

EPS = 25  # grey levels: the largest whole number within the official set's 25.5
STEPS = 10
KERNEL, SIGMA = 5, 1.0  # of the Gaussian that smooths the gradient, pixels
LEADING = 0.25  # share of the patches whose attention is driven down


def perturb(model: Model, images_BHWC: np.ndarray, labels_B: Sequence[int] | np.ndarray) -> np.ndarray:
    """Images (B, H, W, C) uint8, each changed by at most EPS grey levels."""
    clean = torch.from_numpy(np.array(images_BHWC)).permute(0, 3, 1, 2).to(model.device).float()
    labels = torch.as_tensor(np.array(labels_B), device=model.device)
    watch = _Attention(model, clean / 255) if attends(model) else _Features(model, clean / 255)
    kernel = _gaussian(clean.device)
    change, momentum = torch.zeros_like(clean), torch.zeros_like(clean)
    with frozen(model), torch.enable_grad():
        for step in range(1, STEPS + 1):
            variable = ((clean + change) / 255).requires_grad_()
            logits_BK, term_B = watch(variable)
            terms = (F.cross_entropy(logits_BK, labels, reduction="none"), term_B)
            slopes = [_unit(torch.autograd.grad(term.sum(), variable, retain_graph=True)[0]) for term in terms]
            momentum = momentum + F.conv2d(slopes[0] + slopes[1], kernel, padding=KERNEL // 2, groups=3)
            change = (change + EPS / STEPS * momentum.sign()).clamp(-EPS * step / STEPS, EPS * step / STEPS)
            change = (clean + change).clamp(0, 255) - clean
    pixels = (clean + change.round()).clamp(0, 255)
    return pixels.permute(0, 2, 3, 1).cpu().numpy().astype(np.uint8)


def attends(model: Model) -> bool:
    """Whether the network has attention maps over patch tokens behind its patch embedding."""
    if model.patch_embed is None:
        return False
    try:
        return bool(attention_modules(model.vit))
    except ModelError:
        return False


class _Attention:
    """Logits, and minus the log of the rollout that the leading patches of the clean image get."""

    def __init__(self, model: Model, clean_BCHW: Tensor) -> None:
        self.model, self.modules = model, attention_modules(model.vit)
        self.prefix = int(getattr(model.vit, "num_prefix_tokens", 1))
        self.has_class_token = getattr(model.vit, "cls_token", None) is not None
        with torch.no_grad():
            rollout_BN = self._look(clean_BCHW)[1]
        self.leading_BK = rollout_BN.topk(max(1, int(LEADING * rollout_BN.shape[1])), dim=1).indices

    def __call__(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        logits_BK, rollout_BN = self._look(images_BCHW)
        return logits_BK, -rollout_BN.gather(1, self.leading_BK).sum(dim=1).clamp_min(1e-30).log()

    def _look(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the rollout to each patch: from the class token, or the mean over tokens where there is none."""
        with recorded_attention(self.modules) as maps:
            logits_BK = self.model(images_BCHW)
        flow_BNN = torch.eye(maps[0].shape[-1], device=images_BCHW.device)
        for attention_BHNN in maps:
            flow_BNN = (attention_BHNN.mean(dim=1) @ flow_BNN + flow_BNN) / 2
        from_BN = flow_BNN[:, 0] if self.has_class_token else flow_BNN.mean(dim=1)
        return logits_BK, from_BN[:, self.prefix :]


class _Features:
    """Logits, and the squared distance of the last layer's features from those of the clean image."""

    def __init__(self, model: Model, clean_BCHW: Tensor) -> None:
        if not hasattr(model.vit, "forward_features") or not hasattr(model.vit, "forward_head"):
            raise ModelError(f"--surrogate {model.name}: shows neither attention maps nor features; give a timm model")
        self.model = model
        with torch.no_grad():
            self.clean = self._features(clean_BCHW)

    def __call__(self, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        features = self._features(images_BCHW)
        logits_BK = self.model.of_its_classes(self.model.vit.forward_head(features))
        return logits_BK, (features - self.clean).square().flatten(1).sum(dim=1)

    def _features(self, images_BCHW: Tensor) -> Tensor:
        """With a patch embedding cut out, what stands in its place wants tokens."""
        inputs = self.model.normalise(images_BCHW) if self.model.patch_embed is None else self.model.embed(images_BCHW)
        features: Tensor = self.model.vit.forward_features(inputs)
        return features


def _unit(slope_BCHW: Tensor) -> Tensor:
    """Scaled to a mean absolute value of one per image; zero stays zero."""
    return slope_BCHW / slope_BCHW.abs().mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-30)


def _gaussian(device: torch.device) -> Tensor:
    """(3, 1, KERNEL, KERNEL): one kernel per channel, of sum one."""
    axis = torch.arange(KERNEL, device=device) - (KERNEL - 1) / 2
    line = torch.exp(-axis.square() / (2 * SIGMA**2))
    return (torch.outer(line, line) / line.sum() ** 2).expand(3, 1, KERNEL, KERNEL)
