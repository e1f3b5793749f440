"""A turn's judgement: which product, which regions, and the worst of them."""

from __future__ import annotations

import msgspec

from lineside.errors import FrameError
from lineside.inspector import Inspection
from lineside.station.giving import Judgement, undecided, without_frame
from lineside.station.products import Product, Products
from lineside.station.regions import cut_frames, join
from lineside.station.turn import Turn
from lineside.verdict import Reason


class Judge:
    """Inspects turns with what their product asks for.

    Args:
        products: what is loaded.
    """

    def __init__(self, products: Products) -> None:
        self._products = products

    def product_of(self, turn: Turn) -> Product:
        """What judges it; where there is no bundle for it, the one in use speaks for it."""
        return turn.product or self._products.active

    def judge(self, turn: Turn) -> Judgement:
        """Never raises for what is wrong with frame, product or engine."""
        product = turn.product
        if product is None:
            return self._without_product(turn)
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

    def _without_product(self, turn: Turn) -> Judgement:
        active = self._products.active
        there = ", ".join(self._products.names)
        told = f"no bundle for product {turn.capture.product!r}; there are {there}"
        verdict = undecided(turn, active, Reason.PRODUCT_UNKNOWN, told)
        # Not the product in use: a kept frame would be learnt as one of it.
        verdict = msgspec.structs.replace(verdict, product=turn.capture.product)
        return Judgement(verdict=verdict, product=active)


def _inspect(turn: Turn, product: Product) -> list[Inspection]:
    frame = turn.capture.frame
    assert frame is not None
    return product.inspector.inspect_batch(cut_frames(frame, product.regions))
