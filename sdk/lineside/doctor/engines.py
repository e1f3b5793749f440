"""Which engines start here, with which devices and providers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lineside.doctor.check import Check, State
from lineside.engines import ENGINE_NAMES, available_engines, engine_devices, engine_version
from lineside.errors import EngineError

_WHAT: Final = {"openvino": "devices", "onnxruntime": "providers"}


def check_engines(
    engine_names: tuple[str, ...] = ENGINE_NAMES,
    installed: Callable[[], tuple[str, ...]] = available_engines,
) -> list[Check]:
    """One check an engine, and one that at least one of them works."""
    checks = [_check_engine(name, name in installed()) for name in engine_names]
    if any(check.state is State.OK for check in checks):
        return checks
    remedy = "pip install 'lineside[openvino]' or 'lineside[onnxruntime]'"
    nothing = Check(
        topic="engines", state=State.MISSING, found="no engine works here", remedy=remedy
    )
    return [*checks, nothing]


def _check_engine(name: str, installed: bool) -> Check:
    if not installed:
        return Check(
            topic=name,
            state=State.WARNING,
            found="not installed",
            remedy=f"only if you want it: pip install 'lineside[{name}]'",
        )
    try:
        devices = engine_devices(name)
    except EngineError as error:
        return Check(
            topic=name,
            state=State.WARNING,
            found=f"{engine_version(name)}: {error}",
            remedy=f"reinstall it: pip install --force-reinstall 'lineside[{name}]'",
        )
    found = f"{engine_version(name)}, {_WHAT[name]}: {', '.join(devices)}"
    return Check(topic=name, state=State.OK, found=found)
