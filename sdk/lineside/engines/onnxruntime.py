"""ONNX Runtime behind our protocol. Nothing of it leaves this file: no type, no exception."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lineside.contract import Contract
from lineside.engines._faults import BUILTIN_FAULTS, told
from lineside.engines._lanes import Outputs
from lineside.engines._static_batch import (
    OPEN,
    Port,
    StaticBatches,
    check_ports,
    read_rows,
    threads_of,
)
from lineside.engines.cache import private_folder
from lineside.engines.protocol import EngineSettings, ModelFiles, ReadPart
from lineside.engines.silence import silence_telemetry
from lineside.errors import EngineError, ProviderError

_CPU: Final = "CPUExecutionProvider"
_TENSORRT: Final = "TensorrtExecutionProvider"
_REMOTE: Final = "AzureExecutionProvider"  # sends inputs to a service: a device is silent
_FATAL: Final = 4  # ORT_LOGGING_LEVEL_FATAL: everything below comes as an exception as well

_KINDS: Final = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


def _import_onnxruntime() -> Any:
    silence_telemetry()
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f"onnxruntime cannot be imported ({error}): pip install 'lineside[onnxruntime]'"
        ) from error
    return onnxruntime


def vendor_faults() -> tuple[type[Exception], ...]:
    """Every exception class that ONNX Runtime can raise; its own derive from Exception itself."""
    _import_onnxruntime()
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = (
        found
        for found in vars(state).values()
        if isinstance(found, type) and issubclass(found, Exception)
    )
    return (*BUILTIN_FAULTS, *own)


def list_devices() -> tuple[str, ...]:
    """The execution providers in this build; whether one comes up shows only with a model.

    Raises:
        EngineError: ONNX Runtime is not installed.
    """
    found = _import_onnxruntime().get_available_providers()
    return tuple(name for name in found if name != _REMOTE)


class OnnxRuntimeEngine:
    """One session, which lanes share; no provider is ever exchanged for another."""

    name: Final = "onnxruntime"

    def __init__(
        self, model: ModelFiles, read_part: ReadPart, contract: Contract, settings: EngineSettings
    ) -> None:
        self.precision = model.precision
        self.threads = threads_of(settings)
        self._label = f"onnxruntime/{model.precision}"
        self._input_name = contract.input.name
        rows = read_rows(contract, read_part)
        # Handed over at each run: ONNX Runtime reads CPU arrays where they lie, read-only or not.
        self._feeds: dict[str, NDArray[Any]] = (
            {} if contract.memory is None or rows is None else {contract.memory.name: rows}
        )
        self._output_names = [spec.name for spec in contract.outputs]
        self._faults = vendor_faults()
        asked = resolve_providers(settings.providers, list_devices())
        try:
            self._session: Any = self._open_session(model, read_part, settings, asked)
            inputs, outputs = (
                _ports(self._session.get_inputs()),
                _ports(self._session.get_outputs()),
            )
        except self._faults as error:
            raise EngineError(f"{self._label}: the model is refused: {told(error)}") from error
        batch = settings.batch or model.batch
        check_ports(self._label, contract, batch, inputs, outputs)
        version = _import_onnxruntime().__version__
        short = "+".join(name.removesuffix("ExecutionProvider") for name in asked)
        self.description = (
            f"onnxruntime {version} {short}, {model.precision} weights, {self.threads} thread(s)"
        )
        # A lane is a thread that calls the session, which computes in it.
        self._workers = ThreadPoolExecutor(settings.lanes, thread_name_prefix="lane")
        lanes = [_Caller(self._run, self._workers) for _ in range(settings.lanes)]
        self._batches = StaticBatches(lanes, contract, batch, self._label)

    def infer(self, inputs_nhwc: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `Engine.infer`."""
        return self._batches.infer(inputs_nhwc)

    def close(self) -> None:
        """See `Engine.close`."""
        self._session = None
        self._feeds = {}
        self._workers.shutdown()

    def _open_session(
        self,
        model: ModelFiles,
        read_part: ReadPart,
        settings: EngineSettings,
        asked: tuple[str, ...],
    ) -> Any:
        onnxruntime = _import_onnxruntime()
        if model.inference_precision != "f32":
            raise EngineError(
                f"{self._label}: {model.inference_precision} arithmetic is OpenVINO's; export with "
                "another --precision"
            )
        if len(model.parts) != 1:
            raise EngineError(
                f"{self._label}: needs one part, .onnx with its weights inside; the bundle names "
                f"{', '.join(model.parts) or 'none'}"
            )
        session = onnxruntime.InferenceSession(
            bytes(read_part(model.parts[0])),
            _session_options(onnxruntime, 1 if settings.lanes > 1 else self.threads),
            providers=[(name, provider_options(name, settings)) for name in asked],
            # Its own fallback prints a line and goes on with another provider.
            enable_fallback=0,
        )
        check_providers(self._label, asked, tuple(session.get_providers()))
        # Kept only for the fallback that is switched off: a second copy of the model.
        session._model_bytes = None
        return session

    def _run(self, batch_nhwc: NDArray[np.uint8]) -> Outputs:
        session = self._session
        if session is None:
            raise EngineError(f"{self._label}: the engine is closed")
        try:
            outputs: Outputs = session.run(
                self._output_names, {self._input_name: batch_nhwc, **self._feeds}
            )
        except self._faults as error:
            raise EngineError(f"{self._label}: inference failed: {told(error)}") from error
        return outputs


class _Caller:
    """A lane: computes in the thread that calls `run`, in a worker from `start` to `finish`."""

    def __init__(
        self, run: Callable[[NDArray[np.uint8]], Outputs], workers: ThreadPoolExecutor
    ) -> None:
        self.run = run
        self._workers = workers
        self._begun: Future[Outputs] | None = None

    def start(self, batch_nhwc: NDArray[np.uint8]) -> None:
        """See `Lane.start`."""
        try:
            self._begun = self._workers.submit(self.run, batch_nhwc)
        except RuntimeError as error:
            raise EngineError(f"onnxruntime: the engine is closed: {error}") from error

    def finish(self) -> Outputs:
        """See `Lane.finish`."""
        assert self._begun is not None, "started first"
        return self._begun.result()


def resolve_providers(asked: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """Long names of the providers asked for.

    Args:
        asked: long or short names, any case; empty means CPU.
        available: what this build has.

    Raises:
        ProviderError: one that this build does not have.
    """
    by_short_name = {name.removesuffix("ExecutionProvider").lower(): name for name in available}
    resolved = []
    for name in asked or (_CPU,):
        found = by_short_name.get(name.removesuffix("ExecutionProvider").lower())
        if found is None:
            raise ProviderError(
                f"onnxruntime: this build has no provider {name!r}; available: "
                f"{', '.join(available)} (install the build for your device, docs/devices.md)",
                asked=name,
                available=tuple(available),
            )
        resolved.append(found)
    return tuple(resolved)


def check_providers(label: str, asked: tuple[str, ...], came_up: tuple[str, ...]) -> None:
    """Hold what a session runs on against what was asked for.

    Raises:
        ProviderError: one is not there; ONNX Runtime would go on without it.
    """
    for name in asked:
        if name not in came_up:
            raise ProviderError(
                f"{label}: provider {name} was asked for and did not come up (its libraries may "
                f"be missing, see the lines above); running would be {', '.join(came_up)}",
                asked=name,
                available=came_up,
            )


def _session_options(onnxruntime: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    # Spinning threads keep a core busy between two frames, and the station's own threads wait.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def provider_options(name: str, settings: EngineSettings) -> dict[str, str]:
    """One provider's options; those of the settings win over ours.

    Args:
        name: its long name.
        settings: their ``provider_options`` may name it long or short, in any case.

    Raises:
        StorageError: the cache folder cannot be used.
    """
    options: dict[str, str] = {}
    if name == _TENSORRT and settings.cache_folder is not None:
        # Building an engine takes minutes on a Jetson, loading a cached one seconds.
        folder = str(private_folder(settings.cache_folder / "tensorrt"))
        options = {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": folder,
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": folder,
        }
    short = name.removesuffix("ExecutionProvider").lower()
    for provider, values in settings.provider_options.items():
        if provider.removesuffix("ExecutionProvider").lower() == short:
            options |= values
    return options


def _ports(arguments: Sequence[Any]) -> list[Port]:
    return [
        Port(
            names=frozenset({argument.name}),
            kind=_KINDS.get(argument.type, argument.type),
            shape=tuple(size if isinstance(size, int) else OPEN for size in argument.shape),
        )
        for argument in arguments
    ]
