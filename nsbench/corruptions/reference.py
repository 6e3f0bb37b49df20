"""The package `imagecorruptions` (1.1.2), made to run on today's NumPy and scikit-image and made deterministic.

We execute a private copy of its module `corruptions` and replace names in that copy alone. The installed package, and
the module that others get from `import imagecorruptions`, stay as they are. Replaced are
- `np.float_` (gone from NumPy 2; fog) and `gaussian(multichannel=)` (gone from scikit-image; glass and gaussian blur);
- `np.random`, by a generator of the current call and thread, so that NumPy's global state plays no part;
- `skimage.util.random_noise` (impulse_noise), which otherwise makes an unseeded generator of its own each time;
- `resource_filename` and `cv2.imread` (frost): found beside the package's own file, each texture read once;
- `print`: zoom_blur reports a handled size mismatch on standard output.

A second copy, which `corrupt` takes, also has the parts of `exact.py` instead of its own: it makes the same bytes in
half the time (glass_blur in 1/200 of it). The first is what benchmarks and tests compare with.
"""

from __future__ import annotations

import threading
import warnings
from functools import lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from nsbench.corruptions import exact
from nsbench.corruptions.glass import glass_blur
from nsbench.corruptions.settings import IMAGENET
from nsbench.errors import NsbenchError


class _Draws(threading.local):
    """The random numbers of the corruption that this thread is making."""

    key: int
    started: tuple[np.random.RandomState, np.random.Generator] | None = None

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> np.ndarray:
        numbers: np.ndarray = self.state.randint(low, high, size=shape)
        return numbers

    def seed(self, seed: int) -> None:
        """The stream itself starts with the first draw: six of the fifteen have none."""
        self.key, self.started = seed, None

    def _streams(self) -> tuple[np.random.RandomState, np.random.Generator]:
        if self.started is None:
            bits = np.random.MT19937(self.key)
            self.started = np.random.RandomState(bits), np.random.Generator(bits)
        return self.started

    @property
    def state(self) -> np.random.RandomState:
        return self._streams()[0]

    @property
    def generator(self) -> np.random.Generator:
        """The same stream, for code that wants a Generator."""
        return self._streams()[1]

    def __getattr__(self, name: str) -> Any:  # stands in for the module np.random
        return getattr(self.state, name)


class _Overlay:
    """A module, seen with a few of its names replaced."""

    def __init__(self, module: ModuleType, **replaced: Any) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


_draws = _Draws()
OF_PIL = ("jpeg_compression", "pixelate", "spatter")


def corrupt(image_HWC: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W, 3) uint8. As in the original, float results are truncated, not rounded."""
    _draws.seed(seed)
    if name == "glass_blur":
        return glass_blur(image_HWC, IMAGENET[name][severity - 1], _draws.integers)
    taken = Image.fromarray(image_HWC) if name in OF_PIL else image_HWC  # the others begin with np.array(image)
    corrupted = getattr(faster_module(), name)(taken, severity)
    return np.asarray(corrupted).astype(np.uint8)


@lru_cache(maxsize=1)
def module() -> ModuleType:
    """The repaired private copy. Its functions take a PIL image and a severity, and draw from `seed_draws`."""
    return _copy()


@lru_cache(maxsize=1)
def faster_module() -> ModuleType:
    """Another copy, with the parts of `exact.py`: the same images in less time."""
    copy = _copy()
    vars(copy).update(
        clipped_zoom=exact.clipped_zoom,
        _motion_blur=exact.motion_blur,
        np=_Overlay(copy.np, roll=exact.rolled),
        sk=_Overlay(copy.sk, color=_Overlay(copy.sk.color, rgb2hsv=exact.rgb2hsv, hsv2rgb=exact.hsv2rgb)),
        cv2=_Overlay(copy.cv2, resize=exact.resize_once()),
    )
    return copy


def _copy() -> ModuleType:
    folder = package_folder()
    spec = spec_from_file_location("nsbench_private.imagecorruptions", folder / "corruptions.py")
    assert spec is not None
    assert spec.loader is not None
    copy = module_from_spec(spec)
    with warnings.catch_warnings():  # pkg_resources and scipy.ndimage.interpolation are deprecated
        warnings.simplefilter("ignore")
        spec.loader.exec_module(copy)
    _repair(copy, folder)
    return copy


def package_folder() -> Path:
    """Of `imagecorruptions`, which is not imported. Raises NsbenchError where it is not installed."""
    package = find_spec("imagecorruptions")
    if package is None or not package.submodule_search_locations:
        raise NsbenchError("the package imagecorruptions is not installed; pip install 'imagecorruptions>=1.1.2'")
    return Path(package.submodule_search_locations[0])


def seed_draws(seed: int) -> np.random.RandomState:
    """Start the draws of this thread anew, and return their stream."""
    _draws.seed(seed)
    return _draws.state


def _repair(copy: ModuleType, folder: Path) -> None:
    import cv2
    import skimage
    from skimage.filters import gaussian
    from skimage.util import random_noise

    def gaussian_as_before(image: np.ndarray, sigma: Any = 1, multichannel: bool = False, **options: Any) -> np.ndarray:
        axis = -1 if multichannel else None
        blurred: np.ndarray = gaussian(image, sigma, channel_axis=axis, **options)  # type: ignore[no-untyped-call]
        return blurred

    def seeded_noise(image: np.ndarray, mode: str, **options: Any) -> np.ndarray:
        noisy: np.ndarray = random_noise(image, mode, rng=_draws.generator, **options)  # type: ignore[no-untyped-call]
        return noisy

    replaced: dict[str, Any] = {
        "np": _Overlay(np, float_=np.float64, random=_draws),
        "sk": _Overlay(skimage, util=_Overlay(skimage.util, random_noise=seeded_noise)),
        "cv2": _Overlay(cv2, imread=lru_cache(maxsize=6)(cv2.imread)),
        "gaussian": gaussian_as_before,
        "resource_filename": lambda _, name: str(folder / name),
        "print": lambda *_: None,
    }
    vars(copy).update(replaced)
