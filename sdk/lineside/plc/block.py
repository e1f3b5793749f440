"""The function block, as a PLC runs it: one call a cycle, pure, with the clocks handed in.

Rules R1 to R12 are those of `docs/plc.md` and of `docs/plc/FB_LinesideVerdict.st`, line by line;
the tests run both on the same input and compare.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from lineside.plc.reading import HeardState, HeardVerdict, read_state, read_verdict
from lineside.verdict import Evaluation

BEATS_MISSED: Final = 3


class BlockCode(IntEnum):
    """Why the block itself says NOT_DECIDABLE, or dropped a message; above the wire's 0 to 99."""

    WAITING = 100
    TIMEOUT = 101
    STATION = 102
    MALFORMED = 103
    REPEATED = 104
    OTHER_PART = 105
    STALE = 106
    CLOCK = 107
    EXPIRED = 108
    EARLY = 109


@dataclass(frozen=True, kw_only=True)
class BlockSettings:
    """What is set once.

    Attributes:
        timeout_ms: from the trigger to the verdict at most.
        tolerance_ms: by how much the clocks of PLC and station may differ.
    """

    timeout_ms: int = 1000
    tolerance_ms: int = 100


@dataclass(frozen=True, kw_only=True)
class BlockInput:
    """One cycle's inputs.

    Attributes:
        execute: rises when a part is presented, stays while its result is wanted.
        part: which one, at most 32 printable ASCII characters; ``""``: any.
        cycle_ms: since the call before.
        unix_ms: the PLC's clock, milliseconds since 1970 UTC; 0: it has none that is synchronised.
        verdict, state: a payload that came since the call before; empty: none.
    """

    execute: bool = False
    part: str = ""
    cycle_ms: int = 0
    unix_ms: int = 0
    verdict: bytes = b""
    state: bytes = b""


@dataclass(frozen=True, kw_only=True)
class BlockOutput:
    """What the PLC's program acts on. ``evaluation`` is 3 unless a fresh verdict says else.

    Attributes:
        busy: waits for the verdict of the part.
        done: the turn has ended: ``evaluation`` and ``code`` are its result.
        code: 0 to 99: of the verdict; from 100: of the block.
        alive: the station can judge.
        refused: why the latest message that was dropped was; 0: none was.
        missing: sequence numbers that were passed over, ever.
        dropped: messages that were dropped, ever.
        verdict: what ``done`` rests upon, ``None`` where the block said so itself.
    """

    evaluation: Evaluation = Evaluation.NOT_DECIDABLE
    code: int = BlockCode.WAITING
    busy: bool = False
    done: bool = False
    alive: bool = False
    refused: int = 0
    missing: int = 0
    dropped: int = 0
    verdict: HeardVerdict | None = None


@dataclass(kw_only=True)
class _Turn:
    """A part that stands there, since ``started_ms`` of the block's own clock."""

    part: str
    started_ms: int
    started_unix_ms: int


@dataclass
class PlcBlock:
    """One station as a PLC sees it: call ``cycle`` in every cycle; it neither waits nor raises."""

    settings: BlockSettings
    output: BlockOutput = field(default_factory=BlockOutput)
    _clock_ms: int = 0
    _execute: bool = False
    _turn: _Turn | None = None
    _state: HeardState | None = None
    _state_at_ms: int = 0
    _last: HeardVerdict | None = None

    def cycle(self, given: BlockInput) -> BlockOutput:
        """One call of the block.

        Messages come before the edge of ``execute``: one of the cycle in which a part is presented
        was sent before, and is of an earlier turn.
        """
        self._clock_ms += given.cycle_ms
        self._hear_state(given)
        alive = self._is_alive(given)
        self.output = replace(self.output, alive=alive)
        self._end_turn(alive)
        if given.verdict:
            self._hear_verdict(given)
        self._follow_execute(given)
        self._hold(given)
        return self.output

    def _hear_state(self, given: BlockInput) -> None:
        if not given.state:
            return
        state = read_state(given.state)
        if state is None:
            self._drop(BlockCode.MALFORMED)  # R2
        else:
            self._state, self._state_at_ms = state, self._clock_ms

    def _is_alive(self, given: BlockInput) -> bool:
        # R6: no state, offline, or none for three beats, by the block's clock and by its own time.
        state = self._state
        if state is None or state.state == 0:
            return False
        most_ms = BEATS_MISSED * state.beat_s * 1000
        late_ms = most_ms + self.settings.tolerance_ms
        if given.unix_ms and given.unix_ms >= state.written_ms + late_ms:
            return False
        return self._clock_ms < self._state_at_ms + most_ms

    def _end_turn(self, alive: bool) -> None:
        if not self.output.busy or self._turn is None:
            return
        if self._clock_ms >= self._turn.started_ms + self.settings.timeout_ms:
            self._finish(BlockCode.TIMEOUT)  # R11
        elif not alive:
            self._finish(BlockCode.STATION)  # R6

    def _hear_verdict(self, given: BlockInput) -> None:
        heard = read_verdict(given.verdict)
        if heard is None:
            self._drop(BlockCode.MALFORMED)  # R2
            return
        if not self._is_new(heard):
            self._drop(BlockCode.REPEATED)  # R3, R4
            return
        self._count_gap(heard)
        self._last = heard
        if not self.output.busy or self._turn is None:
            return  # R7: what comes while no part waits is nobody's
        refusal = self._refusal(heard, self._turn, given)
        if refusal:
            self._drop(refusal)
            return
        # R10: the first that passes is the turn's result.
        self.output = replace(
            self.output,
            evaluation=Evaluation(heard.evaluation or Evaluation.NOT_DECIDABLE),
            code=heard.code,
            busy=False,
            done=True,
            verdict=heard,
        )

    def _is_new(self, heard: HeardVerdict) -> bool:
        if self._last is None:
            return True
        if heard.origin == self._last.origin:
            return heard.seq > self._last.seq  # R3
        return heard.taken_ms > self._last.taken_ms  # R4

    def _count_gap(self, heard: HeardVerdict) -> None:
        # R5: a gap is told; the part whose verdict was lost runs into its timeout.
        last = self._last
        if last is not None and heard.origin == last.origin:
            missing = self.output.missing + heard.seq - last.seq - 1
            self.output = replace(self.output, missing=missing)

    def _refusal(self, heard: HeardVerdict, turn: _Turn, given: BlockInput) -> BlockCode | None:
        if turn.part not in ("", heard.part):
            return BlockCode.OTHER_PART  # R8
        if given.unix_ms:
            tolerance_ms = self.settings.tolerance_ms
            if heard.taken_ms > given.unix_ms + tolerance_ms:
                return BlockCode.CLOCK  # R9: the clocks disagree, so that nothing tells stale
            if heard.taken_ms + tolerance_ms < turn.started_unix_ms:
                return BlockCode.EARLY  # R8: an earlier turn of the same part
        if self._is_stale(heard, turn, given):
            return BlockCode.STALE  # R9
        return None

    def _is_stale(self, heard: HeardVerdict, turn: _Turn, given: BlockInput) -> bool:
        # By the clock where there is one, and always by the life that the verdict has at all.
        if given.unix_ms and given.unix_ms >= heard.expires_ms:
            return True
        life_ms = heard.expires_ms - heard.taken_ms
        return self._clock_ms >= turn.started_ms + life_ms

    def _follow_execute(self, given: BlockInput) -> None:
        rises, self._execute = given.execute and not self._execute, given.execute
        if rises:
            # R7: a new part; nothing that was heard before counts for it.
            self._turn = _Turn(
                part=given.part, started_ms=self._clock_ms, started_unix_ms=given.unix_ms
            )
            self._rest(busy=True)
        elif not given.execute:
            self._turn = None
            self._rest(busy=False)  # R1: without a part there is no OK

    def _hold(self, given: BlockInput) -> None:
        # R12: a result stands until `execute` falls, but no OK outlives its verdict.
        out, turn = self.output, self._turn
        if out.evaluation is not Evaluation.OK or out.verdict is None or turn is None:
            return
        if self._is_stale(out.verdict, turn, given):
            self._finish(BlockCode.EXPIRED)

    def _rest(self, *, busy: bool) -> None:
        self.output = replace(
            self.output,
            evaluation=Evaluation.NOT_DECIDABLE,
            code=BlockCode.WAITING,
            busy=busy,
            done=False,
            verdict=None,
        )

    def _finish(self, code: BlockCode) -> None:
        self._rest(busy=False)
        self.output = replace(self.output, code=code, done=True)

    def _drop(self, code: BlockCode) -> None:
        self.output = replace(self.output, refused=code, dropped=self.output.dropped + 1)
