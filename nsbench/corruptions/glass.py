"""glass_blur of ImageNet-C without its loop over pixels: the same result for the same draws, about 50 times faster.

The original walks over the pixels from bottom right to top left and "swaps" each with a random neighbour through
`x[h, w], x[h2, w2] = x[h2, w2], x[h, w]`. On a NumPy array the right-hand side holds views, so this copies the
neighbour and leaves it unchanged. A pixel thus ends as the neighbour's value of that moment: the neighbour's final
value if the walk has passed it already, its old value otherwise. These references form chains that end at an old
value, and pointer doubling follows all chains at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

Integers = Callable[[int, int, tuple[int, ...]], np.ndarray]  # (low, high, shape), high excluded


def glass_blur(image_HWC: np.ndarray, setting: tuple[Any, ...], integers: Integers) -> np.ndarray:
    """(H, W, 3) uint8 -> the same. Draws the integers that the original draws, in the same order, at once.

    The Gaussian is the original's, in double precision: it cuts to grey levels twice, and where an image is flat the
    rounding error decides between two of them.
    """
    from skimage.filters import gaussian

    def blurred(pixels_HWC: np.ndarray) -> np.ndarray:
        blurred_HWC: np.ndarray = gaussian(pixels_HWC / 255.0, sigma, channel_axis=-1)  # type: ignore[no-untyped-call]
        return blurred_HWC

    sigma, reach, rounds = setting
    pixels: np.ndarray = (blurred(image_HWC) * 255).astype(np.uint8)
    for _ in range(rounds):
        pixels = shuffle(pixels, reach, integers)
    pixels = (np.clip(blurred(pixels), 0, 1) * 255).astype(np.uint8)
    return pixels


def shuffle(pixels_HWC: np.ndarray, reach: int, integers: Integers) -> np.ndarray:
    """One walk over the image, each pixel taking the value of a neighbour at most `reach` away.

    `integers(low, high, shape)` draws the shifts (x, y) of all pixels, in the order of the walk.
    """
    height, width = pixels_HWC.shape[:2]
    visited, step_of = walk(height, width, reach)
    shifts = integers(-reach, reach, (len(visited), 2))
    neighbour = visited + shifts[:, 1] * width
    neighbour += shifts[:, 0]
    steps = np.arange(len(visited))
    earlier = step_of.take(neighbour)
    follow = np.where(earlier < steps, earlier, steps)  # itself: the chain ends here
    while True:
        further = follow.take(follow)
        if np.array_equal(further, follow):
            break
        follow = further
    flat = pixels_HWC.reshape(-1, pixels_HWC.shape[2])
    shuffled = flat.copy()
    shuffled[visited] = flat[neighbour.take(follow)]
    return shuffled.reshape(pixels_HWC.shape)


@lru_cache(maxsize=16)
def walk(height: int, width: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the pixels in the order of the walk, and the step at which it comes to each pixel of the image.

    It never comes to the margin: the step there is the number of all steps.
    """
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    visited = (rows[:, None] * width + columns).ravel()
    step_of = np.full(height * width, len(visited))
    step_of[visited] = np.arange(len(visited))
    return visited, step_of
