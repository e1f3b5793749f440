"""What the station does when it is told something over MQTT."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from lineside.errors import InputDataError
from lineside.kept.dispositions import disposition_note
from lineside.mqtt.commands import (
    Answer,
    ChangeoverCommand,
    Command,
    DispositionCommand,
    MendedCommand,
    TriggerCommand,
)
from lineside.outbox import Note, Notebook
from lineside.sources import Trigger, trigger_now
from lineside.station.products import Product, Products

# Long enough for a write to a socket, short beside a deadline; without a broker it is no wait.
_TELL_S = 0.2


class Announcer:
    """Says on ``ack`` that parts of another product come, before the first of them is judged.

    Args:
        tell: puts the words on their way; the event is set once they are, or cannot be.
        told: what the line believes at the start.
    """

    def __init__(self, tell: Callable[[Product], threading.Event], told: Product) -> None:
        self._tell = tell
        self._told = told

    def announce(self, product: Product) -> None:
        """Called before each part is judged."""
        if product is not self._told:
            self._told = product
            self._tell(product).wait(_TELL_S)

    def was_told(self, product: Product) -> None:
        """The answer to a command has said it."""
        self._told = product


class Commands:
    """Answers in the publisher's thread: quickly, and it never raises for what is asked.

    Args:
        products: what a changeover picks from.
        announcer: need not say again what an answer has said.
        trigger: hands a trigger to the source; ``False``: it takes none, or too many wait.
        journal: keeps dispositions, changeovers and what was mended.
        mended: takes alarms of drift back, of a product or of all (``""``).
    """

    def __init__(
        self,
        *,
        products: Products,
        announcer: Announcer,
        trigger: Callable[[Trigger], bool],
        journal: Notebook,
        mended: Callable[[str], None],
    ) -> None:
        self._products = products
        self._announcer = announcer
        self._trigger = trigger
        self._journal = journal
        self._mended = mended
        # Ordered, and its answer not yet on its way; in the publisher's thread alone.
        self._coming: Product | None = None

    def handle(self, command: Command) -> Answer:
        """Do it, or say why not."""
        if isinstance(command, TriggerCommand):
            return self._on_trigger(command)
        if isinstance(command, ChangeoverCommand):
            return self._on_changeover(command)
        if isinstance(command, MendedCommand):
            return self._on_mended(command)
        return self._on_disposition(command)

    def _on_trigger(self, command: TriggerCommand) -> Answer:
        # The product of this moment: the picture may come after the next changeover, and this
        # trigger right behind one, before its answer is out.
        product = command.product or (self._coming or self._products.active).name
        if self._trigger(trigger_now(command.part, product)):
            return Answer(ok=True)
        return Answer(ok=False, detail="no trigger is taken over MQTT, or too many wait")

    def _on_changeover(self, command: ChangeoverCommand) -> Answer:
        product = self._products.find(command.product) if command.product else None
        if product is None:
            there = ", ".join(self._products.names)
            return Answer(ok=False, detail=f"no bundle for it; there are {there}")

        def activate() -> None:
            self._products.activate(product.name)
            self._announcer.was_told(product)
            self._journal.note(changeover_note(product))
            if self._coming is product:
                self._coming = None

        self._coming = product
        # From the first part after the answer is on its way.
        return Answer(ok=True, then=activate)

    def _on_mended(self, command: MendedCommand) -> Answer:
        if command.product not in ("", *self._products.names):
            there = ", ".join(self._products.names)
            return Answer(ok=False, detail=f"no bundle for it; there are {there}")
        if not self._journal.note(Note(kind="mended", body=msgspec.json.encode(command))):
            return Answer(ok=False, detail="the disk takes nothing just now; say it again later")
        self._mended(command.product)
        return Answer(ok=True)

    def _on_disposition(self, command: DispositionCommand) -> Answer:
        try:
            note = disposition_note(command, heard_unix_ns=time.time_ns())
        except InputDataError as error:
            return Answer(ok=False, detail=str(error))
        if not self._journal.note(note):
            return Answer(ok=False, detail="the disk takes nothing just now; say it again later")
        return Answer(ok=True)


def changeover_note(product: Product) -> Note:
    """For the journal."""
    body = {"product": product.name, "bundle": product.card.bundle}
    return Note(kind="changeover", body=msgspec.json.encode(body))
