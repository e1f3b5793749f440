"""The same model in every engine's files and each precision, as the device will open them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from lineside.bundle import ModelEntry, PartData
from lineside.contract import Contract
from lineside.engines import Engine, EngineSettings, open_engine
from lineside.memory import MEMORY_PART, Rows, encode_memory
from lineside_export import graph, openvino_ir
from lineside_export.candidate import Candidate
from lineside_export.program import Program, load_program

# One image comes at a time; compiled for another batch, int8 gives other numbers.
DEVICE_BATCH: Final = 1
FLOAT: Final = "fp32"


class Given(Protocol):
    """What every form of a model runs with, beside its own files.

    Attributes:
        contract: names and shapes.
        memory: what the contract's memory holds; ``None`` where it names none.
    """

    @property
    def contract(self) -> Contract: ...
    @property
    def memory(self) -> Rows | None: ...


def memory_parts(given: Given) -> tuple[PartData, ...]:
    """The memory as a bundle's part, where there is one."""
    if given.memory is None:
        return ()
    return (PartData(name=MEMORY_PART, data=encode_memory(given.memory)),)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How an engine computes a format.

    Attributes:
        batch: the static batch it is compiled for.
        threads: computing ones.
    """

    batch: int
    threads: int


# One thread, so that what is measured does not depend on this machine's number of cores.
AS_ON_DEVICE: Final = Way(batch=DEVICE_BATCH, threads=1)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One engine's files in one precision.

    Attributes:
        entry: as it will stand in the manifest.
        parts: the files that `entry` names.
        kept_float: operators that a form of few bits leaves in float, by name.
    """

    entry: ModelEntry
    parts: tuple[PartData, ...]
    kept_float: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For people, e.g. ``openvino int8``."""
        return f"{self.entry.engine} {self.entry.precision}"

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        return sum(memoryview(part.data).nbytes for part in self.parts)

    def open(self, given: Given, way: Way = AS_ON_DEVICE) -> Engine:
        """Compile with the device's own engine; the caller closes it.

        Raises:
            EngineError: the engine refuses the model.
        """
        data = {part.name: memoryview(part.data) for part in (*self.parts, *memory_parts(given))}
        entry = msgspec.structs.replace(self.entry, batch=way.batch)
        settings = EngineSettings(threads=way.threads)
        return open_engine(entry, data.__getitem__, given.contract, settings)

    def infer(
        self, images_nhwc: NDArray[np.uint8], given: Given, way: Way = AS_ON_DEVICE
    ) -> dict[str, NDArray[np.float32]]:
        """Run on this machine with the device's own engine.

        Args:
            images_nhwc: (N, H, W, C) uint8.
            given: names and shapes, and the memory.
            way: how it is compiled.

        Returns:
            By output name: (N, *shape) float32.

        Raises:
            EngineError: the engine refuses the model or fails.
        """
        engine = self.open(given, way)
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

    def infer(self, images_nhwc: NDArray[np.uint8], given: Given) -> dict[str, NDArray[np.float32]]:
        """The reference: as `Format.infer`, in float32 by whoever came with the candidate."""
        if self.program is not None:
            return self.program.infer(images_nhwc, given.memory)
        return onnx_format(FLOAT, self.data).infer(images_nhwc, given)


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
