"""The candidate's float program: load it, hold it against the contract, run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from lineside.contract import Contract, OutputSpec
from lineside.memory import Rows
from lineside_export.errors import CandidateError
from lineside_export.vendors import quiet_vendors, told

_REMEDY: Final = "export the program again with the contract's names and shapes (docs/export.md)"
# Not 1: a program traced with a larger batch may be specialised against it (torch.export, 0/1).
_BATCH: Final = 16
# Every patch of every image meets the whole memory: 16 of 784 patches against 50,000 take 2.5 GB.
_BATCH_WITH_MEMORY: Final = 2
# To trace with: neither 1 nor likely the size of another dimension.
_TRACED_BATCH: Final = 5
_TRACED_PATCHES: Final = 11


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

    def infer(
        self, images_nhwc: NDArray[np.uint8], memory: Rows | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run in torch, float32, on the CPU.

        Args:
            images_nhwc: (N, H, W, C) uint8, any N.
            memory: (M, width) float32, where the contract names one.

        Returns:
            By output name: (N, *shape) float32.

        Raises:
            CandidateError: the program fails.
        """
        batch = _BATCH if memory is None else _BATCH_WITH_MEMORY
        try:
            found = run_in_batches(self.fed(memory), torch.from_numpy(images_nhwc), batch)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            raise CandidateError(
                f"{self.file}: the program fails on a batch of {batch} samples: {told(error)}: "
                "its batch must be dynamic, and its weights on the CPU"
            ) from error
        return {name: values.numpy() for name, values in zip(self.output_names, found, strict=True)}

    def fed(self, memory: Rows | None) -> Callable[[torch.Tensor], Any]:
        """The module as a function of images alone: (N, H, W, C) uint8."""
        return feed(self.exported.module(), memory)

    def examples(self) -> tuple[torch.Tensor, ...]:
        """To trace with: (5, H, W, C) uint8 of zeros, and (11, width) where it takes a memory."""
        values = [node.meta["val"] for node in self._inputs()]
        return tuple(
            torch.zeros((first, *map(int, value.shape[1:])), dtype=value.dtype)
            for first, value in zip((_TRACED_BATCH, _TRACED_PATCHES), values, strict=False)
        )

    def dynamic_shapes(self) -> tuple[dict[int, Any], ...]:
        """For `torch.export.export`: the first dimension of each input is open."""
        # Its range follows from the program's own, which a fixed one might exceed.
        return tuple({0: torch.export.Dim.DYNAMIC} for _ in self._inputs())

    def _inputs(self) -> list[torch.fx.Node]:
        nodes = {node.name: node for node in self.exported.graph.nodes}
        return [nodes[str(name)] for name in self.exported.graph_signature.user_inputs]


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
    _check_inputs(file, exported, tuple(signature.user_inputs), contract)
    names = _output_names(file, exported, contract)
    _check_outputs(file, exported, names, contract)
    return Program(exported=exported, output_names=names, file=file)


def _check_inputs(
    file: Path, exported: ExportedProgram, names: Sequence[Any], contract: Contract
) -> None:
    wanted, memory = contract.input, contract.memory
    expected = [wanted.name] if memory is None else [wanted.name, memory.name]
    if list(names) != expected:
        told = f"one, {wanted.name!r}" if memory is None else f"two, ({', '.join(expected)})"
        raise CandidateError(
            f"{file}: takes the inputs ({', '.join(map(str, names))}), the contract names {told}: "
            f"{_REMEDY}"
        )
    value = _meta(file, exported, wanted.name)
    shape = ("batch", *wanted.size_hw, wanted.channels)
    if value.dtype != torch.uint8 or not _fits(value.shape, shape):
        raise CandidateError(
            f"{file}: input {wanted.name!r} is {_shown(value)}, the contract says uint8 "
            f"({', '.join(map(str, shape))}) with a dynamic batch and raw pixels: {_REMEDY}"
        )
    if memory is None:
        return
    value = _meta(file, exported, memory.name)
    if value.dtype != torch.float32 or not _fits(value.shape, ("patches", memory.width)):
        raise CandidateError(
            f"{file}: input {memory.name!r} is {_shown(value, 'patches')}, the contract says "
            f"float32 (patches, {memory.width}) with a dynamic number of patches, so that the "
            f"memory can be exchanged: {_REMEDY}"
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


def _shown(value: torch.Tensor, first: str = "batch") -> str:
    sizes = [first if isinstance(size, torch.SymInt) else str(size) for size in value.shape]
    return f"{str(value.dtype).removeprefix('torch.')} ({', '.join(sizes)})"


def feed(module: Any, memory: Rows | None) -> Callable[[torch.Tensor], Any]:
    """A module as a function of images alone; the memory, where there is one, is its second."""
    if memory is None:
        return lambda images: module(images)
    rows = torch.from_numpy(memory)
    return lambda images: module(images, rows)


def run_in_batches(
    module: Callable[[torch.Tensor], Any], images: torch.Tensor, batch: int
) -> list[torch.Tensor]:
    """All outputs of all images, without gradients; memory does not grow with their number.

    Args:
        module: of images alone.
        images: (N, H, W, C) uint8, any N but 0.
        batch: at once; filled up by repeating, so that the last is no special case for the program.

    Returns:
        (N, ...) each, in the program's order.
    """
    count = len(images)
    filled = images[torch.arange(-(-count // batch) * batch) % count]
    # Not inference_mode: what it makes may have no part in teaching.
    with torch.no_grad():
        found = [
            flat_outputs(module(filled[start : start + batch]))
            for start in range(0, len(filled), batch)
        ]
        return [torch.cat(values)[:count] for values in zip(*found, strict=True)]


def flat_outputs(given: Any) -> list[torch.Tensor]:
    """What a program gave, in its order: one tensor, a tuple or a dictionary of them."""
    if isinstance(given, torch.Tensor):
        return [given]
    return list(given.values()) if isinstance(given, dict) else list(given)
