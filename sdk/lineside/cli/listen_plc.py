"""`lineside listen --plc`: what a PLC with the function block of docs/plc would put out."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from lineside.mqtt import Message, Receiver, StationTopics
    from lineside.plc import BlockInput, BlockOutput

_TICK_S: Final = 0.01
# A station that is there has its state with the broker, which hands it over at once.
_SETTLE_S: Final = 2.0
_COLUMNS: Final = (
    *(("time", 12), ("part", 32), ("evaluation", 13), (">code", 4), ("why", 16), (">seq", 8)),
    (">waited", 9),
)


@dataclass(frozen=True, kw_only=True)
class PlcSettings:
    """What the simulator is told.

    Attributes:
        parts: presented one after the other; none: every verdict is taken as it comes.
        every_s: from one trigger to the next; ``None``: as soon as the turn before has ended.
        binary: listens to ``verdict/bin``.
        has_clock: this machine's clock goes by the station's time server.
    """

    parts: tuple[str, ...]
    every_s: float | None
    timeout_ms: int
    binary: bool
    has_clock: bool


class PlcSimulator:
    """One PLC beside one station: cycles of about 10 ms, each message in a cycle of its own."""

    def __init__(
        self,
        *,
        topics: StationTopics,
        settings: PlcSettings,
        show: Callable[[str, dict[str, Any]], None],
    ) -> None:
        from lineside.plc import BlockSettings, PlcBlock

        self.turns = 0
        self._topics = topics
        self._settings = settings
        self._show = show
        self._block = PlcBlock(BlockSettings(timeout_ms=settings.timeout_ms))
        self._is_triggered = bool(settings.parts) or settings.every_s is not None
        self._parts = _parts(settings.parts)
        self._cycled_ms = _monotonic_ms()
        self._waits_for: str | None = None
        self._presented_ms = 0
        self._dropped = 0
        self._alive = False
        self._next_s = 0.0
        self._settle_s: float | None = None

    @property
    def filters(self) -> tuple[str, ...]:
        """What to subscribe to."""
        topics = self._topics
        verdict = topics.verdict_bin if self._settings.binary else topics.verdict
        return (verdict, topics.state, topics.ack)

    def step(self, receiver: Receiver) -> bool:
        """One cycle; ``False`` once every part of the settings has had its turn.

        Raises:
            BrokerRefusedError, BrokerError: see `Receiver.receive`.
        """
        for message in receiver.receive(_TICK_S):
            self._take(message)
        self.cycle()
        if self._waits_for is not None or not self._is_triggered:
            return True
        return not self._is_time(receiver) or self._trigger(receiver)

    def _take(self, message: Message) -> None:
        if message.topic == self._topics.ack:
            self._tell_refusal(message.payload)
        elif message.topic == self._topics.state:
            self.cycle(state=message.payload)
        else:
            if not self._is_triggered:
                self._present_any()
            self.cycle(verdict=message.payload)

    def cycle(self, *, verdict: bytes = b"", state: bytes = b"") -> None:
        """One call of the block, also while the broker is away."""
        from lineside.plc import BlockInput

        now_ms = _monotonic_ms()
        elapsed_ms, self._cycled_ms = now_ms - self._cycled_ms, now_ms
        self._run(
            BlockInput(
                execute=self._waits_for is not None,
                part=self._waits_for or "",
                cycle_ms=elapsed_ms,
                unix_ms=self._unix_ms(),
                verdict=verdict,
                state=state,
            )
        )

    def _run(self, given: BlockInput) -> None:
        out = self._block.cycle(given)
        if out.alive != self._alive:
            self._alive = out.alive
            self._show("alive", {"alive": out.alive})
        if out.dropped != self._dropped:
            self._dropped = out.dropped
            self._show("dropped", {"code": out.refused, "reason": _word(out.refused)})
        if out.done and self._waits_for is not None:
            self._end_turn(out)

    def _end_turn(self, out: BlockOutput) -> None:
        from lineside.plc import BlockInput

        part, heard = self._waits_for or "", out.verdict
        self.turns += 1
        self._show(
            "plc",
            {
                "part": part or ("" if heard is None else heard.part),
                "evaluation": out.evaluation.name,
                "ev": int(out.evaluation),
                "code": int(out.code),
                "reason": _word(out.code),
                "seq": 0 if heard is None else heard.seq,
                "waited_ms": self._cycled_ms - self._presented_ms,
                "missing": out.missing,
                "dropped": out.dropped,
                "alive": out.alive,
            },
        )
        self._waits_for = None
        self._block.cycle(BlockInput())

    def _present_any(self) -> None:
        # Nobody triggers through us: each verdict is taken as that of a part that is just there.
        # The clock of that cycle is left out: when its turn began, only the station knows.
        from lineside.plc import BlockInput

        self._waits_for = None
        self._block.cycle(BlockInput())
        self._waits_for, self._presented_ms = "", self._cycled_ms
        self._block.cycle(BlockInput(execute=True))

    def _is_time(self, receiver: Receiver) -> bool:
        if not receiver.listening:
            return False
        now_s = time.monotonic()
        if self._settle_s is None:
            self._settle_s = now_s + _SETTLE_S
        return now_s >= self._next_s and (self._alive or now_s >= self._settle_s)

    def _trigger(self, receiver: Receiver) -> bool:
        """Present the next part; ``False`` when there is none any more."""
        import msgspec

        from lineside.mqtt import Message

        part = next(self._parts, None)
        if part is None:
            return False
        self._waits_for = part
        self.cycle()
        self._presented_ms = self._cycled_ms
        self._next_s = time.monotonic() + (self._settings.every_s or 0.0)
        command = {"id": secrets.token_hex(8), "part": part, "product": ""}
        topic = self._topics.command("trigger")
        receiver.publish(Message(topic=topic, payload=msgspec.json.encode(command)))
        return True

    def _tell_refusal(self, payload: bytes) -> None:
        import msgspec

        try:
            answer = msgspec.json.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        if isinstance(answer, dict) and answer.get("ok") is False:
            self._show("ack", {"detail": str(answer.get("detail", ""))})

    def _unix_ms(self) -> int:
        return time.time_ns() // 1_000_000 if self._settings.has_clock else 0


class PlcTable:
    """Lines for people."""

    def __init__(self) -> None:
        from lineside.cli.listen_show import cell

        head = "  ".join(cell(name, name.lstrip(">"), width) for name, width in _COLUMNS)
        click.echo(head + "\n" + "  ".join("-" * width for _, width in _COLUMNS))

    def __call__(self, kind: str, body: dict[str, Any]) -> None:
        from lineside.cli.listen_show import cell, clock

        if kind == "plc":
            cells = (
                clock(time.time_ns() // 1_000_000),
                *(body["part"] or "-", body["evaluation"], str(body["code"]), body["reason"]),
                *(str(body["seq"] or "-"), f"{body['waited_ms']} ms"),
            )
            rows = zip(_COLUMNS, cells, strict=True)
            click.echo("  ".join(cell(name, text, width) for (name, width), text in rows).rstrip())
            return
        told = {
            "alive": f"the station is {'there' if body.get('alive') else 'lost'}",
            "dropped": f"a message was dropped: {body.get('reason')}",
            "ack": f"the station refuses: {body.get('detail')}",
        }[kind]
        click.echo(cell("", f"-- {told}", 0))


class PlcJsonLines:
    """One object a line."""

    def __init__(self, topics: StationTopics) -> None:
        self._who = {"site": topics.site, "line": topics.line, "station": topics.station}

    def __call__(self, kind: str, body: dict[str, Any]) -> None:
        import msgspec

        click.echo(msgspec.json.encode({"kind": kind, **self._who, **body}).decode("utf-8"))


def _parts(parts: tuple[str, ...]) -> Iterator[str]:
    if parts:
        return iter(parts)
    return (f"plc-{number:06d}" for number in itertools.count(1))


def _word(code: int) -> str:
    from lineside.plc import BlockCode
    from lineside.verdict import REASON_CODES

    words = {value: reason.value for reason, value in REASON_CODES.items()}
    words |= {value.value: value.name.lower() for value in BlockCode}
    return words.get(code, str(code))


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
