"""All schemes. A new one is a file of its own and a line here."""

from __future__ import annotations

from typing import Final

from lineside_export.errors import ExportError
from lineside_export.schemes.distilled import INT8_DISTILLED
from lineside_export.schemes.dynamic import INT8_DYNAMIC
from lineside_export.schemes.floats import BF16, FP16, FP32
from lineside_export.schemes.mixed import INT8_MIXED
from lineside_export.schemes.scheme import Scheme
from lineside_export.schemes.static import INT8
from lineside_export.schemes.weights import INT4_WEIGHTS, INT8_WEIGHTS

SCHEMES: Final[dict[str, Scheme]] = {
    scheme.precision: scheme
    for scheme in (
        *(FP32, FP16, BF16),
        *(INT8, INT8_DYNAMIC, INT8_MIXED, INT8_DISTILLED),
        *(INT8_WEIGHTS, INT4_WEIGHTS),
    )
}


def find_scheme(precision: str) -> Scheme:
    """By its name.

    Raises:
        ExportError: there is none of that name.
    """
    scheme = SCHEMES.get(precision)
    if scheme is None:
        raise ExportError(f"precision {precision!r} is unknown; there are {', '.join(SCHEMES)}")
    return scheme
