"""Views: what a method's loss sees of every training image beside the image itself.

Shapes: B images, V views of each, the first of which is the image as every method gets it; 3 colours, H x W pixels.
Draws are functions of (seed, position in the stream, image id) for pictures and of (seed, step) for batches, so they
depend neither on workers nor on how many images go through the model at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from nsbench import processes
from nsbench.data import Split
from nsbench.data.loading import Batch, batches
from nsbench.data.source import digest_of
from nsbench.errors import UsageError
from nsbench.models import Model
from nsbench.randomness import derive_seed
from nsbench.training.augment import Augmented, erase, mix, pixels, seeded
from nsbench.training.masked import Masked, mix_masked, with_masks
from nsbench.training.optimisation import laid_out
from nsbench.training.recipe import Recipe
from nsbench.training.shares import own_rows

PictureView = Callable[
    [Image.Image], Image.Image
]  # of the same size; draws from the global generators of the libraries
BatchView = Callable[[torch.Tensor], torch.Tensor]  # (B, 3, H, W) in [0, 1] -> the same shape; draws from torch


@dataclass(frozen=True)
class Views:
    """Further views of every training image; a method's `losses` then gets images (B, V, 3, H, W).

    First the image itself, then one view for each of `pictures`, made of the cropped and flipped picture, and last what
    `batch` makes of the view before it.
    """

    pictures: tuple[PictureView, ...] = ()
    batch: BatchView | None = None

    def check(self, recipe: Recipe) -> None:
        """Raises UsageError where the recipe leaves no view of an image."""
        if self.pictures and (recipe.mixup or recipe.cutmix):
            raise UsageError(
                f"recipe '{recipe.name}' mixes images (mixup {recipe.mixup:g}, cutmix {recipe.cutmix:g}), and this method "
                "compares views of one image; use --set mixup=0 --set cutmix=0"
            )


class Viewed(Split):
    """A stream of training images, each of them `1 + len(pictures)` times in a row: as it is, then its views."""

    def __init__(self, stream: Augmented, pictures: tuple[PictureView, ...]) -> None:
        self.stream, self.pictures, self.name, self.times = stream, pictures, stream.name, 1 + len(pictures)
        self.ids, self.labels = np.repeat(stream.ids, self.times), np.repeat(stream.labels, self.times)
        self._latest: tuple[int, Image.Image] | None = None  # whose views are asked for next

    def load(self, index: int) -> Image.Image:
        position, view = divmod(index, self.times)
        if self._latest is None or self._latest[0] != position:
            self._latest = position, self.stream.load(position)
        picture = self._latest[1]
        if view == 0:
            return picture
        seed = derive_seed(self.stream.seed, self.name, "view", view, position, self.stream.ids[position])
        with seeded(seed):
            return self.pictures[view - 1](picture)

    @property
    def digest(self) -> str:
        return digest_of(self.stream.digest, "views", self.times)


def training_batches(
    train: Split,
    recipe: Recipe,
    model: Model,
    *,
    views: Views | None,
    masks: bool,
    workers: int,
    begin: int,
    steps: int,
) -> Iterator[Batch]:
    """The training images of the steps from `begin` to `steps`: the same at the same step for every method.

    Of several processes each makes its own images alone, where a step needs no others for them.
    """
    kind = Masked if masks else Augmented
    stream = kind(train, recipe, model, stream="training", length=steps * recipe.batch_size)
    split = Viewed(stream, views.pictures) if views and views.pictures else stream
    rows = np.arange(recipe.batch_size) if needs_whole_batch(recipe, views) else own_rows(recipe)
    times = len(split) // len(stream)
    of_step = (rows[:, None] * times + np.arange(times)).flatten()
    found = batches(
        split,
        model.preprocessing.transform("none"),
        batch_size=len(of_step),
        workers=workers,
        indices=(np.arange(begin, steps)[:, None] * recipe.batch_size * times + of_step).flatten(),
    )
    return with_masks(found, stream) if isinstance(stream, Masked) else found


def needs_whole_batch(recipe: Recipe, views: Views | None) -> bool:
    """Whether an image of a step depends on the others: it is mixed with one, or a view is made of all of them."""
    return bool(recipe.mixup or recipe.cutmix or (views and views.batch))


def shown(
    batch: Batch, recipe: Recipe, model: Model, *, views: Views | None, step: int
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """What a step trains on: images (B, 3, H, W), or (B, V, 3, H, W) where there are views, targets, and masks, if any.

    Views of pictures are erased instead of the image itself: what a loss compares them with is the clean one. Of several
    processes each gets its own images of the step's batch.
    """
    if processes.count() == 1:
        return _all_shown(batch, recipe, model, views, step, None)
    rows = own_rows(recipe)
    if not needs_whole_batch(recipe, views):
        return _all_shown(batch, recipe, model, views, step, rows)
    images, targets, more = _all_shown(batch, recipe, model, views, step, None)
    places = torch.from_numpy(rows).to(images.device)
    return laid_out(images[places], recipe), targets[places], [one[places] for one in more]


def _all_shown(
    batch: Batch, recipe: Recipe, model: Model, views: Views | None, step: int, rows: np.ndarray | None
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """`shown` of all images of `batch`, which are these rows of the step's batch; None: all of it."""
    times = 1 + len(views.pictures) if views else 1
    first_BCHW, *others = pixels(batch, model.device).unflatten(0, (-1, times)).unbind(dim=1)
    if others:
        others = list(erase(torch.cat(others), recipe, model, rows).chunk(len(others)))
    else:
        first_BCHW = erase(first_BCHW, recipe, model, rows)
    labels = batch.labels[::times].to(model.device)
    if batch.masks is not None:
        images, masks, targets = mix_masked(first_BCHW, batch.masks.to(first_BCHW), labels, recipe, model.num_classes)
        return laid_out(images, recipe), targets, [masks]
    first_BCHW, targets = mix(first_BCHW, labels, recipe, model.num_classes)
    if views is None:
        return laid_out(first_BCHW, recipe), targets, []
    found = [first_BCHW, *others]
    if views.batch:  # with draws of its own, which leave those of the model to be the control's
        with seeded(derive_seed(recipe.seed, "training", "view", step), model.device):
            found.append(views.batch(found[-1]))
    return torch.stack(found, dim=1), targets, []
