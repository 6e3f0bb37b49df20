"""What the attacks share: projections, draws per image, losses per image and their input gradients.

Shape legend: B images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.errors import ModelError, UsageError
from nsbench.randomness import derive_seed
from nsbench.types import ThreatModel

Classifier = Callable[[Tensor], Tensor]  # images_BCHW in [0, 1] -> logits_BK
BLOCK = 1 << 18  # pixel values; some eight tensors of them are at work
FEWEST_CLASSES = 4  # the targeted DLR loss looks at the four largest logits
Job = TypeVar("Job")


def per_image(values_B: Tensor, like: Tensor) -> Tensor:
    """Shape (B,) values so that they broadcast over the images `like`."""
    return values_B.view(-1, *[1] * (like.ndim - 1))


def l2_norm(images_BCHW: Tensor) -> Tensor:
    """Euclidean norm of each image, (B,)."""
    norm_B: Tensor = images_BCHW.flatten(1).norm(dim=1)
    return norm_B


def l1_norm(images_BCHW: Tensor) -> Tensor:
    """Sum of absolute values of each image, (B,)."""
    return images_BCHW.flatten(1).abs().sum(dim=1)


def linf_norm(images_BCHW: Tensor) -> Tensor:
    """Largest absolute value of each image, (B,)."""
    return images_BCHW.flatten(1).abs().amax(dim=1)


def project_linf(adversarial_BCHW: Tensor, images_BCHW: Tensor, eps: float) -> Tensor:
    """Nearest point that is within `eps` of each pixel and inside [0, 1]."""
    return (images_BCHW + (adversarial_BCHW - images_BCHW).clamp(-eps, eps)).clamp(0, 1)


def project_l2(adversarial_BCHW: Tensor, images_BCHW: Tensor, eps: float) -> Tensor:
    """Scale each change to norm `eps` at most, then clip to [0, 1] (which can only shorten it)."""
    change = adversarial_BCHW - images_BCHW
    factor_B = (eps / l2_norm(change).clamp_min(1e-12)).clamp(max=1)
    return (images_BCHW + change * per_image(factor_B, change)).clamp(0, 1)


def project_l1(adversarial_BCHW: Tensor, images_BCHW: Tensor, eps: float) -> Tensor:
    """Nearest point whose change has an l1 norm of at most `eps` and which is inside [0, 1].

    Exact (Croce and Hein 2021, arXiv:2103.01208, section 3.1): each value's change d with room r towards its bound
    becomes min(max(|d| - t, 0), r). The sum falls with t, by as many values as lie between, so t is found by sorting
    the points where values start (|d|) and reach their bound (|d| - r).
    """
    change_BN = (adversarial_BCHW - images_BCHW).flatten(1)
    # adding a change to a value rounds it, and equal ones alike, so as much stays free
    eps = max(eps - change_BN.shape[1] * torch.finfo(change_BN.dtype).eps / 2, 0.0)
    clean_BN, size_BN = images_BCHW.flatten(1), change_BN.abs()
    room_BN = torch.where(change_BN > 0, 1 - clean_BN, clean_BN)
    size, room = size_BN.double(), room_BN.double()
    points, order = torch.cat([size, size - room], dim=1).clamp_min(0).sort(dim=1, descending=True)
    slopes = torch.cat([torch.ones_like(size), -torch.ones_like(size)], dim=1).gather(1, order).cumsum(dim=1)
    gaps = points - torch.nn.functional.pad(points[:, 1:], (0, 1))  # down to the next point, at last to 0
    sums = (slopes * gaps).cumsum(dim=1)  # the l1 norm at the lower end of each gap
    at = (sums < eps).sum(dim=1, keepdim=True).clamp_max(sums.shape[1] - 1)
    before = torch.where(at > 0, sums.gather(1, (at - 1).clamp_min(0)), 0)
    cut = points.gather(1, at) - (eps - before) / slopes.gather(1, at).clamp_min(1)
    cut = torch.where(sums[:, -1:] <= eps, 0, cut)  # inside already, but for the box
    kept_BN = (size - cut).clamp_min(0).minimum(room).to(change_BN.dtype)
    return (clean_BN + kept_BN * change_BN.sign()).view_as(images_BCHW).clamp(0, 1)


NORMS = {"linf": linf_norm, "l2": l2_norm, "l1": l1_norm}  # of each image, by name
PROJECT = {"linf": project_linf, "l2": project_l2, "l1": project_l1}  # by norm


def _draw(
    images_BCHW: Tensor,
    ids: Sequence[str],
    seed: int,
    parts: tuple[object, ...],
    draw: Callable[[Tensor, torch.Generator], Tensor],
) -> Tensor:
    """One draw per image, on the CPU: the same numbers on every device."""
    draws = []
    for image_id in ids:
        source = torch.Generator().manual_seed(derive_seed(seed, *parts, image_id))
        draws.append(draw(torch.empty(images_BCHW.shape[1:]), source))
    return torch.stack(draws).to(images_BCHW.device) if draws else torch.empty_like(images_BCHW)


def uniform(
    images_BCHW: Tensor, ids: Sequence[str], seed: int, *parts: object, low: float = 0.0, high: float = 1.0
) -> Tensor:
    """Uniform numbers in the shape of the images, a function of (seed, parts, image id) alone."""
    return _draw(images_BCHW, ids, seed, parts, lambda empty, source: empty.uniform_(low, high, generator=source))


def normal(images_BCHW: Tensor, ids: Sequence[str], seed: int, *parts: object) -> Tensor:
    """Standard normal numbers in the shape of the images, a function of (seed, parts, image id) alone."""
    return _draw(images_BCHW, ids, seed, parts, lambda empty, source: empty.normal_(generator=source))


def cross_entropy(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Cross-entropy of each image, (B,), in single precision at least: in half of it small losses are zero."""
    precise_BK = logits_BK.to(torch.promote_types(logits_BK.dtype, torch.float32))
    return F.cross_entropy(precise_BK, labels_B, reduction="none")


def margin(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """z_y - max over the other classes, (B,): negative where the image is misclassified.

    The label's logit is masked with -inf; multiplying by (1 - onehot) instead would put a 0 among the others.
    """
    true_B = logits_BK.gather(1, labels_B[:, None]).squeeze(1)
    return true_B - logits_BK.scatter(1, labels_B[:, None], float("-inf")).amax(dim=1)


def require_classes(attack: str, classes: int) -> None:
    """Raises UsageError where the targeted DLR loss is not defined."""
    if classes < FEWEST_CLASSES:
        raise UsageError(
            f"{attack}: the model has {classes} classes, and the targeted DLR loss needs {FEWEST_CLASSES}; use pgd"
        )


def likely_targets(logits_BK: Tensor, targets: int) -> Tensor:
    """The most probable classes after the first, (B, T): at most so many, and all where there are fewer."""
    order_BK = logits_BK.sort(dim=1)[1].flip(1)
    return order_BK[:, 1 : 1 + targets]


def most_targets(model: object, targets: int) -> int:
    """How many `likely_targets` there can be for a model."""
    classes = getattr(model, "num_classes", None)
    return targets if classes is None else min(targets, classes - 1)


def targeted_dlr(logits_BK: Tensor, labels_B: Tensor, targets_B: Tensor) -> Tensor:
    """(z_t - z_y) / (z_1 - (z_3 + z_4) / 2), where z_1 >= z_2 >= ... are the sorted logits (equation 7), (B,)."""
    sorted_BK = logits_BK.sort(dim=1)[0]
    gap_B = sorted_BK[:, -1] - 0.5 * (sorted_BK[:, -3] + sorted_BK[:, -4])
    ahead_B = logits_BK.gather(1, labels_B[:, None]) - logits_BK.gather(1, targets_B[:, None])
    return -ahead_B.squeeze(1) / (gap_B + 1e-12)


def misclassified(logits_BK: Tensor, labels_B: Tensor) -> Tensor:
    """Where the prediction (argmax, as the harness judges it) is not the label, (B,) bool."""
    return logits_BK.argmax(dim=1) != labels_B


def gradient(loss_B: Tensor, variable: Tensor, retain_graph: bool = False) -> Tensor:
    """Gradient of each image's own loss: the sum over the batch leaves images independent.

    Only `variable` gets a gradient: none is computed for weights, and nothing is written to `.grad`.
    """
    if not loss_B.requires_grad:
        raise ModelError("the logits carry no gradient back to the images; gradient attacks cannot run on this model")
    return torch.autograd.grad(loss_B.sum(), variable, retain_graph=retain_graph)[0]


def slope_of(
    model: Classifier, current: Tensor, labels_B: Tensor, targets_B: Tensor | None, before: Tensor, wanted: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, K), each image's loss (B,), and the slope of that where it is `wanted`, else the one `before`.

    The loss is the cross-entropy, or with targets the targeted DLR loss.
    """
    variable = current.detach().requires_grad_(wanted)
    with torch.enable_grad():
        logits_BK = model(variable)
        loss_B = (
            cross_entropy(logits_BK, labels_B) if targets_B is None else targeted_dlr(logits_BK, labels_B, targets_B)
        )
        slope = gradient(loss_B, variable) if wanted else before
    return logits_BK, loss_B.detach(), slope


def check_passes(attack: str, eot: int) -> None:
    """Raises UsageError unless so many passes of a model that draws can be averaged."""
    if eot < 1:
        raise UsageError(f"{attack}: eot={eot} is not possible; give the number of passes to average, 1 or more")


def averaged(
    model: Classifier, variable: Tensor, labels_B: Tensor, passes: int
) -> tuple[Tensor, Tensor, Callable[[], Tensor]]:
    """Logits (B, K), cross-entropy (B,) and, on demand, its gradient: means over so many passes of a model that draws.

    The gradient of all passes but the last is taken at once, so that one graph is kept at a time. One pass is one call
    of the model and at most one gradient, as without averaging.
    """
    logits_BK, loss_B, slope = torch.zeros(()), torch.zeros(()), torch.zeros(())
    for _ in range(passes - 1):
        one_BK = model(variable)
        one_B = cross_entropy(one_BK, labels_B)
        if variable.requires_grad:
            slope = slope.to(variable) + gradient(one_B, variable)
        logits_BK, loss_B = logits_BK.to(one_BK) + one_BK.detach(), loss_B.to(one_B) + one_B.detach()
    last_BK = model(variable)
    last_B = cross_entropy(last_BK, labels_B)
    if passes == 1:
        return last_BK, last_B, lambda: gradient(last_B, variable)
    means = (logits_BK + last_BK.detach()) / passes, (loss_B + last_B.detach()) / passes
    return *means, lambda: (slope + gradient(last_B, variable)) / passes


def mean_of(model: Classifier, passes: int) -> Classifier:
    """The mean logits of so many passes of a model that draws; the model itself for one."""
    if passes == 1:
        return model
    return lambda images_BCHW: torch.stack([model(images_BCHW) for _ in range(passes)]).mean(dim=0)


def room_for(batch_size: int | None, passes: int) -> int | None:
    """Images of which the graphs of so many passes are kept at a time, where one pass takes `batch_size` of them."""
    return max(1, batch_size // passes) if batch_size else None


class Adam:
    """Adam (arXiv:1412.6980, algorithm 1) for images that come and go: each counts its own steps."""

    def __init__(self, variable: Tensor, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> None:
        self.mean, self.square = torch.zeros_like(variable), torch.zeros_like(variable)
        self.count_B = variable.new_zeros(len(variable))
        self.betas, self.eps = betas, eps

    def step(self, gradient: Tensor, lr: float | Tensor, at: slice = slice(None)) -> Tensor:
        """The change that descends along `gradient`, of the images `at`; `lr` is a number or one for each image, (B,).

        m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps), with the corrections taken together in one factor.
        """
        self.count_B[at] += 1
        first, second = self.betas
        mean, square, count_B = self.mean[at], self.square[at], self.count_B[at]
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root_B = (1 - second**count_B).sqrt()
        scale = square.sqrt().add_(per_image(self.eps * root_B, gradient))
        return torch.div(mean, scale, out=scale).mul_(per_image(-lr * root_B / (1 - first**count_B), gradient))

    def keep(self, active_B: Tensor) -> None:
        """Forget the images where `active_B` is False."""
        self.mean, self.square, self.count_B = self.mean[active_B], self.square[active_B], self.count_B[active_B]

    def grow(self, images: int) -> None:
        """Take in so many more images, at step 0."""
        self.mean, self.square, self.count_B = (
            torch.cat([rows, rows.new_zeros(images, *rows.shape[1:])])
            for rows in (self.mean, self.square, self.count_B)
        )


def blocks(images_BCHW: Tensor) -> list[slice]:
    """Images that are moved together: on a CPU as many as its cache holds, since arithmetic waits for memory there."""
    each = max(1, len(images_BCHW)) if images_BCHW.is_cuda else max(1, BLOCK // images_BCHW[0].numel())
    return [slice(start, start + each) for start in range(0, len(images_BCHW), each)]


def take(waiting: deque[Job], batch_size: int | None, present: int = 0) -> list[Job]:
    """Remove from the front of `waiting`, and return, as many jobs as a batch with `present` ones has room for."""
    free = len(waiting) if batch_size is None else max(batch_size, 1) - present
    return [waiting.popleft() for _ in range(min(free, len(waiting)))]


def logits_of(model: Classifier, images_BCHW: Tensor, batch_size: int | None) -> Tensor:
    """Logits (B, K) without a graph, of `batch_size` images at a time."""
    with torch.no_grad():
        return torch.cat([model(part) for part in images_BCHW.split(batch_size or max(len(images_BCHW), 1))])


def stream(seed: int, name: str, image_id: str) -> torch.Generator:
    """The draws of one image, on the CPU: the same numbers on every device."""
    return torch.Generator().manual_seed(derive_seed(seed, name, image_id) % 2**32)


def check_threat(attack: str, threat: ThreatModel, norms: Sequence[str], bounded: bool = True) -> float:
    """The budget eps (infinity where `bounded` is False). Raises UsageError unless the attack can keep to it."""
    if threat.norm not in norms:
        raise UsageError(f"{attack}: threat model '{threat}' is not supported; give norm {' or '.join(norms)}")
    if not bounded and threat.eps is None:
        return float("inf")
    if not bounded or threat.eps is None or threat.eps < 0:
        needed = "an eps >= 0" if bounded else "no eps, the attack is unbounded"
        raise UsageError(f"{attack}: threat model '{threat}' does not fit; give {needed}")
    return threat.eps
