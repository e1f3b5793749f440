"""Which engines there are, which are installed, and opening a model with the one it names."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Final, Protocol, cast

from lineside.contract import Contract
from lineside.engines.protocol import Engine, EngineSettings, ModelFiles, ReadPart
from lineside.errors import EngineError

# By engine: our module, our class, and the distributions that bring the vendor's module.
_ENGINES: Final = {
    "openvino": ("lineside.engines.openvino", "OpenVinoEngine", ("openvino",)),
    "onnxruntime": (
        "lineside.engines.onnxruntime",
        "OnnxRuntimeEngine",
        ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    ),
}
ENGINE_NAMES: Final = tuple(_ENGINES)


class _Opens(Protocol):
    def __call__(
        self, model: ModelFiles, read_part: ReadPart, contract: Contract, settings: EngineSettings
    ) -> Engine: ...


def available_engines() -> tuple[str, ...]:
    """Engines whose module is installed here; nothing is imported to find out."""
    return tuple(name for name in ENGINE_NAMES if find_spec(name) is not None)


def engine_version(name: str) -> str:
    """The installed version of an engine, ``""`` where it is not installed; imports nothing."""
    for distribution in _ENGINES[name][2]:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return ""


def engine_devices(name: str) -> tuple[str, ...]:
    """OpenVINO's devices or ONNX Runtime's providers, as this machine has them.

    Raises:
        EngineError: the engine is not installed or does not start.
    """
    module = import_module(_ENGINES[name][0])
    return cast(Callable[[], tuple[str, ...]], module.list_devices)()


def open_engine(
    model: ModelFiles, read_part: ReadPart, contract: Contract, settings: EngineSettings
) -> Engine:
    """Compile a model on this device. Exporter and station both come through here.

    Args:
        model: which engine, which parts, which static batch.
        read_part: a part's bytes by its name: those of the model, and the memory's where the
            contract names one.
        contract: what the model must take and give.
        settings: threads, providers, device, cache.

    Raises:
        ProviderError: a provider or device that was asked for did not come up.
        EngineError: the engine is unknown, not installed, refuses the model, or the model is not
            what the contract says.
        BundleFormatError: the memory is none; no engine could do better.
    """
    found = _ENGINES.get(model.engine)
    if found is None:
        raise EngineError(f"no engine {model.engine!r}; there are {', '.join(ENGINE_NAMES)}")
    module, name, _ = found
    opens = cast(_Opens, getattr(import_module(module), name))
    return opens(model, read_part, contract, settings)
