"""What both engines share: the check against the contract, the memory, and cutting N images into
batches.

One shape everywhere: an int8 ViT gives other numbers in OpenVINO for a dynamic batch than for a
static one (0.011 against an output deviation of 0.095), so whoever compares must compile alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from lineside.contract import Contract, OutputSpec
from lineside.engines._lanes import Lane, Outputs, run_in_turn
from lineside.engines.machine import usable_cores
from lineside.engines.protocol import EngineSettings, ReadPart
from lineside.errors import EngineError
from lineside.memory import MEMORY_PART, Rows, view_memory

# A dimension that is open until the model runs.
OPEN = None


@dataclass(frozen=True, kw_only=True)
class Port:
    """One input or output as the engine reports it; ``kind`` is a numpy name, e.g. ``uint8``."""

    names: frozenset[str]
    kind: str
    shape: tuple[int | None, ...]


def threads_of(settings: EngineSettings) -> int:
    """Computing threads of an engine that is opened so: one a lane where there are several."""
    return settings.lanes if settings.lanes > 1 else settings.threads or usable_cores()


def check_ports(
    label: str, contract: Contract, batch: int, inputs: Sequence[Port], outputs: Sequence[Port]
) -> None:
    """Hold what the model says of itself against the contract.

    Raises:
        EngineError: another number of inputs, or a name, kind or shape that differs; a memory that
            the contract names must be there with an open number of rows, and no other.
    """
    _check_inputs(label, contract, batch, inputs)
    for spec in contract.outputs:
        found = next((port for port in outputs if spec.name in port.names), None)
        if found is None:
            raise EngineError(
                f"{label}: the model has no output {spec.name!r}; it gives {_listed(outputs)}"
            )
        _check_port(label, "output", spec.name, "float32", found, (batch, *spec.shape))


def _check_inputs(label: str, contract: Contract, batch: int, inputs: Sequence[Port]) -> None:
    wanted, memory = contract.input, contract.memory
    names = [wanted.name] if memory is None else [wanted.name, memory.name]
    if len(inputs) != len(names):
        told = "one" if memory is None else "two"
        raise EngineError(
            f"{label}: the model takes {len(inputs)} inputs ({_listed(inputs)}), the contract "
            f"names {told}, {' and '.join(map(repr, names))}: export the model again"
        )
    if memory is None:
        _check_port(label, "input", wanted.name, "uint8", inputs[0], input_shape(contract, batch))
        return
    image = _find_port(label, inputs, wanted.name)
    _check_port(label, "input", wanted.name, "uint8", image, input_shape(contract, batch))
    # Open, because a memory may be exchanged for a larger one without touching the model.
    port = _find_port(label, inputs, memory.name)
    _check_port(label, "input", memory.name, "float32", port, (OPEN, memory.width))


def _find_port(label: str, inputs: Sequence[Port], name: str) -> Port:
    for port in inputs:
        if name in port.names:
            return port
    raise EngineError(
        f"{label}: the model has no input {name!r}; it takes {_listed(inputs)}: export the model "
        "again"
    )


def input_shape(contract: Contract, batch: int) -> tuple[int, int, int, int]:
    """(batch, H, W, C) of the graph's input."""
    return (batch, *contract.input.size_hw, contract.input.channels)


def _check_port(
    label: str, role: str, name: str, kind: str, port: Port, shape: tuple[int | None, ...]
) -> None:
    if name not in port.names:
        raise EngineError(
            f"{label}: the model's {role} is called {_listed([port])}, the contract says {name!r}"
        )
    if port.kind != kind:
        raise EngineError(
            f"{label}: {role} {name!r} is {port.kind}, it must be {kind} (raw pixels and float32 "
            "memory in, float32 values out; cast and normalisation belong into the graph)"
        )
    fits = len(port.shape) == len(shape) and all(
        found is OPEN or found == expected
        for found, expected in zip(port.shape, shape, strict=True)
    )
    if not fits:
        raise EngineError(
            f"{label}: {role} {name!r} has shape {_shown(port.shape)}, the contract says "
            f"{_shown(shape)}"
        )


def _listed(ports: Sequence[Port]) -> str:
    return ", ".join("/".join(sorted(port.names)) or "(no name)" for port in ports) or "nothing"


def _shown(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("?" if size is OPEN else str(size) for size in shape) + ")"


def read_rows(contract: Contract, read_part: ReadPart) -> Rows | None:
    """The memory that the contract names: mapped, (M, width) float32, read-only.

    Raises:
        BundleFormatError: the part is none.
    """
    if contract.memory is None:
        return None
    return view_memory(read_part(MEMORY_PART), contract.memory, source=MEMORY_PART)


class StaticBatches:
    """Feeds N images to lanes that take exactly ``batch`` of them."""

    def __init__(self, lanes: Sequence[Lane], contract: Contract, batch: int, label: str) -> None:
        self._lanes = tuple(lanes)
        self._shape = input_shape(contract, batch)
        self._outputs = contract.outputs
        self._names = tuple(spec.name for spec in contract.outputs)
        self._output_shapes = tuple((batch, *spec.shape) for spec in contract.outputs)
        self._label = label
        self._filled: NDArray[np.uint8] | None = None
        self._lock = Lock()

    def infer(self, inputs_nhwc: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `Engine.infer`."""
        # Buffers are reused: without the lock one thread could get the other one's verdict.
        with self._lock:
            if inputs_nhwc.shape == self._shape and inputs_nhwc.dtype == np.uint8:
                return dict(zip(self._names, self._run_one(inputs_nhwc), strict=True))
            self._check(inputs_nhwc)
            return self._infer_many(inputs_nhwc)

    def _infer_many(self, inputs_nhwc: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        count, batch = len(inputs_nhwc), self._shape[0]
        results = {spec.name: _empty(count, spec) for spec in self._outputs}
        with contextlib.closing(run_in_turn(self._lanes, self._cut(inputs_nhwc))) as computed:
            for start, outputs in zip(range(0, count, batch), computed, strict=True):
                for name, values in zip(self._names, self._checked(outputs), strict=True):
                    results[name][start : start + batch] = values[: count - start]
        return results

    def _run_one(self, batch_nhwc: NDArray[np.uint8]) -> Outputs:
        return self._checked(self._lanes[0].run(batch_nhwc))

    def _cut(self, inputs_nhwc: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
        batch = self._shape[0]
        for start in range(0, len(inputs_nhwc), batch):
            chunk = inputs_nhwc[start : start + batch]
            yield chunk if len(chunk) == batch else self._fill_up(chunk)

    def _checked(self, outputs: Outputs) -> Outputs:
        for values, shape, name in zip(outputs, self._output_shapes, self._names, strict=True):
            if values.shape != shape:
                raise EngineError(
                    f"{self._label}: output {name!r} came out as {values.shape}, the contract "
                    f"says {shape}"
                )
        return outputs

    def _fill_up(self, chunk: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._filled is None:
            self._filled = np.zeros(self._shape, np.uint8)
        self._filled[: len(chunk)] = chunk
        return self._filled

    def _check(self, inputs_nhwc: NDArray[np.uint8]) -> None:
        if (
            inputs_nhwc.dtype != np.uint8
            or inputs_nhwc.ndim != 4
            or inputs_nhwc.shape[1:] != self._shape[1:]
        ):
            expected = ", ".join(map(str, self._shape[1:]))
            raise EngineError(
                f"{self._label}: got {inputs_nhwc.dtype} {inputs_nhwc.shape}, the model takes "
                f"uint8 (N, {expected})"
            )


def _empty(count: int, spec: OutputSpec) -> NDArray[np.float32]:
    return np.empty((count, *spec.shape), np.float32)
