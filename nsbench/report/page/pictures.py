"""The pictures of a suite's card: samples of what was evaluated, and the images that one row wins over another.

All pictures together keep to a budget, so that the page stays small; what it leaves out is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsbench.leaderboard import Table
from nsbench.leaderboard.samples import Album, Gallery, Picture, Swing, Swings

BUDGET = 425_000  # bytes of all pictures of a page
EACH = 5  # pictures of a suite with one condition, and of each list of images
FEW = 3  # a suite with more conditions than this shows one picture of each


@dataclass(frozen=True)
class SuitePictures:
    samples: Sequence[tuple[Gallery, Picture]]
    first: str  # label of the row that the samples are of, and that wins
    second: str
    swings: Swings | None
    left_out: bool  # because the page has no room


@dataclass
class PictureBook:
    """Pictures of one table for its suite cards, in the order of the columns."""

    album: Album
    pair: tuple[int, int]  # positions of the rows compared; the samples are of the first one
    left: int = BUDGET

    def suite(self, suite: str) -> SuitePictures | None:
        """None where nothing was kept and nothing can be compared."""
        table, (first, second) = self.album.table, self.pair
        labels = [table.rows[row].label for row in self.pair]
        found = _chosen(self.album.galleries(table.rows[first], suite))
        samples = [one for one in found if self._room(one[1].clean, one[1].adversarial, one[1].change)]
        swings = self.album.swings(suite, first, second, EACH) if first != second else None
        wanted = len(found) + (len(swings.won) + len(swings.lost) if swings else 0)
        if swings is not None:
            swings = Swings(self._shown(swings.won), self._shown(swings.lost), swings.images_won, swings.images_lost)
            swings = swings if swings.won or swings.lost else None
        if not samples and swings is None:
            return None
        shown = len(samples) + (len(swings.won) + len(swings.lost) if swings else 0)
        return SuitePictures(samples, labels[0], labels[1], swings, shown < wanted)

    def _shown(self, swings: Sequence[Swing]) -> tuple[Swing, ...]:
        """Without those that there is no room for."""
        return tuple(one for one in swings if self._room(one.clean))

    def _room(self, *pictures: str | None) -> bool:
        size = sum(len(one) for one in pictures if one)
        if size > self.left:
            return False
        self.left -= size
        return True


def picture_book(table: Table, pair: tuple[int, int], tables: int = 1) -> PictureBook:
    """`tables`: how many share the page's budget."""
    return PictureBook(Album(table), pair, BUDGET // tables)


def _chosen(galleries: Sequence[Gallery]) -> list[tuple[Gallery, Picture]]:
    if len(galleries) > FEW:
        return [(one, one.pictures[0]) for one in galleries]
    found = []
    for one in galleries:
        wrong, right = ([p for p in one.pictures if p.right is kind] for kind in (False, True))
        most = EACH // len(galleries)
        found += [(one, p) for p in (wrong[: most - most // 2] + right)[:most]]
    return found
