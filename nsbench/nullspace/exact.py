"""The exact nullspace of the patch embedding (arXiv 2403.10476, section 3.1, equations 1 and 2, table 1).

The patch embedding is linear: each patch vector x (length P = C * size * size) becomes W x + b with W (D x P). What W
maps to zero can be added to any image without changing a token, hence without changing the logits.

Two spaces. The model normalises inside: it sees (image - mean) / std, with one std per channel. W lives in that
*normalised* space, so a noise n in *pixel* units ([0, 1]) is null exactly where W (n / std) = 0. With S = diag(std),
the pixel nullspace is S null(W). The projection here is the orthogonal one of pixel space: of all null noises it gives
the nearest in the l2 norm of pixel units. Where std is the same for all channels the two spaces share their projection.

Shapes: B images, C = 3 channels, H x W pixels, N patches, P patch length, D embedding width, K nullspace dimension,
G groups (1, or 3 where each channel is taken by itself), R = min(D, P / G) singular values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from nsbench.errors import ModelError, UsageError
from nsbench.models import Model
from nsbench.models.model import Triple
from nsbench.randomness import derive_seed

CHANNELS = 3


@dataclass(frozen=True)
class PatchSpectrum:
    """Singular values of the patch embedding, and the rank that a tolerance makes of them."""

    patch_size: int  # side of a patch in pixels
    weight_DP: torch.Tensor  # float64, CPU; meets patches of normalised pixels
    singular_values_GR: torch.Tensor  # float64, descending; G = 1 for the whole matrix, 3 for one row per channel
    tolerance: float  # relative: a singular value counts if it is above tolerance x its group's largest
    rank: int  # summed over the groups

    @property
    def patch_length(self) -> int:
        """P."""
        return self.weight_DP.shape[1]

    @property
    def width(self) -> int:
        """D."""
        return self.weight_DP.shape[0]

    @property
    def dimension(self) -> int:
        """Of the nullspace: P - rank, the rank-nullity theorem."""
        return self.patch_length - self.rank

    @property
    def effective_rank(self) -> float:
        """exp of the entropy of the normalised singular values (Roy and Vetterli 2007); of the whole matrix."""
        shares = torch.linalg.svdvals(self.weight_DP)
        shares = shares / shares.sum()
        return float(torch.exp(torch.special.entr(shares).sum()))

    def tolerances(self, dimension: int) -> tuple[float, float] | None:
        """The relative tolerances [low, high) that make the nullspace of the whole matrix so large; None: none does."""
        values = torch.linalg.svdvals(self.weight_DP)
        relative = [math.inf, *(values / values[0]).tolist(), *[0.0] * (self.patch_length + 1 - len(values))]
        if not 0 <= dimension <= self.patch_length:
            return None
        rank = self.patch_length - dimension
        low, high = relative[rank + 1] if rank < self.patch_length else 0.0, relative[rank]
        return (low, high) if low < high else None


@dataclass(frozen=True)
class PatchNullspace(PatchSpectrum):
    """The nullspace of a patch embedding, ready to project images' noise onto it."""

    basis_PK: torch.Tensor  # float64, CPU; orthonormal columns in normalised pixel space: weight_DP @ basis_PK = 0
    std: Triple  # per channel, of the model's normalisation
    per_channel: bool  # True: each basis vector lives in one channel (equation 12); a smaller space

    @property
    def scale_P(self) -> torch.Tensor:
        """std of each entry of a patch vector: normalised = pixels / scale_P."""
        return _repeated(self.std, self.patch_length)

    @cached_property
    def pixel_basis_PK(self) -> torch.Tensor:
        """Orthonormal basis, float64, of the same noises in pixel units: the span of scale_P * basis_PK."""
        basis_PK: torch.Tensor = torch.linalg.qr(self.scale_P[:, None] * self.basis_PK).Q
        return basis_PK

    def project(self, noise_BCHW: torch.Tensor) -> torch.Tensor:
        """The null noise nearest to a noise (B, C, H, W), both in pixel units, in l2; device and type are kept.

        Raises UsageError where the height or width is no multiple of the patch size.
        """
        patches_BNP = to_patches(noise_BCHW, self.patch_size)
        basis_PK = self.pixel_basis_PK.to(noise_BCHW.device)
        nearest_BNP = (patches_BNP.double() @ basis_PK) @ basis_PK.T
        return from_patches(nearest_BNP.to(noise_BCHW.dtype), self.patch_size, _size(noise_BCHW))

    def sample(self, size: tuple[int, int], *, norm: float, count: int = 1, seed: int = 0) -> torch.Tensor:
        """Random noises (count, C, H, W) in pixel units, l2 norm `norm` each (equation 2): independent standard normal
        coefficients of the basis in every patch. Drawn on the CPU: noise i depends on (seed, i) alone."""
        height, width = size
        patches = (height // self.patch_size) * (width // self.patch_size)
        shape = (patches, self.pixel_basis_PK.shape[1])
        lambdas_BNK = torch.stack(
            [
                torch.randn(
                    shape,
                    dtype=torch.float64,
                    generator=torch.Generator().manual_seed(derive_seed(seed, "exact noise", index)),
                )
                for index in range(count)
            ]
        )
        noise_BCHW = from_patches(lambdas_BNK @ self.pixel_basis_PK.T, self.patch_size, size)
        scale_B: torch.Tensor = norm / noise_BCHW.flatten(1).norm(dim=1)
        return (noise_BCHW * scale_B.view(-1, 1, 1, 1)).float()

    def leak(self, noise_BCHW: torch.Tensor) -> torch.Tensor:
        """l2 norm (B,) of what a noise in pixel units does to the tokens, ||W (n / std)|| over all patches, float64."""
        scale_P, weight_DP = self.scale_P.to(noise_BCHW.device), self.weight_DP.to(noise_BCHW.device)
        patches_BNP = to_patches(noise_BCHW, self.patch_size).double() / scale_P
        leak_B: torch.Tensor = (patches_BNP @ weight_DP.T).flatten(1).norm(dim=1)
        return leak_B


def patch_spectrum(model: Model, *, per_channel: bool = False, tolerance: float | None = None) -> PatchSpectrum:
    """Singular values and numerical rank of a model's patch embedding; see `patch_nullspace`."""
    return _decompose(model, per_channel, tolerance)[0]


def patch_nullspace(model: Model, *, per_channel: bool = False, tolerance: float | None = None) -> PatchNullspace:
    """The exact nullspace of a model's patch embedding.

    `per_channel` takes the D x size^2 block of each channel by itself. `tolerance` is relative to the largest singular
    value; None is LINPACK's max(rows, columns) x the machine epsilon of the weights' own type, as in
    numpy.linalg.matrix_rank: rounding of the stored weights cannot be told from zero below it. The decomposition
    itself is computed in float64. Raises ModelError for a model without a linear patch embedding and for an empty
    nullspace, UsageError for a tolerance outside [0, 1).
    """
    spectrum, bases = _decompose(model, per_channel, tolerance)
    if spectrum.dimension == 0:
        block = spectrum.patch_length // len(bases)
        each = "each channel's patch vector" if per_channel else "the patch vector"
        raise ModelError(
            f"model '{model.name}': the patch embedding has an empty nullspace: {each} of length {block} meets a width "
            f"of {spectrum.width} at full rank (smallest / largest singular value "
            f"{float((spectrum.singular_values_GR[:, -1] / spectrum.singular_values_GR[:, 0]).min()):.1e}, tolerance "
            f"{spectrum.tolerance:.1e}); "
            + ("leave per-channel off, or choose" if per_channel else "choose")
            + " a model with a patch vector longer than its width, such as vit_tiny_patch16_224"
        )
    return PatchNullspace(**vars(spectrum), basis_PK=torch.block_diag(*bases), std=model.std, per_channel=per_channel)


def to_patches(images_BCHW: torch.Tensor, size: int) -> torch.Tensor:
    """Non-overlapping patches (B, N, P): the grid row by row, each patch flattened as Conv2d's weight (C, size, size).

    Raises UsageError where the images are not (B, C, H, W), or H or W is no multiple of the patch size.
    """
    if images_BCHW.ndim != 4:
        raise UsageError(f"images of shape {tuple(images_BCHW.shape)}: expected (B, C, H, W)")
    batch, channels, height, width = images_BCHW.shape
    if height % size or width % size or not height or not width:
        raise UsageError(
            f"images of {width}x{height} pixels cannot be cut into patches of {size}x{size}; "
            "resize or crop them to a multiple of the patch size"
        )
    grid = images_BCHW.reshape(batch, channels, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * size * size)


def from_patches(patches_BNP: torch.Tensor, size: int, image_size: tuple[int, int]) -> torch.Tensor:
    """Images (B, C, H, W) of the patches of `to_patches`; `image_size` is (H, W). Raises UsageError if they misfit."""
    height, width = image_size
    rows, columns = height // size, width // size
    batch, count, length = patches_BNP.shape
    if (rows * size, columns * size) != (height, width) or count != rows * columns or length % (size * size):
        raise UsageError(
            f"{count} patches of length {length} do not make an image of {width}x{height} pixels "
            f"in patches of {size}x{size}"
        )
    grid = patches_BNP.reshape(batch, rows, columns, length // (size * size), size, size)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(batch, -1, height, width)


def patch_projection(model: Model) -> nn.Conv2d:
    """The convolution that maps each patch to its token. Raises ModelError where there is none: a CNN, a hybrid."""
    embedding = model.patch_embed if model.patch_embed is not None else getattr(model.vit, "patch_embed", None)
    conv = getattr(embedding, "proj", None)
    if not isinstance(conv, nn.Conv2d):
        raise ModelError(
            f"model '{model.name}' has no patch embedding: no convolution 'patch_embed.proj'; the exact "
            "nullspace needs a vision transformer such as vit_tiny_patch16_224"
        )
    size = conv.kernel_size[0]
    plain = conv.kernel_size == conv.stride == (size, size) and conv.padding == (0, 0) and conv.dilation == (1, 1)
    if not plain or conv.groups != 1 or conv.in_channels != CHANNELS:
        raise ModelError(
            f"model '{model.name}': its patch embedding is no linear map of separate square RGB patches "
            f"(kernel {conv.kernel_size}, stride {conv.stride}, padding {conv.padding}, "
            f"{conv.in_channels} input channels); choose a plain vision transformer"
        )
    return conv


def _decompose(model: Model, per_channel: bool, tolerance: float | None) -> tuple[PatchSpectrum, list[torch.Tensor]]:
    """The spectrum, and an orthonormal basis of each group's nullspace: (P / G, K of that group)."""
    conv = patch_projection(model)
    weight_DP = conv.weight.detach().flatten(1).double().cpu()
    blocks = weight_DP.chunk(CHANNELS, dim=1) if per_channel else (weight_DP,)
    if tolerance is None:
        tolerance = max(blocks[0].shape) * torch.finfo(conv.weight.dtype).eps
    if not 0 <= tolerance < 1:
        raise UsageError(
            f"tolerance {tolerance:g} is relative to the largest singular value: give at least 0 and less than 1"
        )
    values, bases = [], []
    for block in blocks:
        _, values_R, right_PP = torch.linalg.svd(block)
        rank = int((values_R > tolerance * values_R[0]).sum())
        values.append(values_R)
        bases.append(right_PP[rank:].T)
    rank = weight_DP.shape[1] - sum(basis.shape[1] for basis in bases)
    return PatchSpectrum(conv.kernel_size[0], weight_DP, torch.stack(values), tolerance, rank), bases


def _repeated(std: Triple, length: int) -> torch.Tensor:
    return torch.tensor(std, dtype=torch.float64).repeat_interleave(length // CHANNELS)


def _size(images_BCHW: torch.Tensor) -> tuple[int, int]:
    return images_BCHW.shape[2], images_BCHW.shape[3]
