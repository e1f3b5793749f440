"""Sealed models take turns at the same frame, so that a busy machine is busy for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lineside.bundle import open_bundle
from lineside.choose import list_candidates, open_proven
from lineside.engines import EngineSettings
from lineside.inspector import Inspector
from lineside.verdict import Timings

WARM_UP: Final = 20
"""Rounds that are not counted."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """One network in one engine and precision."""

    network: str
    engine: str
    precision: str
    inspector: Inspector


@contextmanager
def opened(bundles: Mapping[tuple[str, str], Path], trust: Path) -> Iterator[list[Form]]:
    """Every network in every engine and precision, each proved by its golden samples; one thread.

    Args:
        bundles: by network and precision.
        trust: the maker's public key.
    """
    with ExitStack() as stack:
        forms = []
        for (network, precision), path in bundles.items():
            bundle = stack.enter_context(open_bundle(path, trust=[trust]))
            ways, _ = list_candidates(bundle, engine="auto", precision=precision, threads=1)
            for model, candidate in ways:
                engine = open_proven(bundle, model, candidate, EngineSettings())
                stack.callback(engine.close)
                inspector = Inspector(bundle, engine)
                forms.append(
                    Form(
                        network=network,
                        engine=candidate.engine,
                        precision=precision,
                        inspector=inspector,
                    )
                )
        yield forms


def measure(forms: Sequence[Form], frames: Sequence[Any], rounds: int) -> list[list[Timings]]:
    """Each round every form once, the same frame; the first rounds are not counted."""
    taken: list[list[Timings]] = [[] for _ in forms]
    for number in range(WARM_UP + rounds):
        frame = frames[number % len(frames)]
        for form, timings in zip(forms, taken, strict=True):
            verdict = form.inspector.inspect(frame)
            if number >= WARM_UP:
                timings.append(verdict.timings)
    return taken
