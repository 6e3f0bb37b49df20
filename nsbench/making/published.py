"""Where the public sets lie: address, bytes, digest, source and licence of each file.

Sizes and SHA-256 are those that tensorflow/datasets publishes (checksums.tsv), the MD5 of ImageNet-C those of
ENSTA-U2IS-AI/torch-uncertainty. The licences are those of the authors' repositories; pictures keep their own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One file of a set."""

    address: str
    name: str  # that `--data` finds it by, relative to the folder of all sets
    digest: str  # "sha256:..." or "md5:...", of the file as it is fetched
    size: int | None = None  # bytes; None: the server tells


@dataclass(frozen=True)
class Published:
    """A set that anybody may fetch."""

    title: str
    files: tuple[File, ...]
    source: str  # page of its authors
    licence: str


BERKELEY = "https://people.eecs.berkeley.edu/~hendrycks"
V2 = "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main"
C = "https://zenodo.org/record/2235448/files"
MATCHED = "imagenetv2-matched-frequency"

SETS = {
    "a": Published(
        "ImageNet-A",
        (
            File(f"{BERKELEY}/imagenet-a.tar", "imagenet-a.tar",
                 "sha256:3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e", 687_552_512),
        ),
        "https://github.com/hendrycks/natural-adv-examples", "MIT",
    ),
    "r": Published(
        "ImageNet-R",
        (
            File(f"{BERKELEY}/imagenet-r.tar", "imagenet-r.tar",
                 "sha256:18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52", 2_191_079_936),
        ),
        "https://github.com/hendrycks/imagenet-r", "MIT",
    ),
    "v2": Published(
        "ImageNet-V2, matched frequency",
        (
            File(f"{V2}/{MATCHED}.tar.gz", f"{MATCHED}-format-val.tar.gz",
                 "sha256:f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c", 1_264_079_360),
        ),
        "https://github.com/modestyachts/ImageNetV2", "MIT",
    ),
    "v2-threshold-0.7": Published(
        "ImageNet-V2, threshold 0.7",
        (
            File(f"{V2}/imagenetv2-threshold0.7.tar.gz", "imagenetv2-threshold0.7-format-val.tar.gz",
                 "sha256:32142bfe998f9cfa4141be691f6a80eeb1e27b24bd532a668eb08c26d98897a2", 1_249_906_176),
        ),
        "https://github.com/modestyachts/ImageNetV2", "MIT",
    ),
    "v2-top-images": Published(
        "ImageNet-V2, top images",
        (
            File(f"{V2}/imagenetv2-top-images.tar.gz", "imagenetv2-top-images-format-val.tar.gz",
                 "sha256:85e4ace30f3f0d660152062254b8759dda66267b27f7ec0fd8d5768f1073a04b", 1_245_927_936),
        ),
        "https://github.com/modestyachts/ImageNetV2", "MIT",
    ),
    "sketch": Published(
        "ImageNet-Sketch",
        (
            File("https://drive.usercontent.google.com/download?id=1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA&confirm=t",
                 "imagenet-sketch.zip",
                 "sha256:4d3ce6b82a7c48aabf14aeac105eb533e75707f152cc858f55bfc022031a72ed", 7_593_573_012),
        ),
        "https://github.com/HaohanWang/ImageNet-Sketch", "MIT",
    ),
    "c": Published(
        "ImageNet-C",
        tuple(
            File(f"{C}/{name}.tar", f"imagenet-c/{name}.tar", f"md5:{digest}")
            for name, digest in (
                ("blur", "2d8e81fdd8e07fef67b9334fa635e45c"), ("digital", "89157860d7b10d5797849337ca2e5c03"),
                ("extra", "d492dfba5fc162d8ec2c3cd8ee672984"), ("noise", "e80562d7f6c3f8834afb1ecf27252745"),
                ("weather", "33ffea4db4d93fe4a428c40a6ce0c25d"),
            )
        ),
        "https://github.com/hendrycks/robustness", "CC BY 4.0",
    ),
}  # fmt: skip

EXPLAINED = {  # what is not fetched, and how it is had
    "clean": "ImageNet's terms have to be accepted by a person: https://image-net.org/download (ILSVRC2012_img_val.tar and "
    "the devkit), or https://www.kaggle.com/c/imagenet-object-localization-challenge; docs/data.md has their layouts",
    "train": "ImageNet's terms have to be accepted by a person: https://image-net.org/download, ILSVRC2012_img_train.tar",
    "stylized": "Its authors' script makes it from ImageNet: https://github.com/rgeirhos/Stylized-ImageNet",
    "damagenet": "Its authors hand it out: https://github.com/Sizhe-Chen/DAmageNet; 'nsbench data make damagenet' makes "
    "one of your own",
}
