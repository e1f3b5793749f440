"""One more output in every sealed form: how far what the model sees lies from what it saw.

The embedding is what the last product with fixed weights before the score reads, averaged over
patches or places. Each of its values is centred and scaled by the quantisation samples; the output
is the root mean square of them, one number, about 1 for what is usual (a Mahalanobis distance with
a diagonal covariance). The reference is of other parts, the validation samples.

Forms are chosen, measured and judged without it. It goes in afterwards, and only where on all
validation samples what the score is made of stays the same to the last bit, and other outputs move
by no more than rounding: what was measured holds on. Where one form cannot have it none has, and a
station watches scores and pictures alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from lineside.bundle import PartData
from lineside.contract import Contract, OutputSpec
from lineside.drift import EMBEDDING_OUTPUT
from lineside.errors import EngineError
from lineside.golden import GoldenExpectation, GoldenSamples
from lineside.selftest import prepare_golden
from lineside_export import tap_onnx, tap_openvino
from lineside_export.candidate import Candidate
from lineside_export.errors import GraphError
from lineside_export.formats import FLOAT, Format, Given, Source, onnx_format
from lineside_export.golden import tolerance_of
from lineside_export.openvino_ir import IrFiles
from lineside_export.parity import Measurement

Distances = NDArray[np.float32]

# A value that hardly varies is scaled by this share of what values vary by on average: dividing by
# next to nothing would make an output of rounding.
_LEAST_SPREAD: Final = 0.1
# Of an output's largest value: an engine that fuses other operators rounds otherwise. Measured:
# 3.6e-6 in the map of a memory, below 1, in OpenVINO's int8-mixed; everywhere else nothing.
_ROUNDING: Final = 2e-5
# Of the float program's spread: a form that is further off measures something else.
_MOST_NOISE: Final = 0.5
# It decides nothing, so another device gets twice the room that outputs have.
_ROOM: Final = 2.0


@dataclass(frozen=True, kw_only=True)
class Sealable:
    """What goes into a bundle together.

    Attributes:
        candidate: its contract names all outputs of the forms.
        formats: the forms.
        measured: each of them on the validation samples.
        golden: what is to be proven.
    """

    candidate: Candidate
    formats: tuple[Format, ...]
    measured: tuple[Measurement, ...]
    golden: GoldenSamples


def with_embedding(plain: Sealable, source: Source) -> Sealable:
    """The same with the output in all forms; as it came where one of them cannot have it."""
    candidate = plain.candidate
    if EMBEDDING_OUTPUT in {output.name for output in candidate.contract.outputs}:
        return plain
    extended = replace(candidate, contract=_extend(candidate.contract))
    try:
        exact = tap_form(onnx_format(FLOAT, source.data), candidate)
        tapped = tuple(tap_form(made, candidate) for made in plain.formats)
        images_nhwc = candidate.images_nhwc("validation")
        wanted = exact.infer(images_nhwc, extended)[EMBEDDING_OUTPUT]
        found = [made.infer(images_nhwc, extended) for made in tapped]
        golden_nhwc = prepare_golden(plain.golden, candidate.contract)
        on_golden = [made.infer(golden_nhwc, extended)[EMBEDDING_OUTPUT] for made in tapped]
    except (GraphError, EngineError):
        return plain
    pairs = list(zip(plain.measured, found, strict=True))
    if not all(_holds(was, now, wanted, plain) for was, now in pairs):
        return plain
    expectations = (
        _expect(made, values, wanted, now[EMBEDDING_OUTPUT])
        for made, values, now in zip(tapped, on_golden, found, strict=True)
    )
    golden = msgspec.structs.replace(
        plain.golden, expectations=(*plain.golden.expectations, *expectations)
    )
    measured = tuple(replace(was, outputs=now) for was, now in pairs)
    return Sealable(candidate=extended, formats=tapped, measured=measured, golden=golden)


def _extend(contract: Contract) -> Contract:
    output = OutputSpec(name=EMBEDDING_OUTPUT)
    return msgspec.structs.replace(contract, outputs=(*contract.outputs, output))


def _holds(
    before: Measurement, now: dict[str, NDArray[np.float32]], wanted: Distances, plain: Sealable
) -> bool:
    """The other outputs are the same, and the new one measures what the float program does."""
    for name, values in before.outputs.items():
        if not float(np.abs(now[name] - values).max()) <= _room(before, name, plain):
            return False
    distances = now[EMBEDDING_OUTPUT]
    if not (np.isfinite(distances).all() and np.isfinite(wanted).all()):
        return False
    noise = float(np.sqrt(((distances - wanted) ** 2).mean()))
    return noise <= _MOST_NOISE * float(wanted.std()) and float(wanted.std()) > 0.0


def _room(before: Measurement, name: str, plain: Sealable) -> float:
    """By how much an output may move, in its unit."""
    proof = plain.golden.expectation(before.engine, before.precision, name)
    if name == plain.candidate.contract.head.output or proof is None:
        return 0.0
    # What is sealed as proof was computed without the new output, and a device has its own noise.
    rounding = _ROUNDING * float(np.abs(before.outputs[name]).max())
    return min(rounding, proof.tolerance_abs / 2.0)


def _expect(
    made: Format, golden: Distances, wanted: Distances, found: Distances
) -> GoldenExpectation:
    return GoldenExpectation.from_values(
        golden,
        engine=made.entry.engine,
        precision=made.entry.precision,
        output=EMBEDDING_OUTPUT,
        tolerance_abs=_ROOM * tolerance_of(wanted, [found], made.entry.precision),
    )


def tap_form(made: Format, candidate: Candidate) -> Format:
    """A copy with the output.

    Raises:
        GraphError: no product with fixed weights leads to the score, or its input has a shape that
            says nothing.
    """
    images_nhwc = candidate.images_nhwc("quantisation")
    if made.entry.engine == "onnxruntime":
        return _tap_onnx(made, images_nhwc, candidate)
    return _tap_openvino(made, images_nhwc, candidate)


def _tap_onnx(made: Format, images_nhwc: NDArray[np.uint8], given: Given) -> Format:
    model = onnx.load_model_from_string(bytes(made.parts[0].data))
    place = tap_onnx.find_embedding(model, given.contract.head.output)
    if place is None:
        raise GraphError("no product with fixed weights leads to the score")
    value, channels_last = place
    scale = _fit(tap_onnx.compute_value(model, value, images_nhwc, given), channels_last)
    data = tap_onnx.with_distance(model, value, *scale)
    return _with_files(made, (data,))


def _tap_openvino(made: Format, images_nhwc: NDArray[np.uint8], given: Given) -> Format:
    files = IrFiles(xml=bytes(made.parts[0].data), bin=bytes(made.parts[1].data))
    output = given.contract.head.output
    # One to compute with, one to change: a result that was added stays.
    found = []
    for _ in range(2):
        model = tap_openvino.read_model(files)
        place = tap_openvino.find_embedding(model, output)
        if place is None:
            raise GraphError("no product with fixed weights leads to the score")
        found.append((model, *place))
    (probe, seen, channels_last), (model, value, _) = found
    scale = _fit(tap_openvino.compute_value(probe, seen, images_nhwc, given), channels_last)
    tapped = tap_openvino.with_distance(model, value, *scale)
    return _with_files(made, (tapped.xml, tapped.bin))


def _with_files(made: Format, files: Sequence[bytes]) -> Format:
    parts = tuple(
        PartData(name=part.name, data=data, engine=part.engine)
        for part, data in zip(made.parts, files, strict=True)
    )
    return replace(made, parts=parts)


def _fit(
    values: Iterable[NDArray[np.float32]], channels_last: bool
) -> tuple[tuple[int, ...], tuple[int, ...], NDArray[np.float32], NDArray[np.float32]]:
    """Shape for one image, axes to average over, and by what each value is centred and scaled.

    Raises:
        GraphError: the value has a shape that says nothing, or does not vary.
    """
    rows: list[NDArray[np.float32]] = []
    shape: tuple[int, ...] = ()
    axes: tuple[int, ...] = ()
    for value in values:
        shape = value.shape
        by_image = value.reshape(-1, *(shape[1:] if shape[0] == 1 else shape))
        if not 2 <= by_image.ndim <= 4 or len(by_image) != 1:
            raise GraphError(f"the embedding has the shape {shape}")
        last = channels_last or by_image.ndim == 3
        axes = tuple(range(1, by_image.ndim - 1)) if last else tuple(range(2, by_image.ndim))
        rows.append(by_image.mean(axis=axes)[0] if axes else by_image[0])
    table = np.stack(rows).astype(np.float64)
    spread = table.std(axis=0)
    floor = _LEAST_SPREAD * float(np.sqrt((spread**2).mean()))
    if not floor > 0.0 or not np.isfinite(table).all():
        raise GraphError("the embedding does not vary")
    inverse = 1.0 / np.maximum(spread, floor)
    return shape, axes, table.mean(axis=0).astype(np.float32), inverse.astype(np.float32)
