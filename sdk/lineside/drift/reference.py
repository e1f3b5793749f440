"""What was normal where the model was made: sealed into the bundle, read by the device.

Each statistic is kept as its own sorted values, so that a part's place among them is all that the
device computes; no distribution is presumed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.errors import BundleFormatError

DRIFT_PART: Final = "drift.msgpack"
EMBEDDING_OUTPUT: Final = "embedding_distance"
"""The graph's output with how far what the model sees lies from what it saw, (N,) float32."""
MAX_VALUES: Final = 1024
_VALUE_BYTES: Final = 4

Name = Literal["score", "embedding", "light", "clipping", "focus"]
NAMES: Final[tuple[Name, ...]] = ("score", "embedding", "light", "clipping", "focus")

# What is less than this is no deviation, in the statistic's own unit: light that differs by a
# hundredth of full scale, a two-hundredth more pixels clipped, a fourteenth more fine detail.
RESOLUTIONS: Final[dict[Name, float]] = {
    "score": 0.0,
    "embedding": 0.0,
    "light": 0.01,
    "clipping": 0.005,
    "focus": 0.1,
}


class Spread(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The values of one statistic.

    Attributes:
        values: sorted, little-endian float32; of more than `MAX_VALUES` measured, so many of them,
            evenly spaced by rank, the ends among them.
        measured: how many there were.
        resolution: deviations up to this are none, in the statistic's unit.
    """

    values: bytes
    measured: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    resolution: Annotated[float, msgspec.Meta(ge=0.0)] = 0.0

    @classmethod
    def from_values(cls, values: Sequence[float] | NDArray[np.floating[Any]], name: Name) -> Spread:
        """Keep what was measured.

        Args:
            values: at least one, finite.
            name: of the statistic.
        """
        ordered = np.sort(np.asarray(values, np.float64))
        kept = ordered
        if len(ordered) > MAX_VALUES:
            kept = ordered[np.linspace(0, len(ordered) - 1, MAX_VALUES).round().astype(np.int64)]
        return cls(
            values=kept.astype("<f4").tobytes(),
            measured=len(ordered),
            resolution=RESOLUTIONS[name],
        )

    @property
    def ordered(self) -> list[float]:
        """Its values, sorted; float32 as they were sealed."""
        return [float(value) for value in np.frombuffer(self.values, "<f4")]

    @property
    def rank_error(self) -> float:
        """How far a rank among the kept values may be from that among all that were measured."""
        # A value between two kept ones has the rank of the lower; their places are rounded too.
        return 0.0 if self.measured * _VALUE_BYTES == len(self.values) else 2.0 / MAX_VALUES


class FormSpreads(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one form of the model gives: fewer bits make other scores.

    Attributes:
        engine, precision: the form.
        score: of the rule.
        embedding: how far what the model sees lies from what it saw when it was made; ``None``
            where the graph does not tell.
    """

    engine: str
    precision: str
    score: Spread
    embedding: Spread | None = None


class DriftReference(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The part `DRIFT_PART`.

    Attributes:
        of: ``good``: the validation samples that are known to be good; ``all``: all of them.
        parts: how many independent parts they are worth, see `effective_parts`.
        light, clipping, focus: of the frames, see `lineside.drift.PictureStatistics`.
        forms: one for each form of the model in the bundle.
    """

    version: Literal[1] = 1
    of: Literal["good", "all"]
    parts: Annotated[float, msgspec.Meta(ge=1.0, le=2.0**31)]
    light: Spread
    clipping: Spread
    focus: Spread
    forms: tuple[FormSpreads, ...]

    def spreads(self, engine: str, precision: str) -> dict[Name, Spread]:
        """By statistic, in the order of `NAMES`; pictures only where the form is not known."""
        found: dict[Name, Spread | None] = dict.fromkeys(NAMES)
        for form in self.forms:
            if (form.engine, form.precision) == (engine, precision):
                found |= {"score": form.score, "embedding": form.embedding}
        found |= {"light": self.light, "clipping": self.clipping, "focus": self.focus}
        return {name: spread for name, spread in found.items() if spread is not None}


def effective_parts(images_per_part: Sequence[int]) -> float:
    """How many parts a set is worth whose parts have different numbers of images.

    A mean over all images gives a part the weight of its images, so the weights' squares decide
    (Kish 1965); equal numbers of images give the number of parts, however many images.
    """
    images = np.asarray(images_per_part, np.float64)
    return float(images.sum() ** 2 / (images**2).sum())


def rank(ordered: Sequence[float], value: float) -> float:
    """Where a value stands among sorted ones, 0..1; equal ones count half."""
    return (bisect_left(ordered, value) + bisect_right(ordered, value)) / (2.0 * len(ordered))


def encode_reference(reference: DriftReference) -> bytes:
    """The bytes of the part (MessagePack; the same for the same reference)."""
    return msgspec.msgpack.encode(reference)


def decode_reference(data: bytes | memoryview, *, source: str) -> DriftReference:
    """Read the part.

    Raises:
        BundleFormatError: not MessagePack, an unknown or missing key, or values that are none.
    """
    try:
        reference = msgspec.msgpack.decode(data, type=DriftReference)
    except (msgspec.DecodeError, ValueError) as error:
        raise BundleFormatError(f"{source}: no drift reference: {error}") from error
    named = {"light": reference.light, "clipping": reference.clipping, "focus": reference.focus}
    for form in reference.forms:
        label = f"{form.engine} {form.precision}"
        named[f"{label} score"] = form.score
        if form.embedding is not None:
            named[f"{label} embedding"] = form.embedding
    for name, spread in named.items():
        fault = _fault(spread)
        if fault:
            raise BundleFormatError(f"{source}: {name}: {fault}: export the bundle again")
    return reference


def _fault(spread: Spread) -> str:
    size = len(spread.values)
    if not size or size % _VALUE_BYTES or size > min(MAX_VALUES, spread.measured) * _VALUE_BYTES:
        return f"{size} bytes are not 1 to {min(MAX_VALUES, spread.measured)} float32 values"
    values = np.frombuffer(spread.values, "<f4")
    if not np.isfinite(values).all() or (np.diff(values) < 0).any():
        return "values that are not finite, or not sorted"
    return ""
