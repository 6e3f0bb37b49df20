"""`nsbench nullspace fingerprint`: the fingerprint of a model, and what it says of suspects (section 6)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.errors import UsageError
from nsbench.laboratory import Bench, Images
from nsbench.laboratory.figures import FAINT, LINE, PALETTE, new_figure, picture_grid, plain, titles
from nsbench.laboratory.page import Sheet
from nsbench.laboratory.pictures import save_pictures
from nsbench.models import Model, load_model
from nsbench.models.untrained import untrained_model
from nsbench.nullspace.exact import patch_nullspace
from nsbench.nullspace.fingerprint import Fingerprint, Verification, make_fingerprint, verify
from nsbench.progress import ConsoleProgress

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OWNER, FRESH = "the owner's model", "fresh weights"


def named_models(bench: Bench, given: Sequence[str]) -> dict[str, Model]:
    """FILE (weights of the owner's architecture), MODEL=FILE, or a MODEL that comes with weights; by a short name."""
    models: dict[str, Model] = {}
    for words in given:
        name, _, file = words.rpartition("=")
        path = Path(file)
        alone = not name and not path.suffix and not os.path.exists(path)  # a model's name, no file
        model = load_model(
            words if alone else name or bench.model.name,
            checkpoint=None if alone else path,
            normalisation=bench.model.normalisation,
            device=bench.device,
        )
        short = words if alone else path.stem
        if short in models or short in (OWNER, FRESH):
            raise UsageError(f"two models would be called '{short}'; give files of different names")
        models[short] = model
    return models


def fingerprint_sheet(
    bench: Bench,
    images: Images,
    suspects: Mapping[str, Model],
    independent: Mapping[str, Model],
    *,
    strength: float = 0.25,
    noises: int = 4,
    decoys: int = 99,
    alpha: float = 0.01,
    tolerance: float | None = None,
    save: Path | None = None,
) -> Sheet:
    """Make the fingerprint of the bench's model and verify: the owner, the suspects, the independent models, and the
    owner's architecture with fresh weights. An independent model is held against the other ones."""
    space = patch_nullspace(bench.model, tolerance=tolerance)
    mark = make_fingerprint(space, images.pixels_BCHW, strength=strength, noises=noises, decoys=decoys, seed=bench.seed)
    everyone = {OWNER: bench.model, **suspects, **independent, **_fresh(bench)}
    found: dict[str, Verification] = {}
    with ConsoleProgress().task("verifying", len(everyone), unit="models") as advance:
        for name, model in everyone.items():
            others = {other: known for other, known in independent.items() if other != name}
            found[name] = verify(mark, model, others, alpha=alpha)
            advance()
    roles = {
        name: "suspect" if name in suspects else "independent" if name in independent else "control"
        for name in everyone
    }
    rows = [
        [
            name,
            roles[name],
            round(100 * one.agreement, 1),
            f"{100 * one.low:.1f} to {100 * one.high:.1f}",
            f"{100 * float(np.mean(one.decoys)):.1f}, {100 * max(one.decoys):.1f}",
            round(one.p_value, 4),
            None if one.p_independent is None else float(f"{one.p_independent:.2g}"),
            "yes" if one.owned else "no",
        ]
        for name, one in found.items()
    ]
    if save:
        save_pictures(mark.base_BCHW, images.ids, save / "base")
        save_pictures(mark.images(mark.noise_MCHW), images.ids, save / "fingerprint")
    claimed = [name for name in suspects if found[name].owned]
    return bench.write(
        "fingerprint",
        "Whose model is it? The owner's fingerprint",
        (
            f"{len(claimed)} of {len(suspects)} suspects share the owner's patch embedding at alpha = {alpha:g}."
            if suspects
            else "The owner's model and its controls; name suspects to verify them."
        ),
        ["model", "role", "kept %", "95 %", "decoys, most", "p", "p indep.", "shares"],
        rows,
        figures={"": verification_figure(found), "images": picture_figure(mark)},
        facts={
            "nullspace dimension": space.dimension,
            "tolerance": space.tolerance,
            "images": len(images.ids),
            "strength": strength,
            "noises": noises,
            "decoys": decoys,
            "alpha": alpha,
            "largest leak of the noise (tokens, l2)": float(space.leak(mark.noise_MCHW).max()),
        },
        notes=_notes(alpha, bool(independent), save),
        data={"verifications": {name: {**vars(one), "decoys": list(one.decoys)} for name, one in found.items()}},
        order=90,
    )


def _fresh(bench: Bench) -> dict[str, Model]:
    """The owner's architecture as timm initialises it; nothing where timm does not know it by this name."""
    name = bench.model.name
    if ":" in name:  # of another library
        return {}
    return {
        FRESH: untrained_model(
            name, seed=bench.seed, normalisation=bench.model.normalisation, num_classes=bench.model.num_classes
        ).to(bench.device)
    }


def _notes(alpha: float, independent: bool, save: Path | None) -> list[str]:
    notes = [
        "kept: share of images whose class stays under the owner's noise; decoys: the same under noises of other "
        "spans with the same power at every frequency and colour, mean and most. p: Monte Carlo, the suspect is "
        "unrelated; exact for fresh weights, an assumption for networks trained on alike images."
    ]
    notes.append(
        "p indep.: exact McNemar against each independent model, one-sided, the largest. shares: both at most "
        f"{alpha:g}."
        if independent
        else "No independent model was given, so what networks trained on alike "
        "images have in common is not controlled for; give some with --independent."
    )
    return notes + ([f"Pictures: {save / 'base'} and {save / 'fingerprint'}"] if save else [])


def verification_figure(found: Mapping[str, Verification]) -> Figure:
    """A row a model: decoys as ticks, the owner's noise as a dot with its interval."""
    figure, axes = new_figure(1, 1, width=6.4, height=0.9 + 0.42 * len(found))
    panel = axes[0, 0]
    for row, one in enumerate(found.values()):
        panel.plot(
            [100 * value for value in one.decoys],
            [row] * len(one.decoys),
            "|",
            color=FAINT,
            markersize=11,
            label="decoys" if row == 0 else None,
        )
        panel.plot([100 * one.low, 100 * one.high], [row, row], color=PALETTE[0], linewidth=2)
        panel.plot(
            [100 * one.agreement],
            [row],
            "o",
            color=PALETTE[0],
            markersize=7,
            clip_on=False,
            label="the owner's noise, 95 %" if row == 0 else None,
        )
        panel.annotate(
            f"p = {one.p_value:.2g}",
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
    panel.set_xlim(0, 101)
    panel.set_ylim(len(found) - 0.4, -0.6)
    panel.set_yticks(range(len(found)), list(found))
    panel.grid(axis="y", color=LINE)
    titles(panel, "Predictions that the noise leaves as they are", "share of images with the same class, %")
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def picture_figure(mark: Fingerprint, shown: int = 4) -> Figure:
    """Images without noise, with the owner's, and with a decoy's."""
    owner, decoy = mark.images(mark.noise_MCHW), mark.images(mark.decoys_JMCHW[0])
    rows: list[list[tuple[np.ndarray, str]]] = [
        [(plain(part[index]), caption) for index in range(min(shown, len(part)))]
        for part, caption in (
            (mark.base_BCHW, "image, contrast reduced"),
            (owner, "with the owner's noise"),
            (decoy, "with a decoy's noise"),
        )
    ]
    heads: list[Any] = [f"image {index + 1}" for index in range(len(rows[0]))]
    return picture_grid(heads, rows)
