"""The same model in every engine's files and each precision, as the device will open them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lineside.bundle import ModelEntry, PartData
from lineside.contract import Contract
from lineside.engines import EngineSettings, open_engine
from lineside_export import graph, openvino_ir, quantize
from lineside_export.candidate import Candidate
from lineside_export.program import Program, load_program

# One image comes at a time; compiled for another batch, int8 gives other numbers.
DEVICE_BATCH: Final = 1
FLOAT: Final = "fp32"
INT8: Final = "int8"


@dataclass(frozen=True, kw_only=True)
class Format:
    """One engine's files in one precision.

    Attributes:
        entry: as it will stand in the manifest.
        parts: the files that `entry` names.
    """

    entry: ModelEntry
    parts: tuple[PartData, ...]

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(memoryview(part.data).nbytes for part in self.parts)

    def infer(
        self, images_nhwc: NDArray[np.uint8], contract: Contract
    ) -> dict[str, NDArray[np.float32]]:
        """Run on this machine with the device's own engine, compiled as on the device.

        Args:
            images_nhwc: (N, H, W, C) uint8.
            contract: names and shapes.

        Returns:
            By output name: (N, *shape) float32.

        Raises:
            EngineError: the engine refuses the model or fails.
        """
        data = {part.name: memoryview(part.data) for part in self.parts}
        engine = open_engine(self.entry, data.__getitem__, contract, EngineSettings())
        try:
            return engine.infer(images_nhwc)
        finally:
            engine.close()


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of the candidate.

    Attributes:
        program: the float program; ``None`` where the candidate came as ONNX.
        formats: float first, then int8 where it was asked for.
    """

    program: Program | None
    formats: tuple[Format, ...]


def build_formats(
    candidate: Candidate,
    *,
    engines: Sequence[str],
    precision: str,
    progress: Callable[[str], None],
) -> Built:
    """Translate, and quantise where asked for.

    Args:
        candidate: read and checked.
        engines: for whom.
        precision: ``int8`` or ``fp32``; float files are made in any case, to compare with.
        progress: told what is being done.

    Raises:
        CandidateError: the program is not what the contract says, or cannot be translated.
        GraphError: a vendor's tool refuses the model.
    """
    contract = candidate.contract
    progress("ONNX graph")
    program = None if candidate.is_onnx else load_program(candidate.program_file, contract)
    model = (
        graph.read_onnx(candidate) if program is None else graph.program_to_onnx(program, contract)
    )
    onnx_bytes = graph.to_bytes(model)
    formats: list[Format] = []
    if "onnxruntime" in engines or program is None:
        formats.append(_onnx_format(FLOAT, onnx_bytes))
    if "openvino" in engines:
        progress("OpenVINO IR")
        network = openvino_ir.onnx_to_openvino(onnx_bytes)
        formats.append(_openvino_format(FLOAT, openvino_ir.ir_bytes(network)))
    if precision != INT8:
        return Built(program=program, formats=tuple(formats))
    images = candidate.images_nhwc("quantisation")
    if "onnxruntime" in engines:
        progress(f"int8 for ONNX Runtime, ranges from {len(images)} samples")
        quantised = quantize.quantise_onnx(model, images, contract.input.name)
        formats.append(_onnx_format(INT8, graph.to_bytes(quantised)))
    if "openvino" in engines:
        progress(f"int8 for OpenVINO, ranges from {len(images)} samples")
        network = quantize.quantise_openvino(openvino_ir.onnx_to_openvino(onnx_bytes), images)
        formats.append(_openvino_format(INT8, openvino_ir.ir_bytes(network)))
    return Built(program=program, formats=tuple(formats))


def _onnx_format(precision: str, data: bytes) -> Format:
    name = "onnxruntime/model.onnx"
    return Format(
        entry=ModelEntry(
            engine="onnxruntime", precision=precision, parts=(name,), batch=DEVICE_BATCH
        ),
        parts=(PartData(name=name, data=data, engine="onnxruntime"),),
    )


def _openvino_format(precision: str, files: openvino_ir.IrFiles) -> Format:
    names = ("openvino/model.xml", "openvino/model.bin")
    return Format(
        entry=ModelEntry(engine="openvino", precision=precision, parts=names, batch=DEVICE_BATCH),
        parts=tuple(
            PartData(name=name, data=data, engine="openvino")
            for name, data in zip(names, (files.xml, files.bin), strict=True)
        ),
    )
