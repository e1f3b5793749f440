"""A turn's judgement: which product, which regions, and the worst of them."""

from __future__ import annotations

import msgspec

from lineside.errors import FrameError
from lineside.inspector import Inspection
from lineside.station.giving import Judgement, undecided, without_frame
from lineside.station.pausing import Pause
from lineside.station.products import Product, Products
from lineside.station.regions import cut_frames, join
from lineside.station.turn import Turn
from lineside.verdict import Reason


class Judge:
    """Inspects turns with what their product asks for.

    Attributes:
        busy: it is at it.

    Args:
        products: what is loaded.
        pause: while it lasts nothing is judged.
    """

    def __init__(self, products: Products, pause: Pause) -> None:
        self.busy = False
        self._products = products
        self._pause = pause

    def product_of(self, turn: Turn) -> Product:
        """What judges it; where there is no bundle for it, the one in use speaks for it."""
        return (turn.product or self._products.active).standing

    def judge(self, turn: Turn) -> Judgement:
        """Never raises for what is wrong with frame, product or engine.

        Where the engine of a bundle on trial fails, the confirmed one judges the same part.
        """
        if self._pause.holds(turn.capture.taken_ns):
            return self._without_judgement(turn)
        self.busy = True
        try:
            if turn.product is None:
                return self._without_product(turn)
            return self._judge(turn, turn.product.standing)
        finally:
            self.busy = False

    def _judge(self, turn: Turn, product: Product) -> Judgement:
        trial = product.on_trial
        if trial is None:
            return judge_by(turn, product)
        with trial.computing(turn):
            judgement = judge_by(turn, product)
        told = engine_fault(judgement)
        other = trial.fail("engine", told) if told else None
        return judgement if other is None else judge_by(turn, other)

    def _without_judgement(self, turn: Turn) -> Judgement:
        product = self.product_of(turn)
        told = "the station was told to pause"
        verdict = undecided(turn, product, Reason.PAUSED, told)
        return Judgement(verdict=verdict, product=product)

    def _without_product(self, turn: Turn) -> Judgement:
        active = self._products.active
        there = ", ".join(self._products.names)
        told = f"no bundle for product {turn.capture.product!r}; there are {there}"
        verdict = undecided(turn, active, Reason.PRODUCT_UNKNOWN, told)
        # Not the product in use: a kept frame would be learnt as one of it.
        verdict = msgspec.structs.replace(verdict, product=turn.capture.product)
        return Judgement(verdict=verdict, product=active)


def judge_by(turn: Turn, product: Product) -> Judgement:
    """By this product, whatever the turn holds."""
    if turn.capture.frame is None:
        return Judgement(verdict=without_frame(turn, product), product=product)
    try:
        inspections = _inspect(turn, product)
    except FrameError as fault:
        verdict = undecided(turn, product, Reason(fault.reason), str(fault))
        return Judgement(verdict=verdict, product=product)
    if not product.regions:
        verdict = inspections[0].verdict
    else:
        verdict = join(inspections, product.regions, product.rule)
    return Judgement(verdict=verdict, product=product, inspections=tuple(inspections))


def engine_fault(judgement: Judgement) -> str:
    """How the engine failed, in words; ``""`` where it did not."""
    faults = [
        one.verdict.detail or "it failed"
        for one in judgement.inspections
        if one.verdict.reason is Reason.ENGINE
    ]
    return faults[0] if faults else ""


def _inspect(turn: Turn, product: Product) -> list[Inspection]:
    frame = turn.capture.frame
    assert frame is not None
    return product.inspector.inspect_batch(cut_frames(frame, product.regions))
