"""Carries a rollout out: hears states, gives commands, keeps the journal. `Rollout` decides."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lineside.backoff import Backoff
from lineside.errors import (
    BrokerError,
    BrokerRefusedError,
    CommandRefusedError,
    InputDataError,
)
from lineside.fleet.journal import Journal
from lineside.fleet.progress import RolloutState
from lineside.fleet.rollout import Rollout
from lineside.fleet.rules import Action, Verb
from lineside.fleet.stations import topics_of
from lineside.fleet.steps import REVERT_REASON
from lineside.fleet.told import Told, read_told
from lineside.mqtt import Message, MqttSettings, Receiver, decode_state, parse_topic, topic_filters
from lineside.remote.bundlefile import BundleFile
from lineside.remote.call import Call, Order
from lineside.remote.caller import Caller

_TICK_S: Final = 0.1
# Standing still ourselves (a stopped process, a laptop that slept) counts for no station.
_STEP_LIMIT_S: Final = 1.0
# At the start somebody waits for the answer, and nothing has been done yet.
_FIRST_PATIENCE_S: Final = 10.0


class Show(Protocol):
    """Told what happens; must be quick."""

    def state(self, before: RolloutState, rollout: Rollout) -> None:
        """How far stations are has changed; the new state is durable."""

    def tick(self, rollout: Rollout, sent_bytes: Mapping[str, int]) -> None:
        """Several times a second.

        Args:
            rollout: as it stands.
            sent_bytes: what stations have of the bundle while it is on its way.
        """

    def broker(self, words: str) -> None:
        """The connection is lost, and why; ``""``: it stands again."""


@dataclass(frozen=True, kw_only=True)
class Freight:
    """What is rolled out.

    Attributes:
        file: the bundle as it is sent; open for as long as the rollout goes on.
        bundle_hash: 64 hex digits.
        product: whose store it goes to.
    """

    file: BundleFile
    bundle_hash: str
    product: str = ""


class Conductor:
    """One run of a rollout, in the thread that calls `run`.

    Args:
        rollout: decides.
        freight: what is sent.
        journal: keeps each state before anything is done by it.
        caller: speaks to the stations.
        settings: the broker, for hearing the stations' states.
        show: told what happens.
        patience_s: without the broker for so long it is given up; may be resumed.
    """

    def __init__(
        self,
        rollout: Rollout,
        *,
        freight: Freight,
        journal: Journal,
        caller: Caller,
        settings: MqttSettings,
        show: Show,
        patience_s: float,
    ) -> None:
        self._rollout = rollout
        self._freight = freight
        self._journal = journal
        self._caller = caller
        self._show = show
        self._patience_s = min(patience_s, _FIRST_PATIENCE_S)
        self._later_patience_s = patience_s
        self._shown = rollout.state
        self._calls: list[tuple[Action, Call]] = []
        names = rollout.state.stations
        self._names = {topics_of(name): name for name in names}
        self._receiver = Receiver(settings, _filters(names))
        self._backoff = Backoff(settings.reconnect_min_s, min(settings.reconnect_max_s, 5.0))
        self._broker_words = ""
        self._heard_s = time.monotonic()
        self._next_attempt_s = 0.0

    def run(self) -> None:
        """Until nothing more comes of itself.

        Raises:
            BrokerError: the broker is away for too long, or does not want us.
            StorageError: the journal cannot be written.
            InputDataError: the bundle cannot be read any more.
            SigningError: the key cannot sign.
        """
        with self._receiver:
            self._do(self._rollout.begin())
            passed_s = time.monotonic()
            while not self._rollout.is_finished:
                actions = self._hear() + self._collect()
                now_s = time.monotonic()
                if self._receiver.listening:
                    actions += self._rollout.wait(min(now_s - passed_s, _STEP_LIMIT_S))
                passed_s = now_s
                self._do(actions)
                self._tick()

    def _do(self, actions: Sequence[Action]) -> None:
        state = self._rollout.state
        self._journal.write(state)
        if state != self._shown:
            self._show.state(self._shown, self._rollout)
            self._shown = state
        for action, call in self._calls:
            if not self._rollout.waits_for(action):
                call.give_up()
        for action in actions:
            self._calls.append((action, self._caller.submit(self._order(action))))

    def _order(self, action: Action) -> Order:
        station, product = topics_of(action.station), self._freight.product
        if action.verb is Verb.INSTALL:
            return self._caller.order_install(station, self._freight.file, product=product)
        # By name: somebody else may put another bundle there before the command arrives.
        bundle = self._freight.bundle_hash
        args = {"product": product, "reason": REVERT_REASON, "bundle": bundle}
        return Order(station=station, verb=action.verb.value, args=args)

    def _tick(self) -> None:
        sent = {
            action.station: call.offset
            for action, call in self._calls
            if action.verb is Verb.INSTALL
        }
        self._show.tick(self._rollout, sent)

    def _hear(self) -> list[Action]:
        actions: list[Action] = []
        for message in self._receive():
            found = self._read(message)
            if found is not None:
                actions += self._rollout.hear(*found)
        return actions

    def _receive(self) -> list[Message]:
        now_s = time.monotonic()
        if now_s < self._next_attempt_s:
            time.sleep(_TICK_S)
            return []
        try:
            messages = self._receiver.receive(_TICK_S)
        except BrokerRefusedError:
            raise
        except BrokerError as error:
            if now_s - self._heard_s > self._patience_s:
                raise
            self._next_attempt_s = now_s + self._backoff.pause_s()
            self._say_broker(str(error))
            return []
        if self._receiver.listening:
            self._heard_s = now_s
            self._patience_s = self._later_patience_s
            self._backoff.succeeded()
            self._say_broker("")
        return messages

    def _say_broker(self, words: str) -> None:
        if words != self._broker_words:
            self._broker_words = words
            self._show.broker(words)

    def _read(self, message: Message) -> tuple[str, Told] | None:
        found = parse_topic(message.topic)
        name = self._names.get(found[0]) if found else None
        if name is None or not message.payload:
            return None
        try:
            state = decode_state(message.payload, source=message.topic)
        except InputDataError:
            return None  # whatever else speaks there
        told, before = read_told(state, self._freight.bundle_hash), self._rollout.told_of(name)
        if message.retain and told.is_online and before and told.at_ms < before.at_ms:
            # A broker that was started again may have kept an older one than we have heard.
            return None
        return name, told

    def _collect(self) -> list[Action]:
        """What has become of calls that are over."""
        over = [(action, call) for action, call in self._calls if call.done]
        self._calls = [pair for pair in self._calls if not pair[1].done]
        return [each for action, call in over for each in self._settle(action, call)]

    def _settle(self, action: Action, call: Call) -> list[Action]:
        name = action.station
        try:
            ack = call.result()
        except CommandRefusedError as error:
            return self._answer(action, ok=False, detail=_short(error, name, action.verb), at_ms=0)
        except BrokerRefusedError as error:
            if not self._receiver.listening:
                raise
            # This station's topics are closed to us, others' may be open.
            return self._answer(action, ok=False, detail=str(error), at_ms=0)
        except BrokerError as error:
            return self._rollout.lose(name, action.verb, _short(error, name, action.verb))
        return self._answer(action, ok=True, detail="", at_ms=ack.t)

    def _answer(self, action: Action, *, ok: bool, detail: str, at_ms: int) -> list[Action]:
        if action.verb is Verb.INSTALL:
            return self._rollout.answer(action.station, ok=ok, detail=detail, at_ms=at_ms)
        return self._rollout.undone(action.station, ok=ok, detail=detail, at_ms=at_ms)


def _filters(names: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(
        topic
        for topics in map(topics_of, names)
        for topic in topic_filters(
            site=topics.site, line=topics.line, station=topics.station, kinds=("state",)
        )
    )


def _short(error: Exception, name: str, verb: Verb) -> str:
    """Its words without what the station's row says already."""
    words = str(error)
    for before in (f"{name}: ", f"{verb.value}: ", "refused: "):
        words = words.removeprefix(before)
    return words
