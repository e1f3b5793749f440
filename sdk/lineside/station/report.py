"""What a station did since it started, for the summary at the end."""

from __future__ import annotations

import msgspec

from lineside.latency import LatencyHistogram, Percentiles
from lineside.verdict import Evaluation, Verdict

# In the order in which a part passes them; `handover` and `delivery` are the outbox's.
STAGES = ("read", "preprocess", "infer", "decide", "handover", "delivery")


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of one run; counters of the outbox run since it was made.

    Attributes:
        frames: verdicts given in this run.
        passed_over: files left out because an earlier run had inspected them.
        evaluations: verdicts by evaluation.
        reasons: verdicts by reason.
        late: results that came after their deadline; the journal has them.
        latency_us: by stage; ``delivery`` is from durable to acknowledged.
        waiting: verdicts that no broker has acknowledged yet.
        given: verdicts ever given, the last sequence number.
        acknowledged: of these, acknowledged.
        reconnects: connections to the broker after the first.
        connection: how the publisher stood with the broker at the end.
        stopped: ended by a signal before the source had no more.
        duration_s: from start to end.
        maps_written: pictures of parts that are not OK.
        maps_lost: those that could not be written.
        frames_kept: frames that are worth keeping, written.
        frames_lost: those that could not be written.
    """

    frames: int
    passed_over: int
    evaluations: dict[str, int]
    reasons: dict[str, int]
    latency_us: dict[str, Percentiles]
    waiting: int
    given: int
    acknowledged: int
    reconnects: int
    connection: str
    stopped: bool
    duration_s: float
    maps_written: int = 0
    maps_lost: int = 0
    frames_kept: int = 0
    frames_lost: int = 0
    late: int = 0


class Tally:
    """Counts verdicts as they are given; bounded by the number of reasons and stages."""

    def __init__(self) -> None:
        self.frames = 0
        self.evaluations = {evaluation.name: 0 for evaluation in Evaluation}
        self.reasons: dict[str, int] = {}
        self.stages = {name: LatencyHistogram() for name in STAGES[:4]}

    def add(self, verdict: Verdict, *, read_us: float) -> None:
        """Count one verdict; stages that it did not reach are not counted."""
        self.frames += 1
        self.evaluations[verdict.evaluation.name] += 1
        self.reasons[verdict.reason.value] = self.reasons.get(verdict.reason.value, 0) + 1
        timings = verdict.timings
        durations_us = {
            "read": read_us,
            "preprocess": timings.preprocess_us,
            "infer": timings.infer_us,
            "decide": timings.decide_us,
        }
        for name, duration_us in durations_us.items():
            if duration_us > 0:
                self.stages[name].add(duration_us)
