"""What is measured at one size: which bundle, which frames, how many of them at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.bundle import Bundle, load_trust, open_bundle
from lineside.bundle.manifest import ModelEntry
from lineside.engines import Engine, EngineSettings, open_engine
from lineside.engines.several import SeveralEngine, SeveralForm
from lineside.errors import InputDataError
from lineside.frame import Frame
from lineside.inspector import Inspector
from lineside.preprocess import prepare
from lineside.several import list_forms, open_several
from lineside.verdict import Evaluation

_ONE_THREAD = EngineSettings(threads=1)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One size of one series.

    Attributes:
        axis: what grows.
        series: of the points that are fitted together.
        size: on the axis.
        bundle, key: files.
        engine: takes the form that the file holds for it.
        frame_side_px: of the square frames; 0: as the contract has them.
        frames: inspected at once.
        together: in the form for several at once, where there are several.
        prepares_only: no model; the frame is made ready and that is all.
    """

    axis: str
    series: str
    size: float
    bundle: str
    key: str
    engine: str
    frame_side_px: int = 0
    frames: int = 1
    together: bool = False
    prepares_only: bool = False

    @property
    def name(self) -> str:
        """Of this point alone."""
        return f"{self.series}, {self.size:g}"


class Opened:
    """Engines of several points; those that compute alike share one. Use it in a ``with``."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._bundles: dict[str, Bundle] = {}
        self._engines: dict[tuple[str, str, SeveralForm | None], Engine] = {}

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def way(self, point: Point) -> Callable[[int], object]:
        """What a round calls.

        Raises:
            InputDataError: the frames are not judged.
        """
        bundle = self.bundle(point)
        frames = _draw_frames(bundle, point)
        contract = bundle.manifest.contract
        if point.prepares_only:
            pixels_hwc = frames[0].pixels_hwc
            return lambda _: prepare(pixels_hwc, contract.frame, contract.input)
        inspector = Inspector(bundle, self._engine(bundle, point))
        for one in inspector.inspect_batch(frames):
            if one.verdict.evaluation is Evaluation.NOT_DECIDABLE and one.verdict.detail:
                raise InputDataError(f"{point.name}: cannot be measured: {one.verdict.detail}")
        return lambda _: inspector.inspect_batch(frames)

    def bundle(self, point: Point) -> Bundle:
        """Verified; open as long as this is."""
        if point.bundle not in self._bundles:
            opened = open_bundle(point.bundle, trust=load_trust([Path(point.key)]))
            self._bundles[point.bundle] = self._stack.enter_context(opened)
        return self._bundles[point.bundle]

    def _engine(self, bundle: Bundle, point: Point) -> Engine:
        model = next(one for one in bundle.manifest.models if one.engine == point.engine)
        form = form_of(point, model) if point.together and point.frames > 1 else None
        place = (point.bundle, point.engine, form)
        if place not in self._engines:
            engine = self._open(bundle, model, form)
            self._stack.callback(engine.close)
            self._engines[place] = engine
        return self._engines[place]

    def _open(self, bundle: Bundle, model: ModelEntry, form: SeveralForm | None) -> Engine:
        # Without the golden self-test: it holds for the memory and the frames that were sealed.
        engine = open_engine(model, bundle.part, bundle.manifest.contract, _ONE_THREAD)
        if form is None:
            return engine
        many = open_several(bundle, model, form, EngineSettings())
        return SeveralEngine(engine, many, form)


def form_of(point: Point, model: ModelEntry) -> SeveralForm:
    """With as many lanes as there are cores."""
    return list_forms(point.frames, model.precision, EngineSettings())[0]


def _draw_frames(bundle: Bundle, point: Point) -> list[Frame]:
    spec = bundle.manifest.contract.frame
    side = point.frame_side_px
    size_hw = (side, side) if side else (spec.size_hw or bundle.manifest.contract.input.size_hw)
    random = np.random.default_rng(point.frames)
    kind = np.uint16 if spec.bit_depth == 16 else np.uint8
    shape = (*size_hw, spec.channels)
    drawn: list[NDArray[np.uint8] | NDArray[np.uint16]] = [
        random.integers(0, np.iinfo(kind).max, shape, kind) for _ in range(point.frames)
    ]
    return [Frame(pixels_hwc=pixels, source=point.name) for pixels in drawn]
