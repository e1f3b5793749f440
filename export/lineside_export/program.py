"""The candidate's float program: load it, hold it against the contract, run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from lineside.contract import Contract, OutputSpec
from lineside_export.errors import CandidateError
from lineside_export.vendors import quiet_vendors, told

_REMEDY: Final = "export the program again with the contract's names and shapes (docs/export.md)"
# Not 1: a program traced with a larger batch may be specialised against it (torch.export, 0/1).
_BATCH: Final = 16


@dataclass(frozen=True, kw_only=True)
class Program:
    """A ``torch.export`` program that keeps its contract.

    Attributes:
        exported: as loaded.
        output_names: the contract's names in the order in which the program gives them.
        file: named in errors.
    """

    exported: ExportedProgram
    output_names: tuple[str, ...]
    file: Path

    def infer(self, images_nhwc: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Run in torch, float32, on the CPU.

        Args:
            images_nhwc: (N, H, W, C) uint8, any N.

        Returns:
            By output name: (N, *shape) float32.

        Raises:
            CandidateError: the program fails.
        """
        module, count = self.exported.module(), len(images_nhwc)
        # Filled up by repeating, so that the last batch is no special case for the program.
        filled = images_nhwc[np.arange(-(-count // _BATCH) * _BATCH) % count]
        results: list[list[NDArray[np.float32]]] = []
        try:
            with torch.inference_mode():
                for start in range(0, len(filled), _BATCH):
                    given = module(torch.from_numpy(filled[start : start + _BATCH]))
                    results.append([value.numpy() for value in flat_outputs(given)])
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise CandidateError(
                f"{self.file}: the program fails on a batch of {_BATCH} samples: {told(error)}: "
                "its batch must be dynamic, and its weights on the CPU"
            ) from error
        return {
            name: np.concatenate([batch[index] for batch in results])[:count]
            for index, name in enumerate(self.output_names)
        }

    def example(self) -> torch.Tensor:
        """A batch to trace with: (5, H, W, C) uint8 of zeros; neither 1 nor likely a dimension."""
        name = self.exported.graph_signature.user_inputs[0]
        node = next(node for node in self.exported.graph.nodes if node.name == name)
        return torch.zeros(
            (5, *(int(size) for size in node.meta["val"].shape[1:])), dtype=torch.uint8
        )


def load_program(file: Path, contract: Contract) -> Program:
    """Load ``program.pt2`` and check it.

    Raises:
        CandidateError: damaged, or not what the contract says.
    """
    with quiet_vendors():
        try:
            exported = torch.export.load(file)
        # torch documents no list of what it raises for a damaged file; all of it means the same.
        except Exception as error:
            raise CandidateError(
                f"{file}: not a torch.export program, or damaged: {told(error)}: write it with "
                "torch.export.save"
            ) from error
    signature = exported.graph_signature
    _check_input(file, exported, tuple(signature.user_inputs), contract)
    names = _output_names(file, exported, contract)
    _check_outputs(file, exported, names, contract)
    return Program(exported=exported, output_names=names, file=file)


def _check_input(
    file: Path, exported: ExportedProgram, names: Sequence[Any], contract: Contract
) -> None:
    wanted = contract.input
    if list(names) != [wanted.name]:
        raise CandidateError(
            f"{file}: takes the inputs ({', '.join(map(str, names))}), the contract names one, "
            f"{wanted.name!r}: {_REMEDY}"
        )
    value = _meta(file, exported, wanted.name)
    shape = ("batch", *wanted.size_hw, wanted.channels)
    if value.dtype != torch.uint8 or not _fits(value.shape, shape):
        raise CandidateError(
            f"{file}: input {wanted.name!r} is {_shown(value)}, the contract says uint8 "
            f"({', '.join(map(str, shape))}) with a dynamic batch and raw pixels: {_REMEDY}"
        )


def _output_names(file: Path, exported: ExportedProgram, contract: Contract) -> tuple[str, ...]:
    """A dictionary's keys, or the contract's names by position."""
    wanted = tuple(output.name for output in contract.outputs)
    spec = exported.call_spec.out_spec
    keys = tuple(spec.context) if spec is not None and spec.type is dict else wanted
    found = len(exported.graph_signature.user_outputs)
    if found != len(wanted) or set(keys) != set(wanted):
        given = ", ".join(map(str, keys)) if keys != wanted else str(found)
        raise CandidateError(
            f"{file}: gives the outputs ({given}), the contract names ({', '.join(wanted)}): "
            f"{_REMEDY}"
        )
    return keys


def _check_outputs(
    file: Path, exported: ExportedProgram, names: tuple[str, ...], contract: Contract
) -> None:
    specs: Mapping[str, OutputSpec] = {output.name: output for output in contract.outputs}
    for name, node in zip(names, exported.graph_signature.user_outputs, strict=True):
        value = _meta(file, exported, str(node))
        shape: tuple[int | str, ...] = ("batch", *specs[name].shape)
        if value.dtype != torch.float32 or not _fits(value.shape, shape):
            raise CandidateError(
                f"{file}: output {name!r} is {_shown(value)}, the contract says float32 "
                f"({', '.join(map(str, shape))}): {_REMEDY}"
            )


def _meta(file: Path, exported: ExportedProgram, node_name: str) -> torch.Tensor:
    for node in exported.graph.nodes:
        if node.name == node_name:
            value = node.meta["val"]
            if isinstance(value, torch.Tensor):
                return value
            raise CandidateError(f"{file}: {node_name!r} is no tensor: {_REMEDY}")
    raise CandidateError(f"{file}: no node {node_name!r}: {_REMEDY}")


def _fits(found: Sequence[Any], wanted: Sequence[int | str]) -> bool:
    """The first dimension must be open, the others equal."""
    return (
        len(found) == len(wanted)
        and isinstance(found[0], torch.SymInt)
        and all(size == expected for size, expected in zip(found[1:], wanted[1:], strict=True))
    )


def _shown(value: torch.Tensor) -> str:
    sizes = ["batch" if isinstance(size, torch.SymInt) else str(size) for size in value.shape]
    return f"{str(value.dtype).removeprefix('torch.')} ({', '.join(sizes)})"


def flat_outputs(given: Any) -> list[torch.Tensor]:
    """What a program gave, in its order: one tensor, a tuple or a dictionary of them."""
    if isinstance(given, torch.Tensor):
        return [given]
    return list(given.values()) if isinstance(given, dict) else list(given)
