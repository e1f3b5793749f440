"""What a frame costs before the engine sees it: decoding by format, and preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from lineside.contract import FrameSpec, InputSpec
from lineside.frame import Pixels, decode_frame
from lineside.preprocess import Workspace, prepare
from lineside_bench.turns import Micros, spread, take_turns

LARGE_HW: Final = (1536, 2048)


@dataclass(frozen=True, kw_only=True)
class FrameKind:
    """What a camera may give; ``suffix`` of its raw format is that of a portable pixmap."""

    name: str
    spec: FrameSpec

    @property
    def formats(self) -> dict[str, str]:
        """Name to suffix of what it can be stored as."""
        raw = "raw (PGM)" if self.spec.channels == 1 else "raw (PPM)"
        jpeg = {"JPEG": ".jpg"} if self.spec.bit_depth == 8 else {}
        return {"PNG": ".png", **jpeg, raw: ".pgm" if self.spec.channels == 1 else ".ppm"}


KINDS: Final = (
    FrameKind(name="64x64 gray", spec=FrameSpec(size_hw=(64, 64), channels=1)),
    FrameKind(name="1536x2048 gray", spec=FrameSpec(size_hw=LARGE_HW, channels=1)),
    FrameKind(name="1536x2048 colour", spec=FrameSpec(size_hw=LARGE_HW, channels=3)),
    FrameKind(
        name="1536x2048 gray, 16 bit",
        spec=FrameSpec(size_hw=LARGE_HW, channels=1, bit_depth=16, window=(100, 60_000)),
    ),
)
_INPUT: Final = InputSpec(size_hw=(64, 64), channels=1)


def picture(spec: FrameSpec) -> Pixels:
    """Soft shapes with a sensor's noise, (H, W, C): a compressor has work as with a part."""
    assert spec.size_hw is not None
    height, width = spec.size_hw
    random = np.random.default_rng(0)
    coarse = random.random((12, 16), np.float32)
    soft = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    # A tile of noise, since as much as a large frame holds takes longer than all that is measured.
    tile = random.normal(0, 0.01, (64, 64, spec.channels)).astype(np.float32)
    channels = (
        soft[:, :, None] + np.tile(tile, (-(-height // 64), -(-width // 64), 1))[:height, :width]
    )
    top = 2**spec.bit_depth - 1
    scaled: NDArray[np.float32] = np.clip(0.1 + 0.8 * channels, 0, 1) * top
    return scaled.astype(np.uint16) if spec.bit_depth == 16 else scaled.astype(np.uint8)


def measure_frames(*, rounds: int) -> list[dict[str, Any]]:
    """A row a frame and format for decoding, and a row a frame for preprocessing to 64x64 gray."""
    ways: dict[str, Callable[[int], object]] = {}
    told: dict[str, dict[str, str]] = {}
    for kind in KINDS:
        pixels = picture(kind.spec)
        for name, suffix in kind.formats.items():
            data = cv2.imencode(suffix, pixels)[1].tobytes()
            ways[f"{kind.name} {name}"] = _decoding(data)
            told[f"{kind.name} {name}"] = {"stage": "decode", "frame": kind.name, "format": name}
        ways[f"{kind.name} prepare"] = _preparing(pixels, kind.spec)
        told[f"{kind.name} prepare"] = {"stage": "preprocess", "frame": kind.name, "format": "-"}
    taken, _ = take_turns(ways, rounds=rounds, warm_up=3)
    return [{**told[name], **_figures(values)} for name, values in taken.items()]


def _decoding(data: bytes) -> Callable[[int], object]:
    return lambda _: decode_frame(data, source="frame")


def _preparing(pixels: Pixels, spec: FrameSpec) -> Callable[[int], object]:
    workspace, out = Workspace(), np.empty((*_INPUT.size_hw, _INPUT.channels), np.uint8)
    return lambda _: prepare(pixels, spec, _INPUT, workspace=workspace, out_hwc=out)


def _figures(values: Micros) -> dict[str, float]:
    return asdict(spread(values))
