"""Read a candidate folder, and refuse it with the file and the remedy where it does not hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from lineside.candidate import (
    CONTRACT,
    MEMORY,
    NEEDED_SETS,
    ONNX_MODEL,
    PROGRAM,
    PROVENANCE,
    SAMPLES,
    SampleSet,
    read_samples,
)
from lineside.contract import Contract, HeadSpec, decode_contract
from lineside.errors import ConfigurationError, FrameError, InputDataError
from lineside.memory import Rows, read_memory
from lineside.preprocess import prepare
from lineside_export.errors import CandidateError
from lineside_export.headmetric import target_fault


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A candidate folder, read and checked but for its program.

    Attributes:
        folder: where it lies.
        program_file: ``program.pt2`` or ``model.onnx``.
        program_sha256: of that file.
        contract: what goes in, what comes out.
        memory: (M, width) float32, finite; ``None`` where the contract names none.
        memory_sha256: of that file, "" likewise.
        samples: by set name; quantisation, validation and golden are not empty.
        samples_sha256: of the samples file.
        provenance: the trainer's words.
    """

    folder: Path
    program_file: Path
    program_sha256: str
    contract: Contract
    memory: Rows | None = None
    memory_sha256: str = ""
    samples: Mapping[str, SampleSet]
    samples_sha256: str
    provenance: Mapping[str, str]

    @property
    def is_onnx(self) -> bool:
        """Whether the program came as ONNX from elsewhere."""
        return self.program_file.name == ONNX_MODEL

    def images_nhwc(self, set_name: str) -> NDArray[np.uint8]:
        """All frames of a set as model input: (N, H, W, C) uint8, by the device's own function.

        Raises:
            CandidateError: a frame that the contract does not accept.
        """
        contract, file = self.contract, self.folder / SAMPLES
        try:
            return np.stack(
                [
                    prepare(frame, contract.frame, contract.input, source=f"{set_name} {index}")
                    for index, frame in enumerate(self.samples[set_name].frames_hwc)
                ]
            )
        except FrameError as error:
            raise CandidateError(
                f"{file}: {error}: samples must be frames as {CONTRACT} describes them, as acquired"
            ) from error


def read_candidate(folder: Path) -> Candidate:
    """Read all but the program itself.

    Raises:
        CandidateError: a file is missing or damaged, or the files contradict each other.
    """
    if not folder.is_dir():
        raise CandidateError(
            f"{folder}: no such folder; `lineside train` writes one as RUN/candidate"
        )
    if (folder / "candidate").is_dir():
        raise CandidateError(f"{folder}: is a whole run; name {folder / 'candidate'}")
    contract = _read_contract(folder / CONTRACT)
    program_file = _find_program(folder)
    samples_file = folder / SAMPLES
    samples = _read_samples(samples_file, contract.head)
    memory = _read_memory(folder / MEMORY, contract)
    return Candidate(
        folder=folder,
        program_file=program_file,
        program_sha256=_sha256(program_file),
        contract=contract,
        memory=memory,
        memory_sha256="" if memory is None else _sha256(folder / MEMORY),
        samples=samples,
        samples_sha256=_sha256(samples_file),
        provenance=_read_provenance(folder / PROVENANCE),
    )


def _find_program(folder: Path) -> Path:
    found = [folder / name for name in (PROGRAM, ONNX_MODEL) if (folder / name).is_file()]
    if len(found) != 1:
        fault = "holds both, so it is not clear which one is meant" if found else "holds neither"
        raise CandidateError(f"{folder}: one of {PROGRAM} and {ONNX_MODEL} is needed; it {fault}")
    return found[0]


def _read_bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CandidateError(f"{file}: {error.strerror}: write the candidate again") from error


def _sha256(file: Path) -> str:
    return hashlib.sha256(_read_bytes(file)).hexdigest()


def _read_memory(file: Path, contract: Contract) -> Rows | None:
    if contract.memory is None:
        if file.exists():
            raise CandidateError(
                f"{file}: is there, and {CONTRACT} names no memory, so the program would judge "
                "without it: name it there, or take the file away"
            )
        return None
    try:
        return read_memory(file, contract.memory)
    except InputDataError as error:
        raise CandidateError(
            f"{error}: {CONTRACT} names a memory, and the program takes it as its second input: "
            f"write {MEMORY} again, or name none"
        ) from error


def _read_contract(file: Path) -> Contract:
    try:
        return decode_contract(_read_bytes(file), source=str(file))
    except ConfigurationError as error:
        raise CandidateError(f"{error}: docs/export.md says what a contract holds") from error


def _read_samples(file: Path, head: HeadSpec) -> dict[str, SampleSet]:
    try:
        sets = read_samples(file)
    except InputDataError as error:
        raise CandidateError(f"{error}: write the candidate again") from error
    for name in NEEDED_SETS:
        if name not in sets or not len(sets[name]):
            raise CandidateError(
                f"{file}: the {name} set is empty; the exporter needs "
                f"{', '.join(NEEDED_SETS)}: give the split more parts"
            )
    for name, samples in sets.items():
        fault = target_fault(samples.targets, head)
        if fault:
            raise CandidateError(f"{file}: {name}: {fault}")
    return sets


def _read_provenance(file: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(_read_bytes(file), type=dict[str, str])
    except msgspec.DecodeError as error:
        raise CandidateError(
            f"{file}: {error}: it must be one JSON object with words as values, at least {{}}"
        ) from error
