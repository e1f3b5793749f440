"""What grows on this machine alone: frame, patches, regions, memory; as points over a suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from lineside.bundle import Bundle, PartData, load_private_key, seal_bundle, write_key_pair
from lineside.bundle.manifest import ModelEntry
from lineside.contract import Contract
from lineside.engines import available_engines
from lineside.errors import InputDataError
from lineside.memory import MEMORY_PART, encode_memory, view_memory
from lineside_bench.scaling.points import Point
from lineside_bench.suite import SIDES_FOLDER, Sealed, Suite, read_suite

FRAME_SIDES_PX: Final = (64, 128, 256, 512, 1024, 2048)
REGIONS: Final = (1, 2, 4, 8, 16, 32, 64)
MEMORY_PATCHES: Final = (100, 300, 1000, 3000, 10_000)
MODEL: Final = "vit_tiny"
_PATCH_PX: Final = 8  # a side of a ViT's patches (`lineside train` by default)
_NOISE: Final = 0.05  # of a value's deviation: patches that a memory lacks are like those it has


def list_points(suite: Suite, folder: Path, *, quick: bool) -> dict[str, list[Point]]:
    """By axis; an axis that this suite has no model for is empty.

    Args:
        suite: as it was made.
        folder: for bundles that are sealed here, by a key that stays there.
        quick: three sizes an axis.

    Raises:
        InputDataError: the suite lacks the model that all begins with.
    """
    write_key_pair(folder, "scaling")
    plain = _pick(suite, MODEL, ("int8", "fp32"))
    if plain is None:
        raise InputDataError(
            f"{suite.folder}: no {MODEL}: make the suite again (`lineside measure bundles`)"
        )

    def few(sizes: Sequence[int]) -> Sequence[int]:
        return sizes[:: (len(sizes) - 1) // 2] if quick else sizes

    return {
        "frame": _frames(suite, plain, folder, few(FRAME_SIDES_PX)),
        "patches": _patches(suite),
        "regions": _regions(suite, plain, few(REGIONS[:-1]) if quick else REGIONS),
        "memory": _memories(suite, folder, few(MEMORY_PATCHES)),
    }


def _pick(suite: Suite, model: str, forms: Sequence[str]) -> Sealed | None:
    for form in forms:
        for one in suite.sealed:
            if (one.model, one.form) == (model, form):
                return one
    return None


def _engines(suite: Suite, one: Sealed) -> list[str]:
    with suite.open(one) as bundle:
        offered = {model.engine for model in _held_models(bundle)}
    return [name for name in available_engines() if name in offered]


def _held_models(bundle: Bundle) -> tuple[ModelEntry, ...]:
    """Without those that a thin copy lacks."""
    held = frozenset(bundle.present)
    return tuple(model for model in bundle.manifest.models if held.issuperset(model.parts))


def _seal_anew(
    bundle: Bundle, path: Path, contract: Contract, changed: Mapping[str, bytes | memoryview]
) -> None:
    """What this copy holds under another contract, some parts exchanged, by the key beside it."""
    manifest = bundle.manifest
    parts = [
        PartData(
            name=part.name,
            data=changed.get(part.name, bundle.part(part.name)),
            engine=part.engine,
        )
        for part in manifest.parts
        if part.name in bundle.present
    ]
    models = _held_models(bundle)
    told = msgspec.structs.replace(manifest, contract=contract, models=models)
    seal_bundle(path, manifest=told, parts=parts, key=load_private_key(path.parent / "scaling.key"))


def _frames(suite: Suite, one: Sealed, folder: Path, sides_px: Sequence[int]) -> list[Point]:
    """The same model, sealed for frames of any size: they are reduced to the model's own."""
    path = folder / "frames.lsb"
    with suite.open(one) as bundle:
        contract = bundle.manifest.contract
        any_size = msgspec.structs.replace(contract.frame, size_hw=None)
        _seal_anew(bundle, path, msgspec.structs.replace(contract, frame=any_size), {})
    engine = _engines(suite, one)[0]
    return [
        Point(
            axis="frame",
            series=f"{engine} {one.form}" if inspects else "preparing alone",
            size=side,
            bundle=str(path),
            key=str(folder / "scaling.pub"),
            engine=engine,
            frame_side_px=side,
            prepares_only=not inspects,
        )
        for inspects in (True, False)
        for side in sides_px
    ]


def _patches(suite: Suite) -> list[Point]:
    folder = suite.folder / SIDES_FOLDER
    if not folder.exists():
        return []
    sides = read_suite(folder)
    plain = _pick(suite, MODEL, ("fp32",))
    family = [(sides, one) for one in sides.sealed] + ([(suite, plain)] if plain else [])
    family.sort(key=lambda found: found[1].side_px)
    return [
        Point(
            axis="patches",
            series=f"{engine} {one.form}",
            size=(one.side_px // _PATCH_PX) ** 2,
            bundle=str(held.path(one)),
            key=str(held.key),
            engine=engine,
        )
        for engine in _engines(*family[0])
        for held, one in family
    ]


def _regions(suite: Suite, one: Sealed, counts: Sequence[int]) -> list[Point]:
    return [
        Point(
            axis="regions",
            series=f"{engine} {one.form} {'at once' if together else 'one by one'}",
            size=count,
            bundle=str(suite.path(one)),
            key=str(suite.key),
            engine=engine,
            frames=count,
            together=together,
        )
        for engine in _engines(suite, one)
        for together in (False, True)
        for count in counts
    ]


def _memories(suite: Suite, folder: Path, sizes: Sequence[int]) -> list[Point]:
    one = _pick(suite, "memory", ("int8", "fp32"))
    if one is None:
        return []
    paths = {size: _with_memory(suite, one, folder, size) for size in sizes}
    return [
        Point(
            axis="memory",
            series=f"{engine} {one.form}",
            size=size,
            bundle=str(path),
            key=str(folder / "scaling.pub"),
            engine=engine,
        )
        for engine in _engines(suite, one)
        for size, path in paths.items()
    ]


def _with_memory(suite: Suite, one: Sealed, folder: Path, size: int) -> Path:
    """The same graph with so many patches; they lie in the order of choice, so the first of them
    are the core-set of so many. What is missing is like those that are there."""
    path = folder / f"memory_{size}.lsb"
    with suite.open(one) as bundle:
        contract = bundle.manifest.contract
        assert contract.memory is not None, "a model with a memory"
        kept = view_memory(bundle.part(MEMORY_PART), contract.memory, source=MEMORY_PART)
        random = np.random.default_rng(size)
        rows = np.resize(kept, (size, contract.memory.width)).copy()
        noise = random.standard_normal((max(0, size - len(kept)), rows.shape[1]), np.float32)
        rows[len(kept) :] += noise * (_NOISE * float(kept.std()))
        _seal_anew(bundle, path, contract, {MEMORY_PART: encode_memory(rows)})
    return path
