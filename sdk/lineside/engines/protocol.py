"""What an engine is to the rest of Lineside, whoever made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lineside.errors import ConfigurationError

ReadPart = Callable[[str], memoryview]


class ModelFiles(Protocol):
    """What an engine needs to know of a model; the manifest's ``ModelEntry`` is one.

    Attributes:
        engine: ``onnxruntime`` or ``openvino``.
        precision: of the weights, ``fp32`` or ``int8``.
        parts: names of the files; the first is the one the engine opens.
        inference_precision: what float layers compute in, e.g. ``f32``.
        batch: the static batch it is compiled for.
    """

    @property
    def engine(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def parts(self) -> tuple[str, ...]: ...
    @property
    def inference_precision(self) -> str: ...
    @property
    def batch(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How to run a model on this device.

    Attributes:
        threads: computing threads; ``None`` takes every core this process may use.
        providers: ONNX Runtime's execution providers in order of preference, long or short names
            (``CUDA``, ``TensorRT``, ``CPU``); empty means CPU. All must come up.
        provider_options: options by provider, as ONNX Runtime names them.
        device: OpenVINO's device, e.g. ``CPU``, ``GPU``, ``NPU``.
        cache_folder: where engines keep compiled models; ``None`` keeps none. Compiled models are
            not signed, so the folder must belong to the station alone.
        batch: the static batch to compile for; ``None`` is the model's own.
        lanes: batches that are computed side by side, each by one thread; with more than one of
            them ``threads`` is as many. CPUs only.
    """

    threads: int | None = None
    providers: tuple[str, ...] = ()
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    device: str = "CPU"
    cache_folder: Path | None = None
    batch: int | None = None
    lanes: int = 1

    def __post_init__(self) -> None:
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ConfigurationError(
                f"threads = {self.threads}: give a number from 1 to 1024, or leave it out",
                path="threads",
            )
        if self.batch is not None and not 1 <= self.batch <= 1024:
            raise ConfigurationError(
                f"batch = {self.batch}: give a number from 1 to 1024, or leave it out", path="batch"
            )
        if not 1 <= self.lanes <= 1024:
            raise ConfigurationError(
                f"lanes = {self.lanes}: give a number from 1 to 1024", path="lanes"
            )


class Engine(Protocol):
    """A compiled model. Threads that call it at once wait for each other.

    Attributes:
        name: ``onnxruntime`` or ``openvino``.
        precision: of the weights, ``fp32`` or ``int8``.
        threads: computing threads in use.
        description: for people: version, device, precision, threads.
    """

    @property
    def name(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def description(self) -> str: ...

    def infer(self, inputs_nhwc: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Compute the contract's outputs.

        Args:
            inputs_nhwc: (N, H, W, C) uint8, any N; cut into the static batches it is compiled
                for, the last one filled up.

        Returns:
            By output name: (N, *shape) float32, the caller's own.

        Raises:
            EngineError: an input of another shape or kind, or a failure while computing.
        """
        ...

    def close(self) -> None:
        """Free the model; `infer` raises afterwards. Closing again does nothing."""
        ...
