"""What the station does when it is told something over MQTT."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

import msgspec

from lineside.errors import InputDataError, StorageError
from lineside.kept.dispositions import disposition_note
from lineside.mqtt.commands import (
    Answer,
    ChangeoverCommand,
    Command,
    DispositionCommand,
    MendedCommand,
    TriggerCommand,
)
from lineside.mqtt.desk import Reply
from lineside.mqtt.topics import COMMANDS
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
        self._told = told.name

    def announce(self, product: Product) -> None:
        """Called before each part is judged."""
        # By name: another bundle for the same product is no changeover.
        if product.name != self._told:
            self._told = product.name
            self._tell(product).wait(_TELL_S)

    def was_told(self, product: Product) -> None:
        """The answer to a command has said it."""
        self._told = product.name


class Commands:
    """What can be said without signature. It never raises for what is asked.

    Attributes:
        refused: commands that came without signature and need one.

    Args:
        products: what a changeover picks from.
        announcer: need not say again what an answer has said.
        trigger: hands a trigger to the source; ``False``: it takes none, or too many wait.
        journal: keeps dispositions, changeovers and what was mended.
        mended: takes alarms of drift back, of a product or of all (``""``).
        keep_product: makes durable which product is in use; raises `StorageError`.
        later: has a changeover carried out where disks are waited for; ``False``: too much waits.
        answer: puts the answer to a changeover on its way.
        unsigned: commands that are taken without signature.
    """

    def __init__(
        self,
        *,
        products: Products,
        announcer: Announcer,
        trigger: Callable[[Trigger], bool],
        journal: Notebook,
        mended: Callable[[str], None],
        keep_product: Callable[[str], None],
        later: Callable[[Callable[[], None]], bool],
        answer: Callable[[Reply], None],
        unsigned: Collection[str] = COMMANDS,
    ) -> None:
        self.refused = 0
        self._products = products
        self._announcer = announcer
        self._trigger = trigger
        self._journal = journal
        self._mended = mended
        self._keep_product = keep_product
        self._later = later
        self._answer = answer
        self._unsigned = frozenset(unsigned)
        # Ordered, and its answer not yet on its way.
        self._coming: Product | None = None

    def handle(self, command: Command) -> Answer | None:
        """One without signature, in the publisher's thread, which waits for no disk.

        Returns:
            ``None``: it is being carried out, and answered then.
        """
        if command.__struct_config__.tag not in self._unsigned:
            self.refused += 1
            return Answer(ok=False, detail="must be signed: this station takes it on cmd/signed")
        if not isinstance(command, ChangeoverCommand):
            return self.do(command)
        product = self._find(command.product)
        if product is None:
            return self._unknown()

        def change_over() -> None:
            answer = self._change_over(product)
            self._answer(Reply(cmd="changeover", command_id=command.id, answer=answer))

        before, self._coming = self._coming, product
        if self._later(change_over):
            return None
        self._coming = before
        return Answer(ok=False, detail="busy: too many wait; say it again later")

    def do(self, command: Command) -> Answer:
        """Do it, or say why not; may wait for the disk where it is a changeover."""
        if isinstance(command, TriggerCommand):
            return self._on_trigger(command)
        if isinstance(command, ChangeoverCommand):
            product = self._find(command.product)
            if product is None:
                return self._unknown()
            # One without signature may have come since, and wait behind this one.
            self._coming = self._coming or product
            return self._change_over(product)
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

    def _change_over(self, product: Product) -> Answer:
        try:
            self._keep_product(product.name)
        except StorageError as error:
            self._came(product)
            return Answer(ok=False, detail=str(error))

        def activate() -> None:
            self._products.activate(product.name)
            self._announcer.was_told(product)
            self._journal.note(changeover_note(product))
            self._came(product)

        # From the first part after the answer is on its way.
        return Answer(ok=True, then=activate)

    def _came(self, product: Product) -> None:
        if self._coming is product:
            self._coming = None

    def _find(self, name: str) -> Product | None:
        return self._products.find(name) if name else None

    def _unknown(self) -> Answer:
        there = ", ".join(self._products.names)
        return Answer(ok=False, detail=f"no bundle for it; there are {there}")

    def _on_mended(self, command: MendedCommand) -> Answer:
        if command.product not in ("", *self._products.names):
            return self._unknown()
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
