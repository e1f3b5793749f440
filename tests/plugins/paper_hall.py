"""A hall of stations on paper, for the rules of a rollout alone: no broker, no store, no clock.

Each station follows a script. What it tells and answers lies in a queue until the test lets it
through, so that any order of events can be tried.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from lineside.fleet import Action, Place, Rollout, Told, Verb

SCRIPTS = (
    *("confirms", "fails_self_test", "reverts", "hangs", "offline", "has_it", "keeps_it"),
    *("marked_and_confirms", "marked_and_reverts", "on_trial_already"),
)
"""`keeps_it` confirms and refuses to give back; `marked_…` reverted this bundle once before."""

_STEP_MS = 2000


@dataclass
class PaperStation:
    """One station.

    Attributes:
        script: how its trial ends.
        installs, reverts: how often it was asked for them.
        answers, states: what it said and nobody has heard yet, oldest first.
    """

    script: str
    place: Place = Place.NOWHERE
    reverted: str = ""
    now_ms: int = 1_000_000
    installs: int = 0
    reverts: int = 0
    answers: list[tuple[Verb, bool, str, int]] = field(default_factory=list)
    states: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.script == "has_it":
            self.place = Place.CONFIRMED
        elif self.script == "on_trial_already":
            self.place = Place.TRIAL
        elif self.script.startswith("marked"):
            self.reverted = "engine"

    @property
    def told(self) -> Told:
        """What it says of itself now."""
        return Told(
            is_online=self.script != "offline",
            place=self.place,
            reverted=self.reverted,
            at_ms=self.now_ms,
        )

    def ask(self, verb: Verb) -> None:
        """Do it, and lay the answer down."""
        self.now_ms += 1
        if verb is Verb.INSTALL:
            self.installs += 1
            self._install()
        else:
            self.reverts += 1
            self._revert()
        self.states.append(self.told)

    def live(self) -> None:
        """Some time passes."""
        self.now_ms += _STEP_MS
        if self.place is Place.PENDING:
            self.place = Place.TRIAL
        elif self.place is Place.TRIAL and self.script != "hangs":
            reverts = self.script in ("reverts", "marked_and_reverts")
            self.place = Place.NOWHERE if reverts else Place.CONFIRMED
            self.reverted = "restarts" if reverts else self.reverted
        self.states.append(self.told)

    def _install(self) -> None:
        if self.script == "offline":
            return
        if self.script == "fails_self_test":
            self.answers.append((Verb.INSTALL, False, "self_test: 3 of 4 differ", self.now_ms))
            return
        if self.place is Place.NOWHERE:
            self.place = Place.PENDING
        self.answers.append((Verb.INSTALL, True, "", self.now_ms))

    def _revert(self) -> None:
        if self.script == "offline":
            return
        if self.script == "keeps_it" and self.place is Place.CONFIRMED:
            self.answers.append((Verb.REVERT, False, "downgrade: 1 is below 2", self.now_ms))
        elif self.place is Place.NOWHERE:
            self.answers.append((Verb.REVERT, False, "refused: nothing to go back to", self.now_ms))
        else:
            self.place, self.reverted = Place.NOWHERE, "rollout"
            self.answers.append((Verb.REVERT, True, "", self.now_ms))


class PaperHall:
    """All of them."""

    def __init__(self, scripts: dict[str, str]) -> None:
        self.stations = {name: PaperStation(script=script) for name, script in scripts.items()}

    def copied(self) -> PaperHall:
        """As it is now."""
        return copy.deepcopy(self)

    def take(self, actions: list[Action]) -> None:
        """Stations do what they are asked for."""
        for action in actions:
            self.stations[action.station].ask(action.verb)

    def tell(self, rollout: Rollout, name: str) -> list[Action]:
        """The oldest state that nobody has heard arrives, else that of now."""
        station = self.stations[name]
        return rollout.hear(name, station.states.pop(0) if station.states else station.told)

    def answer(self, rollout: Rollout, name: str) -> list[Action]:
        """Its oldest answer arrives, if there is one."""
        answers = self.stations[name].answers
        if not answers:
            return []
        verb, ok, detail, at_ms = answers.pop(0)
        if verb is Verb.INSTALL:
            return rollout.answer(name, ok=ok, detail=detail, at_ms=at_ms)
        return rollout.undone(name, ok=ok, detail=detail, at_ms=at_ms)

    def lose_all(self) -> None:
        """Nobody hears what was said so far; of states the last one is retained."""
        for station in self.stations.values():
            station.answers.clear()
            station.states.clear()
