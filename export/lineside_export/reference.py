"""The float program on a sample set: what every form is held against."""

from __future__ import annotations

import numpy as np

from lineside.contract import LimitRule
from lineside_export.candidate import Candidate
from lineside_export.errors import CandidateError, GateError
from lineside_export.formats import FLOAT, Source
from lineside_export.parity import Measurement, measure


def measure_reference(
    candidate: Candidate, source: Source, set_name: str, rule: LimitRule
) -> Measurement:
    """Run the float program on one sample set.

    Raises:
        CandidateError: it fails, gives NaN, or what is no probability where it promises one.
    """
    outputs = source.infer(candidate.images_nhwc(set_name), candidate)
    for name, values in outputs.items():
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise CandidateError(
                f"{candidate.program_file}: output {name!r} is not a finite number for {set_name} "
                f"sample {int(bad.argmax())} ({int(bad.sum())} of {len(values)} samples): train "
                "again with a lower learning rate, or look for a division by zero"
            )
    try:
        return measure(
            source.computed_by,
            FLOAT,
            outputs,
            targets=candidate.samples[set_name].targets,
            contract=candidate.contract,
            rule=rule,
        )
    except GateError as error:
        raise CandidateError(f"{candidate.program_file}: {set_name}: {error}") from error
