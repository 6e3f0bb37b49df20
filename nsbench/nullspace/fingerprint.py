"""Whose model is this? A set of images that only one model's nullspace explains (arXiv 2403.10476, section 6).

The owner keeps images with and without a strong noise of the nullspace of the owner's patch embedding. The owner's
model predicts the same class for both; a model with another patch embedding does not. Nothing is trained into the
model, and to verify a suspect its predicted classes are enough.

**The test.** Statistic T: the share of images whose predicted class stays the same under the noise. Null hypothesis:
the suspect has nothing to do with the owner's patch embedding. Then the owner's noise is to it like noise of any other
model's nullspace, and T is compared with its values for *decoys*: noises made in the same way from the owner's row
space after flipping the signs of its coordinates in an orthonormal basis of patches (a cosine transform of each of
three opponent colours), at random, one pattern a decoy. A decoy has the owner's power at every frequency and colour,
so that a suspect which tolerates fine noise tolerates decoys as well, and another span.

p = (1 + number of decoys with T at least the owner's) / (1 + number of decoys), ties counted against ownership
(Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9:39; Besag and Clifford 1989,
Biometrika 76:633). Under the null hypothesis P(p <= alpha) <= alpha, for any number of images, if the law of the
owner's row space does not change when those signs do. For weights drawn independently of the suspect, such as a fresh
initialisation, that is exact; for two networks trained on natural images it is an assumption: what they share beyond
power spectra (phases of oriented edges) is not in it, and their p can be too small: on shapes10 the owner's
body with a newly drawn patch embedding, trained on the owner's images, kept 66 % where decoys kept 58 % (p = 0.04), and
finetuned copies kept 100 % where decoys kept 52 %. Hence alpha is 0.01 by default, the margin over the decoys should be
looked at, and there is a second part:

**Against independent models.** Where models known to be independent are given, exact McNemar on the same images, one
sided (does the suspect keep more classes than the independent model?), the largest p of them all: a claim needs every
one (an intersection-union test, Berger 1982, Technometrics 24:295-300, needs no correction). It holds for images drawn
as these were, for this noise and these two models.

Each suspect is a test of its own: with many suspects, lower alpha accordingly.

A small p says that the suspect shares the owner's patch embedding, copied or finetuned; it does not say who copied
whom. A model that always predicts the same class has T = 1 for decoys too, hence p = 1.

Shapes: B images, M noises, J decoys, P patch length, R rank, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nsbench.errors import ModelError, UsageError
from nsbench.models import Model, frozen
from nsbench.nullspace.exact import PatchNullspace
from nsbench.nullspace.least_squares import project_bounded, row_space
from nsbench.randomness import derive_seed
from nsbench.statistics import discordant, wilson

BATCH = 128  # images that a model sees at a time
PULL = 3.0  # noises are fitted to signs beyond the bounds, so that many pixels reach them


@dataclass(frozen=True)
class Fingerprint:
    """Images to show to a suspect, with the owner's noise and with each decoy's."""

    base_BCHW: Tensor  # contrast reduced to [strength, 1 - strength], so that base + noise stays in [0, 1]
    noise_MCHW: Tensor  # the owner's, in [-strength, strength]; image i carries noise i mod M
    decoys_JMCHW: Tensor
    strength: float  # largest change of a pixel

    def images(self, noise_MCHW: Tensor) -> Tensor:
        """Base images with these noises on them, (B, C, H, W) in [0, 1]."""
        which = torch.arange(len(self.base_BCHW)) % len(noise_MCHW)
        return (self.base_BCHW + noise_MCHW[which]).clamp(0, 1)


@dataclass(frozen=True)
class Verification:
    """The two tests on a suspect's predictions."""

    agreement: float  # T of the owner's noise, share of images
    low: float  # its 95 % Wilson interval over images
    high: float
    decoys: Sequence[float]  # T of each decoy
    p_value: float  # the suspect is unrelated to the owner's patch embedding
    against: Mapping[str, float]  # independent model -> one-sided McNemar p
    p_independent: float | None  # the largest of those; None where no independent model was given
    alpha: float

    @property
    def owned(self) -> bool:
        """Both tests reject at alpha, the second where it exists."""
        return self.p_value <= self.alpha and (self.p_independent is None or self.p_independent <= self.alpha)


def make_fingerprint(
    nullspace: PatchNullspace,
    images_BCHW: Tensor,
    *,
    strength: float = 0.25,
    noises: int = 4,
    decoys: int = 99,
    seed: int = 0,
) -> Fingerprint:
    """A fingerprint of the model that the nullspace belongs to, on images (B, C, H, W) in [0, 1].

    Each noise is the null noise within +-strength that is nearest to random signs beyond it, so that most pixels change
    much. 99 decoys allow p = 0.01, 999 allow 0.001. Raises UsageError for a strength outside (0, 0.5] or no images,
    noises or decoys.
    """
    if not 0 < strength <= 0.5:
        raise UsageError(f"fingerprint strength {strength:g}: give the largest change of a pixel, above 0, at most 0.5")
    if not len(images_BCHW) or noises < 1 or decoys < 1:
        raise UsageError(
            f"a fingerprint of {len(images_BCHW)} images, {noises} noises, {decoys} decoys: needs at least one of each"
        )
    row_PR, transform_PP = row_space(nullspace), patch_transform(nullspace.patch_size)
    size = (min(noises, len(images_BCHW)), *images_BCHW.shape[1:])
    noise_MCHW = _noise(row_PR, nullspace.patch_size, size, strength, derive_seed(seed, "fingerprint"))
    found = []
    for index in range(decoys):
        flipped_PR = _flipped(row_PR, transform_PP, derive_seed(seed, "decoy", index))
        found.append(_noise(flipped_PR, nullspace.patch_size, size, strength, derive_seed(seed, "decoy noise", index)))
    base_BCHW = 0.5 + (1 - 2 * strength) * (images_BCHW - 0.5)
    device = images_BCHW.device
    return Fingerprint(base_BCHW, noise_MCHW.to(device), torch.stack(found).to(device), strength)


def verify(
    fingerprint: Fingerprint, suspect: Model, independent: Mapping[str, Model] | None = None, *, alpha: float = 0.01
) -> Verification:
    """Does the suspect hold the owner's patch embedding? See the module's text for what the p-values say.

    Raises ModelError where a model takes images of another size, UsageError where the decoys cannot reach alpha.
    """
    count = len(fingerprint.decoys_JMCHW)
    if not 0 < alpha < 1:
        raise UsageError(f"alpha {alpha:g}: give a level between 0 and 1")
    if alpha * (count + 1) < 1:
        raise UsageError(
            f"{count} decoys cannot give a p-value of {alpha:g} or less; take at least {int(np.ceil(1 / alpha)) - 1}"
        )
    clean_B = predictions(suspect, fingerprint.base_BCHW)
    kept_B = predictions(suspect, fingerprint.images(fingerprint.noise_MCHW)) == clean_B
    decoys = [
        float((predictions(suspect, fingerprint.images(noise_MCHW)) == clean_B).mean())
        for noise_MCHW in fingerprint.decoys_JMCHW
    ]
    p_value = monte_carlo_p(float(kept_B.mean()), decoys)
    against = {name: mcnemar_greater(kept_B, kept(fingerprint, model)) for name, model in (independent or {}).items()}
    low, high = wilson(int(kept_B.sum()), len(kept_B))
    return Verification(
        float(kept_B.mean()), low, high, decoys, p_value, against, max(against.values()) if against else None, alpha
    )


def kept(fingerprint: Fingerprint, model: Model) -> np.ndarray:
    """(B,) bool: images whose predicted class the owner's noise does not change."""
    noisy_B = predictions(model, fingerprint.images(fingerprint.noise_MCHW))
    same_B: np.ndarray = noisy_B == predictions(model, fingerprint.base_BCHW)
    return same_B


def predictions(model: Model, images_BCHW: Tensor) -> np.ndarray:
    """(B,) predicted classes; all that is asked of a suspect."""
    if model.input_size != images_BCHW.shape[2]:
        raise ModelError(
            f"model '{model.name}' takes images of {model.input_size} pixels and the fingerprint has "
            f"{images_BCHW.shape[2]}; only models of one input size can be compared"
        )
    with frozen(model), torch.no_grad():
        classes_B = torch.cat([model(part).argmax(dim=1) for part in torch.split(images_BCHW, BATCH)])
    return classes_B.cpu().numpy()


def monte_carlo_p(observed: float, decoys: Sequence[float]) -> float:
    """(1 + decoys at least as large) / (1 + decoys); the test is exact where all are exchangeable."""
    return (1 + sum(decoy >= observed for decoy in decoys)) / (1 + len(decoys))


def mcnemar_greater(first_B: np.ndarray, second_B: np.ndarray) -> float:
    """Exact one-sided p of "the first is not true more often than the second", flags of the same images."""
    from scipy.stats import binom

    only_first, only_second, _ = discordant(first_B, second_B)
    return float(binom.sf(only_first - 1, only_first + only_second, 0.5))


def patch_transform(size: int) -> Tensor:
    """Orthonormal (P, P), P = 3 size^2: a two-dimensional cosine transform (DCT-II) of grey, red-green and
    blue-yellow; it takes a patch vector as `to_patches` gives it."""
    k, n = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    cosine = torch.cos(torch.pi * (n + 0.5) * k / size) * (2 / size) ** 0.5
    cosine[0] /= 2**0.5
    colours = torch.tensor([[1, 1, 1], [1, -1, 0], [1, 1, -2]], dtype=torch.float64)
    return torch.kron(colours / colours.norm(dim=1, keepdim=True), torch.kron(cosine, cosine))


def _flipped(row_PR: Tensor, transform_PP: Tensor, seed: int) -> Tensor:
    """A decoy's row space: random signs on the owner's coordinates in the transform's basis."""
    draws = torch.Generator().manual_seed(seed)
    signs_P = torch.randint(0, 2, (len(row_PR),), generator=draws).double() * 2 - 1
    return transform_PP.T @ (signs_P[:, None] * (transform_PP @ row_PR))


def _noise(row_PR: Tensor, patch_size: int, shape: tuple[int, ...], strength: float, seed: int) -> Tensor:
    """Null noises (M, C, H, W) within +-strength, nearest to random signs PULL times as large."""
    draws = torch.Generator().manual_seed(seed)
    wanted = (torch.randint(0, 2, shape, generator=draws).float() * 2 - 1) * PULL * strength
    bound = torch.full(shape, strength)
    return project_bounded(row_PR, patch_size, wanted, -bound, bound)
