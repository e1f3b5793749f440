"""What nncf does with OpenVINO leaves the thread the signal stack that it had."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino
import openvino.opset13 as ops

from lineside_export.quantize import call_nncf
from lineside_export.signal_stack import read_signal_stack


def compiled() -> Any:
    value = ops.parameter([1, 4], np.float32)
    return openvino.Core().compile_model(openvino.Model([ops.relu(value)], [value]), "CPU")


def told() -> tuple[int, int, int]:
    found = read_signal_stack()
    return found.begin, found.flags, found.size_bytes


def test_cores_that_end_in_the_order_they_began_leave_the_signal_stack() -> None:
    before, within = told(), []

    def work(_nncf: Any) -> None:
        models = [compiled(), compiled()]
        within.append(told())
        while models:
            models.pop(0)
        within.append(told())

    call_nncf(work)

    assert within[0] != before
    assert within[1] != before  # the freed one of the first
    assert told() == before
