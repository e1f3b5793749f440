"""The one place that mutes what would call home. It runs before openvino or nncf is imported."""

from __future__ import annotations

import sys
from typing import Final

_TELEMETRY_MODULE: Final = "openvino_telemetry"


def silence_telemetry() -> None:
    """Make `import openvino` and `import nncf` silent in this process; call it before either.

    Both import `openvino_telemetry`, which writes a folder into the home directory and forks a
    child that calls home. With None in its place that import fails, and both vendors carry on with
    the stand-in they ship for machines without it. Called again it changes nothing; called after
    openvino it keeps nncf silent, but cannot take back the call already made.
    """
    # None in sys.modules makes Python raise ModuleNotFoundError for this name, by its own rules
    # (docs.python.org, "The import system", section 5.3.1).
    sys.modules[_TELEMETRY_MODULE] = None  # type: ignore[assignment]
