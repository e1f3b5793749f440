"""The baseline a network must beat: intensity statistics of an image and ridge regression.

Hoerl & Kennard 1970. The strength is chosen by cross-validation inside the training fold, by part
where there are enough, so that neither validation nor test samples take part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STRENGTHS: Final = tuple(float(10.0**power) for power in np.arange(-2.0, 5.5, 0.5))
"""Tried ones; the features are standardised, so they are in units of one image."""

_PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)
_STEEPNESS: Final = (50, 90, 99)
_BINS: Final = 16
_BLOCKS: Final = 8
_FOLDS: Final = 5
_AT_ONCE: Final = 512


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A fitted baseline.

    Attributes:
        mean: (F,) of the training features.
        std: (F,) likewise; 1 where a feature never changes.
        weights: (F, K) on standardised features.
        offset: (K,) the training targets' mean.
        strength: chosen from `STRENGTHS`.
    """

    mean: FloatArray
    std: FloatArray
    weights: FloatArray
    offset: FloatArray
    strength: float

    def predict(self, features: FloatArray) -> FloatArray:
        """(N, F) to (N, K) in the targets' unit."""
        standard: FloatArray = (features - self.mean) / self.std
        predicted: FloatArray = standard @ self.weights + self.offset
        return predicted


def intensity_features(images_nhwc: NDArray[np.uint8]) -> FloatArray:
    """Statistics of each image and channel that know nothing of where things are.

    Mean, deviation, skewness, percentiles and histogram of the intensities; size of the gradient
    along both axes, its energy and percentiles; deviation inside and between blocks.

    Args:
        images_nhwc: (N, H, W, C) uint8, 2 px a side at least.

    Returns:
        (N, F) float64; intensities in 0..1.
    """
    parts = [
        np.hstack([_of_channel(part[..., channel]) for channel in range(part.shape[3])])
        for part in np.array_split(images_nhwc, max(1, -(-len(images_nhwc) // _AT_ONCE)))
    ]
    return np.concatenate(parts)


def fit_ridge(features: FloatArray, targets: FloatArray, groups: NDArray[np.str_]) -> Ridge:
    """Choose the strength by cross-validation, then fit all.

    Args:
        features: (N, F).
        targets: (N, K), a column each output; one-hot for classes.
        groups: (N,) part ids; a part is never on both sides, unless there are too few of them.
    """
    strength = STRENGTHS[int(np.argmin(_held_out_errors(features, targets, groups)))]
    return _fit(features, targets, (strength,))[0]


def _of_channel(images_nhw: NDArray[np.uint8]) -> FloatArray:
    pixels = images_nhw.astype(np.float64) / 255.0
    flat = pixels.reshape(len(pixels), -1)
    mean, std = flat.mean(axis=1), flat.std(axis=1)
    centred = (flat - mean[:, np.newaxis]) / np.maximum(std, 1e-6)[:, np.newaxis]
    columns = [
        *(mean, std, (centred**3).mean(axis=1)),
        *np.percentile(flat, _PERCENTILES, axis=1),
        *_histogram(flat),
        *_gradient(pixels),
        *_blocks(pixels),
    ]
    return np.stack(columns, axis=1)


def _histogram(flat: FloatArray) -> list[FloatArray]:
    bins = np.minimum((flat * _BINS).astype(np.int64), _BINS - 1)
    return [(bins == k).mean(axis=1) for k in range(_BINS)]


def _gradient(pixels_nhw: FloatArray) -> list[FloatArray]:
    down, right = np.gradient(pixels_nhw, axis=(1, 2))
    steep = np.hypot(down, right).reshape(len(pixels_nhw), -1)
    along = [np.abs(g).reshape(len(steep), -1).mean(axis=1) for g in (down, right)]
    return [*along, (steep**2).mean(axis=1), *np.percentile(steep, _STEEPNESS, axis=1)]


def _blocks(pixels_nhw: FloatArray) -> list[FloatArray]:
    """How rough it is inside blocks of an eighth of the image, and how blocks differ."""
    count, height, width = pixels_nhw.shape
    rows, columns = min(_BLOCKS, height), min(_BLOCKS, width)
    high, wide = height // rows, width // columns
    cut = pixels_nhw[:, : rows * high, : columns * wide]
    blocks = cut.reshape(count, rows, high, columns, wide).transpose(0, 1, 3, 2, 4)
    blocks = blocks.reshape(count, rows * columns, high * wide)
    inside, level = blocks.std(axis=2), blocks.mean(axis=2)
    return [inside.mean(axis=1), inside.max(axis=1), level.std(axis=1), np.ptp(level, axis=1)]


def _held_out_errors(
    features: FloatArray, targets: FloatArray, groups: NDArray[np.str_]
) -> FloatArray:
    """(S,) squared error of each strength, summed over held-out images and outputs."""
    fold_of_row = folds_by_part(groups)
    errors = np.zeros(len(STRENGTHS))
    for fold in np.unique(fold_of_row):
        held = fold_of_row == fold
        fitted = _fit(features[~held], targets[~held], STRENGTHS)
        errors += [((one.predict(features[held]) - targets[held]) ** 2).sum() for one in fitted]
    return errors


def folds_by_part(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """(N,) fold of each row, two at least: whole parts, or images where parts are few."""
    names, part_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < _FOLDS:
        return np.random.default_rng(0).permutation(len(groups)) % min(_FOLDS, len(groups))
    fold_of_part, filled = np.zeros(len(names), dtype=np.int64), np.zeros(_FOLDS)
    for part in np.argsort(-sizes, kind="stable"):
        fold_of_part[part] = int(np.argmin(filled))
        filled[fold_of_part[part]] += sizes[part]
    return fold_of_part[part_of_row]


def _fit(features: FloatArray, targets: FloatArray, strengths: tuple[float, ...]) -> list[Ridge]:
    """One for each strength, from one decomposition."""
    mean, std = features.mean(axis=0), features.std(axis=0)
    # A constant feature's deviation is rounding, and would blow it up on other images.
    std = np.where(std > 1e-9, std, 1.0)
    offset = targets.mean(axis=0)
    left, singular, right = np.linalg.svd((features - mean) / std, full_matrices=False)
    turned = left.T @ (targets - offset)
    return [
        Ridge(
            mean=mean,
            std=std,
            weights=right.T @ (turned * (singular / (singular**2 + strength))[:, np.newaxis]),
            offset=offset,
            strength=strength,
        )
        for strength in strengths
    ]
