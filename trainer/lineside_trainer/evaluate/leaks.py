"""Scores that need no model: whether good and bad images differ by how they were taken.

Where the size, the sharpness or the brightness of an image tells a bad part from a good one, a
model can learn that instead of the defect, and its figures say nothing of other images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from lineside.metrics import auroc
from lineside_trainer.runs.anomaly_results import Leak, Leaks

FloatArray = NDArray[np.float64]

SUSPICIOUS: Final = 0.9
"""An AUROC that no score may reach which knows nothing of the part."""

_SIGNS: Final = {
    "size": ("pixels of the frame as acquired", "large", "small"),
    "blur": ("variance of the Laplacian", "sharp", "blurred"),
    "brightness": ("mean brightness", "bright", "dark"),
    "colour": ("mean colour, its distance from good training images", "unusual", "usual"),
}


def trivial_scores(
    sizes_hw: NDArray[np.int64],
    images_nhwc: NDArray[np.uint8],
    good_nhwc: NDArray[np.uint8],
) -> dict[str, FloatArray]:
    """A few figures an image that need no model.

    Args:
        sizes_hw: (N, 2) height and width of the frames as acquired, px.
        images_nhwc: (N, H, W, 1 or 3) uint8 at the model's input size, RGB.
        good_nhwc: (K, H, W, 1 or 3) uint8, good training images, K at least 1.

    Returns:
        (N,) each: "size", px; "blur", the variance of the Laplacian of the gray image (Pech-Pacheco
        et al. 2000): low where it is blurred; "brightness", its mean in 0..255; and, with three
        channels, "colour", the Mahalanobis distance of the mean colour from those of good images.
    """
    grays = [_gray(image) for image in images_nhwc]
    found = {
        "size": np.asarray(sizes_hw, dtype=np.float64).prod(axis=1),
        "blur": np.array([cv2.Laplacian(gray, cv2.CV_64F).var() for gray in grays]),
        "brightness": np.array([float(gray.mean()) for gray in grays]),
    }
    if images_nhwc.shape[3] == 3:
        found["colour"] = _unusual_colours(images_nhwc, good_nhwc)
    return found


def _unusual_colours(images_nhwc: NDArray[np.uint8], good_nhwc: NDArray[np.uint8]) -> FloatArray:
    colours, usual = (images.mean(axis=(1, 2)) for images in (images_nhwc, good_nhwc))  # (N, 3)
    covariance = np.cov(usual.T, ddof=0) if len(usual) > 1 else np.zeros((3, 3))
    # A gray value's rounding at least, for images that are all alike.
    inverse = np.linalg.inv(covariance + np.eye(3) / 12.0)
    from_usual = colours - usual.mean(axis=0)
    squared: FloatArray = np.einsum("nc,cd,nd->n", from_usual, inverse, from_usual)
    return np.sqrt(squared)


def find_leaks(bad: ArrayLike, scores: Mapping[str, ArrayLike]) -> Leaks:
    """How well each tells bad images from good ones, in the better of both directions.

    Args:
        bad: (N,) bool.
        scores: (N,) each, of ``trivial_scores``.
    """
    member = np.asarray(bad, dtype=np.bool_)
    share = float(member.mean()) if member.size else 0.0
    return Leaks(
        scores={name: _leak(member, values) for name, values in scores.items()},
        # Precision is the share of bad images, recall is 1.
        all_anomalous_f1=2.0 * share / (1.0 + share) if share > 0.0 else None,
    )


def turned_to_bad(leaks: Leaks, scores: Mapping[str, ArrayLike]) -> dict[str, FloatArray]:
    """The scores in their better direction, for plots: higher means more likely bad."""
    return {
        name: (1.0 if leaks.scores[name].higher_is_bad else -1.0) * np.asarray(values, np.float64)
        for name, values in scores.items()
    }


def warn_of_leaks(leaks: Leaks, model_auroc: float | None) -> str:
    """What to look at where one of them is suspicious or beats the model; "" where none is.

    It cannot say why: a lamp that was moved tells bad from good, and so does a bright crack.

    Args:
        leaks: of the test images.
        model_auroc: of the score that the candidate gives; None where there is none.
    """
    known = {name: leak.auroc for name, leak in leaks.scores.items() if leak.auroc is not None}
    if not known:
        return ""
    name = max(known, key=lambda one: known[one])
    best, beaten = known[name], model_auroc is not None and known[name] >= model_auroc
    if best < SUSPICIOUS and not beaten:
        return ""
    than = f", no worse than the model's {model_auroc:.3f}" if beaten else ""
    doubt = (
        "see whether good and bad images were taken under other conditions (a model's figures are "
        "then those of the camera), or the defect itself shows in it"
    )
    weak = "the model is not worth its cost yet: more epochs, or another network or score"
    advice = "; ".join(
        words for words, told in ((doubt, best >= SUSPICIOUS), (weak, beaten)) if told
    )
    return (
        f"{name} alone tells bad images from good ones with an AUROC of {best:.3f}{than} "
        f"({describe_leak(name, leaks.scores[name])}): {advice}"
    )


def describe_leak(name: str, leak: Leak) -> str:
    """Which direction was the better one, in words."""
    what, high, low = _SIGNS.get(name, (name, "high", "low"))
    return f"{what}: bad ones are {high if leak.higher_is_bad else low}"


def tabulate_leaks(leaks: Leaks) -> dict[str, str]:
    """A row for each, for reports."""
    rows = {
        f"{name} alone": (
            "undefined: it takes good and bad images"
            if leak.auroc is None
            else f"AUROC {leak.auroc:.3f} ({describe_leak(name, leak)}; the better of both "
            "directions, so chance lies above 0.5)"
        )
        for name, leak in leaks.scores.items()
    }
    if leaks.all_anomalous_f1 is not None:
        rows["every image called anomalous"] = f"F1 {leaks.all_anomalous_f1:.3f}"
    return rows


def _leak(bad: NDArray[np.bool_], values: ArrayLike) -> Leak:
    area = float(auroc(bad, values))
    if np.isnan(area):
        return Leak(auroc=None, higher_is_bad=True)
    return Leak(auroc=max(area, 1.0 - area), higher_is_bad=area >= 0.5)


def _gray(image_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image_hwc.shape[2] == 1:
        return image_hwc[:, :, 0]
    gray: NDArray[np.uint8] = cv2.cvtColor(image_hwc, cv2.COLOR_RGB2GRAY).astype(np.uint8)
    return gray
