"""What an inspection allocates after its first calls, against the size of its frame."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

import msgspec

from lineside.bundle.checks import CheckedBundle
from lineside.choose import list_candidates
from lineside.contract import FrameSpec
from lineside.engines import EngineSettings, open_engine
from lineside.frame import Frame
from lineside.inspector import Inspector
from lineside_bench.latency.frames import KINDS, picture
from lineside_bench.suite import Sealed, Suite

_CALLS: Final = 5
# What Python's own objects take in a call, two or three times over.
_TOLD_APART_BYTES: Final = 16_384


def measure_allocations(suite: Suite, one: Sealed) -> list[dict[str, Any]]:
    """A row an engine and frame: the most that was held at once during a call.

    numpy reports its arrays to tracemalloc; what engines and OpenCV keep inside they do not.
    """
    rows = []
    pictures = {kind.name: picture(kind.spec) for kind in KINDS}
    with suite.open(one) as bundle:
        sealed = bundle.checked
        ways, _ = list_candidates(bundle, engine="auto", precision=None, threads=1)
        for entry, _ in ways:
            contract = sealed.manifest.contract
            engine = open_engine(entry, bundle.part, contract, EngineSettings(threads=1))
            with closing(engine):
                for kind in KINDS:
                    # For want of models for such frames: this one, told that they are larger.
                    bundle.checked = _told(sealed, kind.spec)
                    inspector = Inspector(bundle, engine)
                    pixels = pictures[kind.name]
                    peak = _peak_bytes(inspector, Frame(pixels_hwc=pixels))
                    rows.append(_row(entry.engine, kind.name, pixels.nbytes, peak))
    return rows


def _told(sealed: CheckedBundle, spec: FrameSpec) -> CheckedBundle:
    contract = msgspec.structs.replace(sealed.manifest.contract, frame=spec)
    manifest = msgspec.structs.replace(sealed.manifest, contract=contract)
    return replace(sealed, manifest=manifest)


def _row(engine: str, name: str, frame_bytes: int, peak_bytes: int) -> dict[str, Any]:
    outcome = "met" if peak_bytes < frame_bytes else "missed"
    if outcome == "missed" and frame_bytes < _TOLD_APART_BYTES:
        outcome = "frame too small to tell"
    return {
        "engine": engine,
        "frame": name,
        "peak_bytes": peak_bytes,
        "target": {"frame": frame_bytes, "outcome": outcome},
    }


def _peak_bytes(inspector: Inspector, frame: Frame) -> int:
    for _ in range(2):
        verdict = inspector.inspect(frame)
        assert not verdict.detail, verdict.detail
    tracemalloc.start()
    try:
        for _ in range(_CALLS):
            inspector.inspect(frame)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
