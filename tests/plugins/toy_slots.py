"""A real store of toy bundles: each judges by mean brightness, and does what a test tells it to."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lineside.errors import BundleError, ConfigurationError, EngineError, LinesideError
from lineside.frame import Frame
from lineside.inspector import Inspection
from lineside.slots import Incoming, SlotCard, SlotName, SlotState, Storage, Store, open_store
from lineside.sources import Capture
from lineside.station import ModelCard, Product, Products
from lineside.station.judge import Judge
from lineside.station.loaded import Loaded
from lineside.station.pausing import Pause
from lineside.station.slotkeeper import SlotKeeper
from lineside.station.slotstart import SlotOpener, start_store
from lineside.station.slotting import Slotting
from lineside.station.trial import TrialSettings
from lineside.station.turn import Turn
from lineside.verdict import Evaluation, Reason, Verdict

FAULTS: dict[str, type[LinesideError]] = {
    "self_test": EngineError,
    "damaged": BundleError,
    "settings": ConfigurationError,
    "other": LinesideError,
}


@dataclass
class ToyModel:
    """What a test tells a model, and sees of it; holds no inspector, so that one can be freed.

    Attributes:
        bundle: 64 hex digits.
        limit: above it a part is not OK.
        fails: its engine fails on these parts, or on all (``"*"``).
        free: cleared, it computes until it is set.
        computes: it has begun to.
        seen: parts that it judged.
        closed: it was freed.
    """

    bundle: str
    product: str
    limit: float
    fails: set[str] = field(default_factory=set)
    free: threading.Event = field(default_factory=threading.Event)
    computes: threading.Event = field(default_factory=threading.Event)
    seen: list[str] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.free.set()

    def close(self) -> None:
        self.closed = True


class ToyInspector:
    """An inspector as the loop needs one."""

    def __init__(self, model: ToyModel) -> None:
        self.model = model

    def inspect_batch(self, frames: Sequence[Frame]) -> list[Inspection]:
        return [Inspection(verdict=self._judge(frame)) for frame in frames]

    def _judge(self, frame: Frame) -> Verdict:
        model = self.model
        assert not model.closed, "it was freed while a part was its own"
        model.computes.set()
        model.free.wait()
        model.seen.append(frame.part_id)
        score = float(frame.pixels_hwc.mean())
        good = (Evaluation.OK, Reason.WITHIN_LIMIT)
        bad = (Evaluation.NOT_OK, Reason.BEYOND_LIMIT)
        evaluation, reason = good if score < model.limit else bad
        failed = bool(model.fails & {frame.part_id, "*"})
        if failed:
            evaluation, reason = Evaluation.NOT_DECIDABLE, Reason.ENGINE
        return Verdict(
            evaluation=evaluation,
            reason=reason,
            detail="the toy broke" if failed else "",
            score=None if failed else score,
            limit=model.limit,
            product=model.product,
            model=model.bundle[:16],
            engine="toy/fp64",
            part_id=frame.part_id,
        )


@dataclass
class ToyStore:
    """A store in a folder, what was opened of it, and with what priority.

    Attributes:
        before_load: called with the record's state each time a bundle is opened.
        models: the last one opened of each version.
    """

    folder: Path
    store: Store = field(init=False)
    storage: Storage | None = None
    models: dict[str, ToyModel] = field(default_factory=dict)
    opened: list[tuple[str, int]] = field(default_factory=list)
    before_load: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self.store = open_store(self.folder, make=True)
        if self.storage is not None:
            self.store = Store(self.storage)

    def install(self, version: str, **told: object) -> str:
        """Bring a bundle into the free slot; `told`: product, limit, counter, fault. Its hash."""
        data = json.dumps({"version": version, **told}).encode()
        digest = hashlib.sha256(data)
        self.store.begin(Incoming(sha256=digest.digest(), size_bytes=len(data)))
        self.store.write(0, data)
        counter = told.get("counter", 0)
        assert isinstance(counter, int)
        card = SlotCard(
            hash=digest.hexdigest(),
            size_bytes=len(data),
            key_id=bytes(16),
            security_counter=counter,
        )
        self.store.finish(card)
        return digest.hexdigest()

    def tried(self, version: str, **told: object) -> str:
        """Likewise, and on trial."""
        found = self.install(version, **told)
        self.store.start_trial()
        return found

    @property
    def states(self) -> tuple[str, str]:
        """Of slot a and b."""
        slots = self.store.record.slots
        return slots[SlotName.A].state.value, slots[SlotName.B].state.value

    @property
    def reverted(self) -> str:
        """The reason of the last revert."""
        reverted = self.store.record.reverted
        return "" if reverted is None else reverted.reason

    def hash_of(self, state: SlotState) -> str:
        """Of the bundle in this state."""
        slot = self.store.record.find(state)
        card = None if slot is None else self.store.record.slots[slot].card
        return "" if card is None else card.hash

    def load(self, path: Path) -> Loaded:
        """As a real bundle is opened and proved."""
        data = path.read_bytes()
        told = json.loads(data)
        self.before_load(told["version"])
        self.opened.append((told["version"], os.getpriority(os.PRIO_PROCESS, 0)))
        if told.get("fault"):
            raise FAULTS[told["fault"]](f"{told['version']}: {told['fault']}")
        product, limit = told.get("product", "level"), told.get("limit", 128.0)
        model = ToyModel(hashlib.sha256(data).hexdigest(), product, limit)
        self.models[told["version"]] = model
        card = ModelCard(
            product=product,
            bundle=model.bundle,
            version=told["version"],
            engine="toy/fp64",
            counter=told.get("counter", 0),
        )
        loaded = Product(card=card, inspector=ToyInspector(model))
        return Loaded(product=loaded, close=model.close, cost_mib=10.0)

    def opener(self) -> SlotOpener:
        """Over this store; it is proved in this process."""
        return SlotOpener(self.store, load=self.load, prove=lambda _: None)

    def keeper(
        self, *, room: Callable[[float], bool] = lambda _: True, **trial: object
    ) -> SlotKeeper:
        """As a station starts on it."""
        settings = TrialSettings(**trial)  # type: ignore[arg-type]
        opener = self.opener()
        start = start_store(opener, restarts=settings.restarts)
        keeper = SlotKeeper(opener, settings, start, room=room)
        keeper.stand_behind()
        return keeper


@dataclass
class Bench:
    """A store, a keeper and what a station would judge by; a test looks and judges by hand."""

    toy: ToyStore
    keeper: SlotKeeper
    look_s: float = 1.0

    def __post_init__(self) -> None:
        self.products = Products([self.keeper.product])
        self.slotting = Slotting(self.products, [self.keeper], look_s=self.look_s)
        self.judge = Judge(self.products, Pause())

    def turn(self, part: str = "P", *, level: int = 0) -> Turn:
        """A part whose turn begins now."""
        frame = Frame(pixels_hwc=np.full((8, 8, 1), level, np.uint8), part_id=part)
        capture = Capture(
            part_id=part, taken_unix_ns=0, taken_ns=0, read_us=1.0, frame=frame, product=""
        )
        return Turn(capture, self.products.active)

    def inspect(self, part: str = "P", *, level: int = 0) -> Verdict:
        """A part from its turn to its verdict, given."""
        return self.give(self.turn(part, level=level))

    def give(self, turn: Turn) -> Verdict:
        """Judge it, and tell who counts."""
        judgement = self.judge.judge(turn)
        trial = judgement.product.on_trial
        if trial is not None:
            trial.given(turn, judgement)
        return judgement.verdict

    def version(self) -> str:
        """Of what the next part is judged by."""
        return self.products.active.card.version
