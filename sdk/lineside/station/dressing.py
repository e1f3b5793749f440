"""Limits set by command, put on the bundle that they were set for."""

from __future__ import annotations

import dataclasses

import msgspec

from lineside.inspector import Inspector
from lineside.limits import Limits, strictest
from lineside.outbox import Note, Notebook
from lineside.station.products import Product
from lineside.station.standing import LimitOrder, StandingFile


class Dresser:
    """Gives each product the limits that stand for its bundle; see `Products.dress`.

    Args:
        standing: what was ordered.
        journal: hears once of each bundle to which limits do not apply that were set for another.
    """

    def __init__(self, standing: StandingFile, journal: Notebook) -> None:
        self._standing = standing
        self._journal = journal
        self._told: dict[str, str] = {}

    def __call__(self, product: Product) -> Product:
        """The same product, or one that shares its engine; quick, and it never raises."""
        orders = self._standing.orders
        order = orders.limits_for(product.name, product.card.bundle)
        if order is None:
            self._tell_of_others(product, [o for o in orders.limits if o.product == product.name])
        before, inspector = product.limits_of_file, product.inspector
        if before is None or not isinstance(inspector, Inspector):
            return product
        limits = _limits_with(before, order)
        if limits == product.card.limits:
            return product
        return dataclasses.replace(
            product,
            inspector=inspector.with_limits(limits),
            card=msgspec.structs.replace(product.card, limits=limits),
            file_limits=before,
        )

    def _tell_of_others(self, product: Product, others: list[LimitOrder]) -> None:
        bundle = product.card.bundle
        if not others or self._told.get(product.name) == bundle:
            return
        self._told[product.name] = bundle
        body = {
            "product": product.name,
            "bundle": bundle,
            "applies": False,
            "set_for": others[-1].bundle,
            "ok": others[-1].ok,
            "not_ok": others[-1].not_ok,
        }
        self._journal.note(Note(kind="limits", body=msgspec.json.encode(body)))


def _limits_with(before: Limits, order: LimitOrder | None) -> Limits:
    if order is None:
        return before
    # The file may have been tightened since: of each limit the stricter one counts.
    rule = strictest(before.effective, ok=order.ok, not_ok=order.not_ok)
    return dataclasses.replace(before, effective=rule)
