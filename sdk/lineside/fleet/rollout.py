"""One rollout: who gets the bundle next, when it stops, who gives it back. Pure: no clock, no IO.

What stations tell counts more than what they answer: an answer may be lost, a retained state is
told again at each connection.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lineside.fleet import steps
from lineside.fleet.plan import Plan, Wave
from lineside.fleet.progress import (
    HAS_BUNDLE,
    IN_FLIGHT,
    INTERRUPTED,
    UNDO_ENDED,
    Phase,
    Progress,
    RolloutState,
    Undo,
)
from lineside.fleet.rules import Action, Rules, Verb
from lineside.fleet.told import Place, Told


class Rollout:
    """Takes what is heard and what time passes; gives what to ask for.

    Every method returns the actions that follow; `state` is what has to be durable before them.
    Begin with `begin`.
    """

    def __init__(self, plan: Plan, rules: Rules, state: RolloutState) -> None:
        self.state = state
        self.plan = plan
        self._rules = rules
        self._told: dict[str, Told] = {}
        self._waited_s: dict[str, float] = {}
        # Whose next state is waited for before anything else is asked.
        self._in_doubt: set[str] = set()

    @property
    def is_finished(self) -> bool:
        """Whether nothing more comes of itself."""
        if self.state.is_undoing:
            return all(
                it.undo in UNDO_ENDED or not it.may_have_bundle
                for it in self._reached()
                if it.phase is not Phase.SENDING
            ) and not any(it.phase is Phase.SENDING for it in self._reached())
        if self.state.stopped:
            return not any(it.phase in IN_FLIGHT for it in self._reached())
        return all(it.is_settled for it in self._reached())

    @property
    def is_done(self) -> bool:
        """Whether every station that a wave reaches has the bundle confirmed."""
        return all(it.phase in (Phase.CONFIRMED, Phase.SKIPPED) for it in self._reached())

    @property
    def wave(self) -> int:
        """Index of the wave that runs; the number of waves when all have settled."""
        for index, wave in enumerate(self.plan.waves):
            if not all(self._of(name).is_settled for name in wave.stations):
                return index
        return len(self.plan.waves)

    @property
    def awaited(self) -> tuple[str, ...]:
        """Offline stations that the wave which runs waits for."""
        if self.state.stopped:
            return ()
        return tuple(
            name
            for name in self._running()
            if self._of(name).phase is Phase.WAITING and not self._is_online(name)
        )

    def told_of(self, name: str) -> Told | None:
        """What a station told last; ``None``: it was not heard yet."""
        return self._told.get(name)

    def waits_for(self, action: Action) -> bool:
        """Whether what comes of an action is still of interest."""
        it = self._of(action.station)
        if action.verb is Verb.INSTALL:
            return it.phase is Phase.SENDING
        return it.undo is Undo.ASKED

    def begin(self) -> list[Action]:
        """What follows from the state alone."""
        return self._advance()

    def take_back(self, why: str) -> list[Action]:
        """Stop, and have all of this rollout's stations give the bundle back.

        Those that did not when they were asked before are asked again.
        """
        for name, it in self.state.stations.items():
            if it.undo is Undo.REFUSED:
                self._change(name, undo=Undo.NO, undo_reason="")
        self._stop(why, undo=True)
        return self._advance()

    def hear(self, name: str, told: Told) -> list[Action]:
        """A station has told its state."""
        if name not in self.state.stations:
            return []
        self._told[name] = told
        self._in_doubt.discard(name)
        if told.is_online:
            self._put(name, steps.hear(self._of(name), told, undoing=self.state.is_undoing))
        return self._advance()

    def answer(self, name: str, *, ok: bool, detail: str, at_ms: int) -> list[Action]:
        """A station has answered the install: the bundle lies there, or why not.

        Args:
            name: whose.
            ok: it lies there, durable.
            detail: why not.
            at_ms: the station's clock, ms since 1970 UTC.
        """
        self._put(name, steps.answer(self._of(name), ok=ok, detail=detail, at_ms=at_ms))
        return self._advance()

    def undone(self, name: str, *, ok: bool, detail: str, at_ms: int) -> list[Action]:
        """A station has answered the revert; as `answer`."""
        self._put(name, steps.answer_undo(self._of(name), ok=ok, detail=detail, at_ms=at_ms))
        if not ok:
            self._in_doubt.add(name)
        return self._advance()

    def lose(self, name: str, verb: Verb, words: str = "") -> list[Action]:
        """Nobody knows what became of what was asked of a station; it is asked again.

        Args:
            name: whose.
            verb: what it was asked for.
            words: why nobody knows.
        """
        self._put(name, steps.lose(self._of(name), verb, words))
        self._settle_lost()
        return self._advance()

    def wait(self, seconds: float) -> list[Action]:
        """So much time has passed in which stations could be heard."""
        for name in self._running():
            it = self._of(name)
            limit_s = self._limit_s(name, it)
            if limit_s is not None:
                waited_s = self._waited_s.get(name, 0.0) + seconds
                self._waited_s[name] = waited_s
                if waited_s > limit_s:
                    self._give_up(name, it)
        return self._advance()

    def _advance(self) -> list[Action]:
        actions: list[Action] = []
        if not self.state.stopped:
            for wave in self.plan.waves:
                self._look_at(wave)
                if self._stops_at(wave):
                    break
                actions += self._send(wave)
                if not all(self._of(name).is_settled for name in wave.stations):
                    break
        if self.state.is_undoing:
            actions += self._undo()
        return actions

    def _look_at(self, wave: Wave) -> None:
        """Take over what stations that wait say of themselves."""
        for name, it, told in self._there(wave):
            self._put(name, steps.take_over(it, told))

    def _send(self, wave: Wave) -> list[Action]:
        actions = []
        for name, it, told in self._there(wave):
            if self._sending() < self._rules.at_once:
                self._put(name, steps.send(it, told))
                actions.append(Action(verb=Verb.INSTALL, station=name))
        return actions

    def _there(self, wave: Wave) -> list[tuple[str, Progress, Told]]:
        """Stations of a wave that wait and are online."""
        return [
            (name, it, told)
            for name in wave.stations
            if (it := self._of(name)).phase is Phase.WAITING
            and (told := self._told.get(name)) is not None
            and told.is_online
        ]

    def _stops_at(self, wave: Wave) -> bool:
        """Whether more have failed than may while this wave runs; then it has been stopped."""
        reached = self.plan.waves[: self.plan.waves.index(wave) + 1]
        progress = [self._of(name) for each in reached for name in each.stations]
        counting = [it for it in progress if it.phase is not Phase.SKIPPED]
        failed = sum(it.is_failure for it in counting)
        amount = self._rules.canary_failures if wave.is_canary else self._rules.failures
        allowed = amount.least_of(len(counting))
        if failed <= allowed:
            return False
        self._stop(
            f"{wave.name}: {failed} of {len(counting)} failed, at most {allowed} may",
            undo=self._rules.on_failure == "revert",
        )
        return True

    def _stop(self, why: str, *, undo: bool) -> None:
        self.state = msgspec.structs.replace(self.state, stopped=why, is_undoing=undo)
        self._settle_lost()
        if undo:
            self._waited_s.clear()

    def _settle_lost(self) -> None:
        """Once it has stopped, what was begun and lost is not begun again."""
        for name, it in self.state.stations.items():
            if self.state.stopped and it.phase is Phase.WAITING and it.is_ours:
                words = it.reason or INTERRUPTED
                self._change(name, phase=Phase.FAILED, reason=words, is_unsure=True)

    def _undo(self) -> list[Action]:
        actions = []
        for name in self._running():
            it, told = self._of(name), self._told.get(name)
            if it.undo is not Undo.NO or not it.may_have_bundle or it.phase is Phase.SENDING:
                continue
            if told is None or not told.is_online or name in self._in_doubt:
                continue
            if told.place is Place.NOWHERE:
                # Not asked to be sure: a station that never got the bundle, or has left it, would
                # go back to the one before its own.
                if it.phase not in HAS_BUNDLE:
                    self._change(name, undo=Undo.NOT_NEEDED)
                continue
            if not it.undo_reason:  # else it was asked before: all of that together has its time
                self._waited_s.pop(name, None)
            self._change(name, undo=Undo.ASKED)
            actions.append(Action(verb=Verb.REVERT, station=name))
        return actions

    def _limit_s(self, name: str, it: Progress) -> float | None:
        """How long a station may stay as it is; ``None``: it waits for nothing of its own."""
        if self.state.is_undoing and it.phase is not Phase.SENDING:
            ended = it.undo in UNDO_ENDED or not it.may_have_bundle
            return None if ended else self._rules.timeout_s
        if it.phase is Phase.SENDING:
            return self._rules.timeout_s
        if it.phase in IN_FLIGHT:
            return self._rules.trial_timeout_s
        if it.phase is Phase.WAITING and not self.state.stopped and not self._is_online(name):
            return self._rules.timeout_s
        return None

    def _give_up(self, name: str, it: Progress) -> None:
        self._waited_s.pop(name, None)
        online = self._is_online(name)
        if self.state.is_undoing and it.phase is not Phase.SENDING:
            words = (it.undo_reason or "no answer") if online else "offline"
            self._change(name, undo=Undo.REFUSED, undo_reason=words)
        else:
            late = "trial" if it.phase in HAS_BUNDLE else "transfer"
            words = f"{late} timeout" if online else self._words_of_absence(name)
            words = f"{words}: {it.reason}" if it.reason else words
            self._change(name, phase=Phase.FAILED, reason=words, is_unsure=it.is_ours)

    def _words_of_absence(self, name: str) -> str:
        never = "offline: nothing of it at this broker; is its name right?"
        return "offline" if name in self._told else never

    def _is_online(self, name: str) -> bool:
        told = self._told.get(name)
        return told is not None and told.is_online

    def _sending(self) -> int:
        return sum(it.phase is Phase.SENDING for it in self.state.stations.values())

    def _running(self) -> tuple[str, ...]:
        """Stations of the waves that have begun; when it stops also those of earlier plans."""
        if self.state.stopped:
            return tuple(self.state.stations)
        return tuple(name for wave in self.plan.waves[: self.wave + 1] for name in wave.stations)

    def _reached(self) -> Iterable[Progress]:
        if self.state.stopped:
            return self.state.stations.values()
        return [self._of(name) for name in self.plan.stations]

    def _of(self, name: str) -> Progress:
        return self.state.stations[name]

    def _change(self, name: str, **to: object) -> None:
        self._put(name, msgspec.structs.replace(self._of(name), **to))

    def _put(self, name: str, now: Progress) -> None:
        before = self._of(name)
        if now == before:
            return
        if (now.phase in HAS_BUNDLE, now.is_ours) != (before.phase in HAS_BUNDLE, before.is_ours):
            self._waited_s.pop(name, None)  # for the next stretch of the way it has its own time
        stations = {**self.state.stations, name: now}
        self.state = msgspec.structs.replace(self.state, stations=stations)
