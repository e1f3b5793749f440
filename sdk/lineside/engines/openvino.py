"""OpenVINO behind our protocol. Nothing of it leaves this file: no type, no exception."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
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
    input_shape,
    read_rows,
    threads_of,
)
from lineside.engines.cache import private_folder
from lineside.engines.protocol import EngineSettings, ModelFiles, ReadPart
from lineside.engines.silence import silence_telemetry
from lineside.errors import EngineError, ProviderError
from lineside.memory import Rows

_CORE_LOCK: Final = threading.Lock()
_KINDS: Final = {"u8": "uint8", "f32": "float32", "f16": "float16", "i64": "int64"}


def _import_openvino() -> Any:
    silence_telemetry()
    try:
        import openvino
    except ImportError as error:
        raise EngineError(
            f"openvino cannot be imported ({error}): pip install 'lineside[openvino]'"
        ) from error
    return openvino


def vendor_faults() -> tuple[type[Exception], ...]:
    """Every exception class that OpenVINO can raise."""
    openvino = _import_openvino()
    import_module("openvino.exceptions")
    own = (
        found
        for module in (openvino.frontend, openvino.exceptions)
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Exception)
    )
    return (*BUILTIN_FAULTS, *own)


def shared_core() -> Any:
    """The one ``openvino.Core`` of this process, which is never let go.

    A core gives the thread that first uses its CPU a signal stack of its own (for AMX, see
    openvinotoolkit/openvino pull request 11894) and frees it with the last model of that core. Of
    two cores that end in the order in which they began, the thread keeps a freed one: the next
    signal that Python handles, say SIGTERM, ends the process by SIGSEGV without a word.

    Raises:
        EngineError: OpenVINO is not installed.
    """
    with _CORE_LOCK:
        return _make_core()


@cache
def _make_core() -> Any:
    return _import_openvino().Core()


def list_devices() -> tuple[str, ...]:
    """The devices that come up on this machine, e.g. ``("CPU", "GPU")``.

    Raises:
        EngineError: OpenVINO is not installed or does not start.
    """
    faults = vendor_faults()
    try:
        return tuple(shared_core().available_devices)
    except faults as error:
        raise EngineError(f"openvino does not start: {told(error)}") from error


class OpenVinoEngine:
    """One compiled model; each lane is a request of it whose tensors are bound once."""

    name: Final = "openvino"

    def __init__(
        self, model: ModelFiles, read_part: ReadPart, contract: Contract, settings: EngineSettings
    ) -> None:
        self.precision = model.precision
        self.threads = threads_of(settings)
        self._label = f"openvino/{model.precision}"
        self._faults = vendor_faults()
        rows = read_rows(contract, read_part)
        batch = settings.batch or model.batch
        try:
            compiled = self._compile(model, read_part, contract, settings, rows)
            self._lanes = tuple(
                _Request(compiled, contract, batch, rows, self._faults, self._label)
                for _ in range(settings.lanes)
            )
            version = _import_openvino().__version__.split("-")[0]
        except self._faults as error:
            raise EngineError(f"{self._label}: the model is refused: {told(error)}") from error
        self.description = (
            f"openvino {version} {settings.device}, {model.precision} weights, "
            f"{model.inference_precision} arithmetic, {self.threads} thread(s)"
        )
        self._batches = StaticBatches(self._lanes, contract, batch, self._label)

    def infer(self, inputs_nhwc: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """See `Engine.infer`."""
        return self._batches.infer(inputs_nhwc)

    def close(self) -> None:
        """See `Engine.close`."""
        for lane in self._lanes:
            lane.close()

    def _compile(
        self,
        model: ModelFiles,
        read_part: ReadPart,
        contract: Contract,
        settings: EngineSettings,
        rows: Rows | None,
    ) -> Any:
        openvino = _import_openvino()
        core = shared_core()
        _check_device(core, settings.device)
        network = _read_network(openvino, core, model, read_part)
        batch = settings.batch or model.batch
        check_ports(self._label, contract, batch, _ports(network.inputs), _ports(network.outputs))
        # Before compiling: int8 differs between a dynamic and a static batch.
        network.reshape(_static_shapes(contract, batch, rows))
        compiled = core.compile_model(
            network, settings.device, _compile_settings(model, settings, self.threads)
        )
        _check_arithmetic(self._label, compiled, model.inference_precision)
        running_on = tuple(compiled.get_property("EXECUTION_DEVICES"))
        if any(not on.startswith(settings.device.split(".")[0]) for on in running_on):
            raise ProviderError(
                f"{self._label}: asked for {settings.device}, compiled for {running_on}",
                asked=settings.device,
                available=running_on,
            )
        return compiled


class _Request:
    """A lane: one request, and the tensors that are its own."""

    def __init__(
        self,
        compiled: Any,
        contract: Contract,
        batch: int,
        rows: Rows | None,
        faults: tuple[type[Exception], ...],
        label: str,
    ) -> None:
        openvino = _import_openvino()
        self._faults = faults
        self._label = label
        self._request: Any = compiled.create_infer_request()
        if contract.memory is not None and rows is not None:
            # Set once and kept. Mapped memory is read-only, which shared tensors refuse: one copy.
            tensor = openvino.Tensor(openvino.Type.f32, list(rows.shape))
            tensor.data[...] = rows
            self._request.set_tensor(compiled.input(contract.memory.name), tensor)
        tensor = openvino.Tensor(openvino.Type.u8, list(input_shape(contract, batch)))
        self._request.set_tensor(compiled.input(contract.input.name), tensor)
        self._input_nhwc: NDArray[np.uint8] = tensor.data
        self._outputs: list[NDArray[np.float32]] = []
        for spec in contract.outputs:
            port = compiled.output(spec.name)
            tensor = openvino.Tensor(openvino.Type.f32, port.shape)
            self._request.set_tensor(port, tensor)
            self._outputs.append(tensor.data)

    def run(self, batch_nhwc: NDArray[np.uint8]) -> Outputs:
        """See `Lane.run`."""
        request = self._open_request()
        try:
            # A copy into a bound tensor: handing over the caller's array costs more (a whole call
            # on 32x32 pixels took 48 against 21 us), and it may be read-only.
            self._input_nhwc[...] = batch_nhwc
            request.infer(share_outputs=True)
        except self._faults as error:
            raise EngineError(f"{self._label}: inference failed: {told(error)}") from error
        return [output.copy() for output in self._outputs]

    def start(self, batch_nhwc: NDArray[np.uint8]) -> None:
        """See `Lane.start`."""
        request = self._open_request()
        try:
            self._input_nhwc[...] = batch_nhwc
            request.start_async()
        except self._faults as error:
            raise EngineError(f"{self._label}: inference failed: {told(error)}") from error

    def finish(self) -> Outputs:
        """See `Lane.finish`."""
        request = self._open_request()
        try:
            request.wait()
        except self._faults as error:
            raise EngineError(f"{self._label}: inference failed: {told(error)}") from error
        return [output.copy() for output in self._outputs]

    def close(self) -> None:
        """Free it; the rest raises afterwards."""
        self._request = None

    def _open_request(self) -> Any:
        request = self._request
        if request is None:
            raise EngineError(f"{self._label}: the engine is closed")
        return request


def _static_shapes(contract: Contract, batch: int, rows: Rows | None) -> dict[str, list[int]]:
    shapes = {contract.input.name: list(input_shape(contract, batch))}
    if contract.memory is not None and rows is not None:
        shapes[contract.memory.name] = list(rows.shape)
    return shapes


def _check_device(core: Any, device: str) -> None:
    available = tuple(core.available_devices)
    families = {found.split(".")[0] for found in available}
    # AUTO, MULTI and HETERO would choose for us, and choose again in silence.
    if device not in available and device not in families:
        raise ProviderError(
            f"openvino: device {device!r} does not come up here; available: "
            f"{', '.join(available) or 'none'} (name one of them, `lineside doctor` tells more)",
            asked=device,
            available=available,
        )


def _check_arithmetic(label: str, compiled: Any, wanted: str) -> None:
    # A processor without bfloat16 computes in float32 instead, and says so only when asked.
    found = str(compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name())
    if found != wanted:
        raise ProviderError(
            f"{label}: the model is made for {wanted} arithmetic, this device offers {found}: "
            "export with another --precision, or take another form of the bundle",
            asked=wanted,
            available=(found,),
        )


def _read_network(openvino: Any, core: Any, model: ModelFiles, read_part: ReadPart) -> Any:
    if len(model.parts) != 2:
        raise EngineError(
            f"openvino/{model.precision}: needs two parts, .xml and .bin; the bundle names "
            f"{', '.join(model.parts) or 'none'}"
        )
    topology, weights = (read_part(name) for name in model.parts)
    # Mapped memory is read-only, which OpenVINO's shared tensors refuse: one copy, given back
    # to the system after compiling.
    tensor = openvino.Tensor(openvino.Type.u8, [len(weights)])
    tensor.data[:] = np.frombuffer(weights, np.uint8)
    return core.read_model(bytes(topology).decode("utf-8"), tensor)


def _compile_settings(
    model: ModelFiles, settings: EngineSettings, threads: int
) -> dict[str, str | int]:
    wanted: dict[str, str | int] = {
        # Unless told, CPUs with bf16 (and aarch64 with f16) compute in less than was proven.
        "INFERENCE_PRECISION_HINT": model.inference_precision,
        "PERFORMANCE_HINT": "LATENCY",
    }
    if settings.device == "CPU":
        # Pinned, as it does unless told, a thread waits for its core while another is free: on two
        # busy cores one thread took 2 to 4 times as long, on quiet ones as long.
        wanted |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": settings.lanes}
        wanted |= {"ENABLE_CPU_PINNING": False}
    if settings.cache_folder is not None:
        folder: Path = private_folder(settings.cache_folder / "openvino")
        wanted["CACHE_DIR"] = str(folder)
    return wanted


def _ports(ports: Sequence[Any]) -> list[Port]:
    return [
        Port(
            names=frozenset(port.names),
            kind=_KINDS.get(port.element_type.get_type_name(), port.element_type.get_type_name()),
            shape=tuple(
                OPEN if size.is_dynamic else size.get_length() for size in port.partial_shape
            ),
        )
        for port in ports
    ]
