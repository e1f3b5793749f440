"""What every way of making a form has in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lineside.contract import Contract
from lineside.memory import Rows
from lineside_export import openvino_ir
from lineside_export.candidate import Candidate
from lineside_export.formats import Format, Source
from lineside_export.targets import Target


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """All that a form may be made of: no validation, assurance, golden or test sample is in it.

    Equal to itself alone, so that what was made of it may be remembered.

    Attributes:
        source: the float program.
        images_nhwc: (N, H, W, C) uint8 quantisation samples.
        parts: N ids of the parts they show.
        contract: names and shapes.
        memory: (M, width) float32; ``None`` where the contract names none.
        target: the hardware that the form is for.
    """

    source: Source
    images_nhwc: NDArray[np.uint8]
    parts: tuple[str, ...]
    contract: Contract
    memory: Rows | None = None
    target: Target

    def new_network(self) -> Any:
        """The float program as an ``openvino.Model`` of the caller's own: nncf changes it in place.

        Raises:
            GraphError: OpenVINO refuses the model.
        """
        return openvino_ir.onnx_to_openvino(self.source.data)


def gather_material(candidate: Candidate, source: Source, target: Target) -> Material:
    """Take the quantisation samples, and no others.

    Raises:
        CandidateError: a frame that the contract does not accept.
    """
    return Material(
        source=source,
        images_nhwc=candidate.images_nhwc("quantisation"),
        parts=tuple(candidate.samples["quantisation"].parts),
        contract=candidate.contract,
        memory=candidate.memory,
        target=target,
    )


Build = Callable[[Material], Format]
"""Raises GraphError where a vendor's tool refuses the model, or finds nothing to do in it."""


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One way, for the engines that know it.

    Attributes:
        precision: its name, on the command line and in the manifest.
        about: what is rounded, in one line for people.
        build: by engine.
    """

    precision: str
    about: str
    build: Mapping[str, Build]
