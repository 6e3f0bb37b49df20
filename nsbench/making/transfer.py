"""Transfer sets: clean images, attacked beforehand on a surrogate that the data source names.

`transfer/8` holds the images of `clean`, prepared as the surrogate sees them, after MI-FGSM (Dong et al. 2018,
arXiv:1710.06081) of l-inf 8/255 in ten steps on the surrogate, in 8 bits. They depend on the surrogate alone and not on
the model that is judged, so that all models and methods are judged on the very same pictures; each is made when it is
first asked for and kept in the cache. The split's digest and origin hold the digest of the surrogate's weights: figures
with different surrogates never share a column in silence.

A source with classes of its own, for which there is no DAmageNet, gets one in the same way: by the attack of
`damagenet_attack` on the surrogate.
"""

from __future__ import annotations

import hashlib
import io
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nsbench.attacks import mifgsm
from nsbench.data.decode import BROKEN
from nsbench.data.loading import batches
from nsbench.data.source import DataSource, Split, SurrogateName, Wrapped, digest_of
from nsbench.errors import DataError, MissingSplit, ModelError
from nsbench.files import OTHER_CACHE, cache_folder, read_regular, write_atomically, writing
from nsbench.making import damagenet_attack
from nsbench.models import Model, frozen, load_model, weights_digest
from nsbench.models.preprocessing import unit
from nsbench.models.subset import labels_within, over_classes
from nsbench.progress import SILENT, Progress
from nsbench.types import ThreatModel

TRANSFER = "transfer/"  # how the names of transfer sets begin
DAMAGENET = "damagenet"
STEPS = 10
PNG_END = b"IEND\xaeB`\x82"
DIGEST = -32  # where the digest begins
VERSION = 1  # raise it whenever a change can move a pixel


class Surrogate:
    """The model that transfer sets are made on; loaded when it is needed."""

    def __init__(self, named: SurrogateName) -> None:
        self.named = named

    @property
    def name(self) -> str:
        return self.named.name

    @cached_property
    def model(self) -> Model:
        return load_model(self.named.name, checkpoint=self.named.checkpoint)

    @cached_property
    def digest(self) -> str:
        """Of the weights."""
        return weights_digest(self.model)


class TransferSplit(Wrapped):
    """`base`, attacked on `surrogate` within eps = `k`/255."""

    def __init__(self, base: Split, surrogate: Surrogate, k: int) -> None:
        super().__init__(base)
        self.without_masks()
        self.surrogate, self.k = surrogate, k
        self.name = f"{TRANSFER}{k}"
        self.surrogate_digest, self.side = surrogate.digest, surrogate.model.input_size
        self.origin = f"attacked on {surrogate.name} (weights {surrogate.digest})"

    @cached_property
    def digest(self) -> str:
        """Over the clean images and all that shapes the change, apart from the machine's arithmetic."""
        model = self.surrogate.model
        prepared = (self.base.digest, self.surrogate.digest, model.preprocessing, model.mean, model.std)
        among = () if self.classes is None else ("among", self.classes)  # until 2026-12-01 attacked among all classes
        return digest_of("transfer", VERSION, *prepared, *self._attack, *among)

    @property
    def _attack(self) -> tuple[object, ...]:
        """What the digest holds of it."""
        return "mifgsm", STEPS, self.k

    def _attacked(self, model: Model, images_BCHW: torch.Tensor, labels_B: torch.Tensor, ids: list[str]) -> np.ndarray:
        """(B, H, W, 3) uint8. The model knows the split's classes alone, and labels are positions among them."""
        threat = ThreatModel("linf", self.k / 255)
        adversarial = mifgsm(model, images_BCHW, labels_B, ids=ids, seed=0, threat=threat, steps=STEPS)
        pixels_BHWC: np.ndarray = (adversarial * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return pixels_BHWC

    def load(self, index: int) -> Image.Image:
        try:
            return _kept(self.path(index))
        except BROKEN:
            self.base.load(index)  # one that cannot be read was never attacked, and says so here
            raise DataError(
                f"{self.path(index)}: vanished or was damaged; remove it and run the command again"
            ) from None

    def path(self, index: int) -> Path:
        """Where image `index` is kept."""
        name = hashlib.sha256(str(self.ids[index]).encode()).hexdigest()[:24]
        return cache_folder() / "transfer" / self.digest / f"{name}.png"

    def prepare(
        self,
        indices: np.ndarray,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
        workers: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        """Attack those of these images that are not kept yet; one that cannot be read is passed over."""
        missing = [index for index in indices.tolist() if not self.path(index).is_file()]
        if not missing:
            return
        model = over_classes(self.surrogate.model.to(device), self.classes)
        transform = model.preprocessing.transform()
        with progress.task(f"{self.name}: attacking {self.surrogate.name}", len(missing)) as advance, frozen(model):
            for batch in batches(
                self.base, transform, batch_size=batch_size, workers=workers, indices=missing, corrupt={}
            ):
                labels_B = labels_within(batch.labels, self.classes).to(device)
                pixels_BHWC = self._attacked(model, unit(batch.images, device), labels_B, batch.ids)
                for index, pixels_HWC in zip(batch.indices.tolist(), pixels_BHWC, strict=True):
                    _keep(self.path(index), pixels_HWC)
                advance(len(batch))

    def __getstate__(self) -> dict[str, object]:
        """For loader processes, which only read what is kept: without the surrogate's weights."""
        return {**self.__dict__, "digest": self.digest, "surrogate": None}


class DamageNetSplit(TransferSplit):
    """`base`, attacked on `surrogate` as an own DAmageNet is."""

    def __init__(self, base: Split, surrogate: Surrogate) -> None:
        super().__init__(base, surrogate, damagenet_attack.EPS)
        self.name = DAMAGENET

    @property
    def _attack(self) -> tuple[object, ...]:
        return DAMAGENET, damagenet_attack.STEPS, self.k

    def _attacked(self, model: Model, images_BCHW: torch.Tensor, labels_B: torch.Tensor, ids: list[str]) -> np.ndarray:
        pixels_BHWC = (images_BCHW * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        return damagenet_attack.perturb(model, pixels_BHWC, labels_B.cpu().numpy())


class TransferSource(DataSource):
    """A source with transfer sets beside its own splits, made on the model that it names, or on `surrogate`."""

    def __init__(self, base: DataSource, surrogate: Surrogate | None = None) -> None:
        self.base = base
        self.name, self.title, self.class_names = base.name, base.title, base.class_names
        self.default_model, self.default_recipe, self.root = base.default_model, base.default_recipe, base.root
        made_on = surrogate or (Surrogate(base.surrogate) if base.surrogate else None)
        self.surrogate, self._made_on = made_on.named if made_on else None, made_on

    @property
    def crop_pct(self) -> float | None:  # type: ignore[override]  # which a source may have to look at its pictures for
        return self.base.crop_pct

    def has_meaning(self, split: str) -> bool:
        return self.is_attacked(split) or self.base.has_meaning(split)

    def is_attacked(self, split: str) -> bool:
        """Whether this split is made on the surrogate."""
        return split.startswith(TRANSFER) or self._own_damagenet(split)

    def _own_damagenet(self, split: str) -> bool:
        return split == DAMAGENET and self._made_on is not None and not self.base.has_meaning(split)

    def splits(self) -> list[str]:
        return self.base.splits()

    def split(self, name: str, progress: Progress = SILENT) -> Split:
        if name.startswith(TRANSFER):
            return transfer_split(self.base, name, self._made_on, progress)
        if self._made_on and self._own_damagenet(name):
            return DamageNetSplit(self.base.split("clean", progress), _fitting(self._made_on, self.base))
        return self.base.split(name, progress)


def transfer_split(
    source: DataSource,
    name: str,
    surrogate: Surrogate | None,
    progress: Progress = SILENT,
) -> TransferSplit:
    """The split `transfer/K` of a source, for eps = K/255, K from 1 to 255.

    Raises MissingSplit where there is no surrogate, ModelError for one that knows other classes.
    """
    k = name.removeprefix(TRANSFER)
    if not (k.isdecimal() and 1 <= int(k) <= 255):
        raise MissingSplit(f"there is no split '{name}': give {TRANSFER}K for eps K/255, K from 1 to 255")
    if surrogate is None:
        raise MissingSplit(
            f"{source.title} names no surrogate to attack: give --surrogate NAME:CHECKPOINT, or the "
            'line surrogate = "NAME:CHECKPOINT" in a config file'
        )
    return TransferSplit(source.split("clean", progress), _fitting(surrogate, source), int(k))


def _fitting(surrogate: Surrogate, source: DataSource) -> Surrogate:
    """Raises ModelError for one of other classes."""
    if surrogate.model.num_classes != len(source.class_names):
        raise ModelError(
            f"surrogate '{surrogate.name}' has {surrogate.model.num_classes} classes, {source.title} has "
            f"{len(source.class_names)}; name one that was trained on these classes"
        )
    return surrogate


def _keep(path: Path, pixels_HWC: np.ndarray) -> None:
    """A PNG with its digest behind it, where readers of pictures do not look."""
    stream = io.BytesIO()
    Image.fromarray(pixels_HWC).save(stream, "PNG", compress_level=1)
    content = stream.getvalue()
    with writing(path, DataError, OTHER_CACHE):
        write_atomically(path, content + hashlib.sha256(content).digest())


def _kept(path: Path) -> Image.Image:
    """Raises one of BROKEN for a file that is absent or not what was kept. Older files end without a digest."""
    content = read_regular(path)
    if not content.endswith(PNG_END):
        content, digest = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("differs from its digest")
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        return image.convert("RGB")
