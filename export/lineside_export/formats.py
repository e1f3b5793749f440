"""The same model in every engine's files and each precision, as the device will open them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

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
class Source:
    """The candidate's float program in the form that all formats are made from.

    Attributes:
        program: for torch; ``None`` where the candidate came as ONNX.
        model: the ONNX graph.
        data: its bytes.
    """

    program: Program | None
    model: ModelProto
    data: bytes

    @property
    def computed_by(self) -> str:
        """Who computes the reference: ``torch``, else ``onnxruntime``."""
        return "onnxruntime" if self.program is None else "torch"

    def infer(
        self, images_nhwc: NDArray[np.uint8], contract: Contract
    ) -> dict[str, NDArray[np.float32]]:
        """The reference: as `Format.infer`, in float32 by whoever came with the candidate."""
        if self.program is not None:
            return self.program.infer(images_nhwc)
        return onnx_format(FLOAT, self.data).infer(images_nhwc, contract)


def read_source(candidate: Candidate) -> Source:
    """Load the program and translate it.

    Raises:
        CandidateError: it is not what the contract says, or cannot be translated.
    """
    if candidate.is_onnx:
        program, model = None, graph.read_onnx(candidate)
    else:
        program = load_program(candidate.program_file, candidate.contract)
        model = graph.program_to_onnx(program, candidate.contract)
    return Source(program=program, model=model, data=graph.to_bytes(model))


def build_formats(
    candidate: Candidate,
    source: Source,
    *,
    engines: Sequence[str],
    precision: str,
    progress: Callable[[str], None],
) -> tuple[Format, ...]:
    """Every engine's float files, to compare with, then int8 where it was asked for.

    Args:
        candidate: whose quantisation samples give the ranges.
        source: its program.
        engines: for whom.
        precision: ``int8`` or ``fp32``.
        progress: told what is being done.

    Raises:
        CandidateError: a frame that the contract does not accept.
        GraphError: a vendor's tool refuses the model.
    """
    formats: list[Format] = []
    if "onnxruntime" in engines:
        formats.append(onnx_format(FLOAT, source.data))
    if "openvino" in engines:
        progress("OpenVINO IR")
        network = openvino_ir.onnx_to_openvino(source.data)
        formats.append(openvino_format(FLOAT, openvino_ir.ir_bytes(network)))
    if precision != INT8:
        return tuple(formats)
    images = candidate.images_nhwc("quantisation")
    if "onnxruntime" in engines:
        progress(f"int8 for ONNX Runtime, ranges from {len(images)} samples")
        quantised = quantize.quantise_onnx(source.model, images, candidate.contract.input.name)
        formats.append(onnx_format(INT8, graph.to_bytes(quantised)))
    if "openvino" in engines:
        progress(f"int8 for OpenVINO, ranges from {len(images)} samples")
        network = openvino_ir.onnx_to_openvino(source.data)
        network = quantize.quantise_openvino(network, images)
        formats.append(openvino_format(INT8, openvino_ir.ir_bytes(network)))
    return tuple(formats)


def onnx_format(precision: str, data: bytes) -> Format:
    """ONNX Runtime's one file."""
    name = "onnxruntime/model.onnx"
    return Format(
        entry=ModelEntry(
            engine="onnxruntime", precision=precision, parts=(name,), batch=DEVICE_BATCH
        ),
        parts=(PartData(name=name, data=data, engine="onnxruntime"),),
    )


def openvino_format(precision: str, files: openvino_ir.IrFiles) -> Format:
    """OpenVINO's two files."""
    names = ("openvino/model.xml", "openvino/model.bin")
    return Format(
        entry=ModelEntry(engine="openvino", precision=precision, parts=names, batch=DEVICE_BATCH),
        parts=tuple(
            PartData(name=name, data=data, engine="openvino")
            for name, data in zip(names, (files.xml, files.bin), strict=True)
        ),
    )
