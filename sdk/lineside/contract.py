"""What goes into a model and what comes out: the words trainer, exporter and device share.

Every structure refuses unknown keys; ``decode_contract`` names the path of what is wrong.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import msgspec

from lineside.errors import ConfigurationError

Pixel = Annotated[int, msgspec.Meta(gt=0, le=16384)]
Channels = Literal[1, 3]


class FrameSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Frames the model was made for; another frame is refused, not stretched in silence.

    Attributes:
        size_hw: height and width in pixels; ``None`` where training frames differed in size.
        channels: 1 gray, 3 RGB. A gray picture stored as three equal channels counts as 3.
        bit_depth: 8 or 16.
        window: pixel values that become 0 and 255 in a 16-bit frame (camera's black and white).
    """

    size_hw: tuple[Pixel, Pixel] | None
    channels: Channels
    bit_depth: Literal[8, 16] = 8
    window: tuple[int, int] = (0, 65535)

    def __post_init__(self) -> None:
        if not 0 <= self.window[0] < self.window[1] <= 65535:
            raise ValueError(f"window {self.window}: black must lie below white, both in 0..65535")


class InputSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The graph's input: (N, H, W, C) uint8, raw pixels; normalisation is inside the graph."""

    name: str = "image"
    size_hw: tuple[Pixel, Pixel]
    channels: Channels


class OutputSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One output of the graph: float32, (N, *shape)."""

    name: str
    shape: tuple[int, ...] = ()
    unit: str = "1"


class MemorySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The graph's second input: patches that it compares an image's with.

    How many there are is not part of the promise, so that a memory can be exchanged for a larger or
    a smaller one without touching the model.

    Attributes:
        name: of the input, (M, width) float32, M open.
        width: of a patch's embedding.
    """

    name: str = "memory"
    width: Annotated[int, msgspec.Meta(ge=1, le=65536)]


class RegressionHead(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="regression",
):
    """The score is one output's value, already in the target's unit.

    Attributes:
        output: the name of the graph's output, shape () per image.
        target: the column it was trained on, for people.
    """

    output: str = "value"
    target: str

    @property
    def takes(self) -> str:
        """Which shape the output must have, in words."""
        return "one value an image: [] or [1]"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether this head can read an output of such a shape per image."""
        return math.prod(shape) == 1


class ClassificationHead(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="classification",
):
    """The score is the probability of any defect: 1 less those of the good classes, in 0..1.

    Attributes:
        output: the name of the graph's output, shape (classes,) per image: probabilities that sum
            to 1, the graph's last step being a softmax.
        target: the column it was trained on, for people.
        classes: what each probability is of, in order.
        good: which of them a part may be of and be OK; neither none nor all.
    """

    output: str = "probability"
    target: str
    classes: tuple[str, ...]
    good: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_names("classes", self.classes)
        _check_names("good", self.good)
        if len(self.classes) < 2:
            raise ValueError(f"classes {list(self.classes)}: at least two are needed to tell apart")
        _check_known(self.good, self.classes)
        if not 0 < len(self.good) < len(self.classes):
            raise ValueError(
                f"good {list(self.good)}: at least one class must be good and one a defect, of "
                f"{', '.join(self.classes)}"
            )

    @property
    def takes(self) -> str:
        """Which shape the output must have, in words."""
        return f"a probability for each class: [{len(self.classes)}]"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether this head can read an output of such a shape per image."""
        return shape == (len(self.classes),)


class AnomalyHead(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag="anomaly",
):
    """The score is how unlike the good parts of training an image is; higher is more anomalous.

    Attributes:
        output: the name of the graph's output with the score, shape () per image.
        map: the name of the output that says where, shape (h, w) per image, spread evenly over the
            graph's input; "" where there is none.
        region_limit: map values beyond this belong to a region that a finding names; where no
            value is, the finding names the one around the map's peak.
        target: the column that says which parts are good, for people; "" where all are.
        classes: what that column holds, in the order of the samples' targets.
        good: which of them a part may be of and be OK; all of them where only good parts are known.
    """

    output: str = "score"
    map: str = ""
    region_limit: float = 0.0
    target: str = ""
    classes: tuple[str, ...] = ("good", "bad")
    good: tuple[str, ...] = ("good",)

    def __post_init__(self) -> None:
        _check_names("classes", self.classes)
        _check_names("good", self.good)
        _check_known(self.good, self.classes)
        if not self.good:
            raise ValueError("good: at least one class must be good, of " + ", ".join(self.classes))
        if not math.isfinite(self.region_limit):
            raise ValueError(f"region_limit {self.region_limit}: a finite number is needed")

    @property
    def takes(self) -> str:
        """Which shape the output must have, in words."""
        return "one score an image: [] or [1]"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether this head can read an output of such a shape per image."""
        return math.prod(shape) == 1


# A new head is one line here, one file in lineside/heads, and one line in its registry.
HeadSpec = RegressionHead | ClassificationHead | AnomalyHead
LabelledHead = ClassificationHead | AnomalyHead
"""Heads whose samples' targets are places in ``classes``, of which ``good`` ones may be OK."""


def _check_names(field: str, names: tuple[str, ...]) -> None:
    if len(set(names)) != len(names) or "" in names:
        raise ValueError(f"{field} {list(names)}: each must be a name, and stand there once")


def _check_known(good: tuple[str, ...], classes: tuple[str, ...]) -> None:
    strange = [name for name in good if name not in classes]
    if strange:
        raise ValueError(f"good: {strange[0]!r} is none of the classes: {', '.join(classes)}")


class LimitRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Score to evaluation. Between the two limits nothing is decided: a human looks.

    Attributes:
        ok_limit: scores up to here (down to, when lower is worse) are ``OK``.
        not_ok_limit: scores beyond this are ``NOT_OK``; equal to ``ok_limit`` leaves no gap.
        worse: which end of the scale is the bad one.
        unit: of both limits.
    """

    ok_limit: float
    not_ok_limit: float
    worse: Literal["higher", "lower"] = "higher"
    unit: str = "1"

    def __post_init__(self) -> None:
        gap = self.not_ok_limit - self.ok_limit
        if not (gap >= 0 if self.worse == "higher" else gap <= 0):
            raise ValueError(
                f"ok_limit {self.ok_limit} and not_ok_limit {self.not_ok_limit} cross: "
                f"with {self.worse} scores being worse, the first must come before the second"
            )

    @property
    def sign(self) -> float:
        """1 or -1: times this, exactly, scores and limits are higher where they are worse."""
        return 1.0 if self.worse == "higher" else -1.0


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole promise of a candidate, sealed unchanged into its bundle.

    Attributes:
        product: what kind of part it judges, e.g. ``led-joint``.
        frame: which frames are accepted.
        input: what the graph takes.
        outputs: what the graph gives, in order.
        memory: what else the graph takes; ``None`` where it takes the image alone.
        head: how outputs become a score.
        proposed_rule: the trainer's proposal, e.g. the limit of the paper; the exporter decides.
    """

    version: Literal[1] = 1
    product: str
    frame: FrameSpec
    input: InputSpec
    outputs: tuple[OutputSpec, ...]
    memory: MemorySpec | None = None
    head: HeadSpec
    proposed_rule: LimitRule | None = None

    def __post_init__(self) -> None:
        names = [output.name for output in self.outputs]
        if len(set(names)) != len(names):
            raise ValueError(f"outputs: a name stands there twice: {', '.join(names)}")
        scored = [output for output in self.outputs if output.name == self.head.output]
        if not scored:
            raise ValueError(
                f"head.output {self.head.output!r} is not among the outputs: {', '.join(names)}"
            )
        if not self.head.fits(scored[0].shape):
            raise ValueError(
                f"head.output {self.head.output!r} has shape {list(scored[0].shape)}; "
                f"this head takes {self.head.takes}"
            )
        if self.memory is not None and self.memory.name == self.input.name:
            raise ValueError(f"memory.name {self.memory.name!r} is the name of the input already")
        if isinstance(self.head, AnomalyHead) and self.head.map:
            self._check_map(self.head.map)

    def _check_map(self, name: str) -> None:
        found = [output for output in self.outputs if output.name == name]
        if not found:
            raise ValueError(f"head.map {name!r} is not among the outputs")
        if len(found[0].shape) != 2 or min(found[0].shape) < 1:
            raise ValueError(
                f"head.map {name!r} has shape {list(found[0].shape)}; a map is [height, width]"
            )


def encode_contract(contract: Contract) -> bytes:
    """Readable JSON, two spaces of indentation, keys in the order of the definition."""
    return msgspec.json.format(msgspec.json.encode(contract), indent=2) + b"\n"


def decode_contract(data: bytes, *, source: str) -> Contract:
    """Read ``contract.json``.

    Raises:
        ConfigurationError: not JSON, an unknown or missing key, a value of the wrong kind.
    """
    try:
        return msgspec.json.decode(data, type=Contract)
    except (msgspec.DecodeError, ValueError) as error:
        raise ConfigurationError(f"{source}: {error}") from error
