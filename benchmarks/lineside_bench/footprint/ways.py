"""What is started: each sealed form with each of its engines, bare and through Lineside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lineside.bundle import Bundle
from lineside.bundle.manifest import ModelEntry
from lineside_bench.suite import Sealed, Suite

SIDES: Final = ("bare", "lineside")
PROGRAMS: Final = {"bare": "bare", "lineside": "sealed"}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One model on one engine, to be started by either side.

    Attributes:
        sealed: which of the suite.
        engine: its name.
        start: ``plain``, or ``cached``: the engine finds its compiled model.
        asked: of the programs, by side.
    """

    sealed: Sealed
    engine: str
    start: str
    asked: dict[str, dict[str, Any]]

    @property
    def name(self) -> str:
        """For people."""
        cached = ", cached" if self.start == "cached" else ""
        return f"{self.sealed.model} {self.sealed.form}, {self.engine}{cached}"


def list_pairs(suite: Suite, models: Sequence[Sealed], work: Path) -> list[Pair]:
    """All of them; the bare engine's files are laid out in ``work``.

    Args:
        suite: where the bundles are.
        models: those that are started; one whose graph takes a memory has no plain file to start
            from and is left out.
        work: an empty folder.
    """
    found: list[Pair] = []
    for sealed in models:
        with suite.open(sealed) as bundle:
            if bundle.manifest.contract.memory is not None:
                continue
            for entry in bundle.manifest.models:
                if entry.precision == _best(bundle, entry.engine):
                    found += _pairs(suite, sealed, bundle, entry, work)
    return found


def _best(bundle: Bundle, engine: str) -> str:
    """A bundle in eight bits may hold the float form too: its own is the smaller."""
    forms = [model.precision for model in bundle.manifest.models if model.engine == engine]
    return "int8" if "int8" in forms else forms[0]


def _pairs(
    suite: Suite, sealed: Sealed, bundle: Bundle, entry: ModelEntry, work: Path
) -> Iterator[Pair]:
    folder = work / f"{sealed.model}-{sealed.form}-{entry.engine}".replace(" ", "_")
    files = _lay_out(bundle, entry, folder)
    contract = bundle.manifest.contract
    shape = [entry.batch, *contract.input.size_hw, contract.input.channels]
    for start in ("plain", "cached") if entry.engine == "openvino" else ("plain",):
        shared: dict[str, Any] = {
            "engine": entry.engine,
            "precision": entry.precision,
            "threads": 1,
            "frames": 0,
        }
        bare: dict[str, Any] = {
            "files": files,
            "arithmetic": entry.inference_precision,
            "input": contract.input.name,
            "shape": shape,
        }
        ours: dict[str, Any] = {"bundle": str(suite.path(sealed)), "key": str(suite.key)}
        asked = {
            side: {**shared, **own, "cache": str(folder / side) if start == "cached" else ""}
            for side, own in zip(SIDES, (bare, ours), strict=True)
        }
        yield Pair(sealed=sealed, engine=entry.engine, start=start, asked=asked)


def _lay_out(bundle: Bundle, entry: ModelEntry, folder: Path) -> list[str]:
    folder.mkdir(parents=True)
    files = [folder / Path(name).name for name in entry.parts]
    for file, name in zip(files, entry.parts, strict=True):
        file.write_bytes(bundle.part(name))
    return [str(file) for file in files]
