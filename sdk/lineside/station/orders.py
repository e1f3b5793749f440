"""What a signed command sets in motion; done and durable before it is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from lineside.errors import ConfigurationError, RefusedError
from lineside.inspector import Inspector
from lineside.limits import LimitSettings, tighten
from lineside.mqtt.commands import (
    Answer,
    ChangeoverCommand,
    DispositionCommand,
    MendedCommand,
    TriggerCommand,
)
from lineside.mqtt.desk import Reply
from lineside.outbox import Note
from lineside.remote.gate import SignedCommand
from lineside.remote.handlers import Receiving, Slotting
from lineside.remote.verbs import (
    ConfirmArgs,
    InstallArgs,
    PauseArgs,
    RangeArgs,
    ResumeArgs,
    RevertArgs,
    SetLimitArgs,
)
from lineside.station.commanding import Commands
from lineside.station.pausing import Pause
from lineside.station.products import Product, Products
from lineside.station.repeating import Rebuilt
from lineside.station.standing import LimitOrder, StandingFile

# Longer than the disk stands in its worst moments; whoever waits for the answer waits longer.
_KEEP_S: Final = 10.0
_UNNOTED: Final = "done, do not repeat it; but the disk does not take its note in the journal"
_UNWRITTEN: Final = (
    "not on the disk, which takes nothing just now: say it again later; twice does no harm"
)


class DurableNotebook(Protocol):
    """Keeps notes, and tells when one is durable: the outbox."""

    def keep(self, note: Note, timeout_s: float) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Reach:
    """What of the station orders reach, beside what they share with unsigned commands.

    Attributes:
        products: whose limits are set.
        pause: begun and ended.
        standing: keeps what stands over a restart.
        journal: keeps each command that was done.
        rebuild: the verdicts from first to last, as they were published.
        repeat: publishes them, then calls back.
        is_repeating: some are on their way.
        answer: puts an answer on its way.
        slotting: confirms and reverts; ``None``: no store.
        receiving: takes bundles; ``None``: no store.
    """

    products: Products
    pause: Pause
    standing: StandingFile
    journal: DurableNotebook
    rebuild: Callable[[int, int], Rebuilt]
    repeat: Callable[[Sequence[bytes], Callable[[], None]], None]
    is_repeating: Callable[[], bool]
    answer: Callable[[Reply], None]
    slotting: Callable[[], Slotting | None]
    receiving: Callable[[], Receiving | None]


class Orders:
    """A `lineside.remote.Handler`; called in the thread that works off commands.

    Args:
        commands: does what can be said without signature too.
        reach: all the rest.
    """

    def __init__(self, commands: Commands, reach: Reach) -> None:
        self._commands = commands
        self._reach = reach
        # The one that is being installed: its sender asks again every few seconds.
        self._installing = ""
        # Who asked for the range that is on its way: key and id.
        self._repeating = (b"", "")

    def __call__(self, command: SignedCommand) -> Answer | None:
        """See `Handler`."""
        if isinstance(command.args, RangeArgs):
            return self._repeat(command, command.args)
        answer = self._do(command)
        if answer is not None and not answer.ok:
            return answer
        if isinstance(command.args, InstallArgs):
            self._note_install(command, command.args)
            return answer
        if self._note(command):
            return answer
        if isinstance(command.args, (DispositionCommand, MendedCommand)):
            return Answer(ok=False, detail=_UNWRITTEN)  # it is a note itself, before this one
        # It stands, and is durable where it can be: who hears false gives it again, by a new id,
        # and a second trigger is a second part.
        assert answer is not None, "only an install and a range answer later"
        words = f"{_UNNOTED}: {answer.detail}" if answer.detail else _UNNOTED
        return Answer(ok=True, detail=words, then=answer.then)

    def _note_install(self, command: SignedCommand, args: InstallArgs) -> None:
        """Once, though its sender asks every few seconds: its answers come by themselves."""
        if args.sha256 != self._installing and self._note(command):
            self._installing = args.sha256

    def _do(self, command: SignedCommand) -> Answer | None:
        args = command.args
        if isinstance(args, (PauseArgs, ResumeArgs)):
            return self._pause(paused=isinstance(args, PauseArgs))
        if isinstance(args, SetLimitArgs):
            return self._set_limit(args)
        if isinstance(args, InstallArgs):
            return self._receiving().begin(command)
        if isinstance(args, ConfirmArgs):
            words = self._slotting().confirm(args.product, bundle=args.bundle)
            return Answer(ok=True, detail=words)
        if isinstance(args, RevertArgs):
            words = self._slotting().revert(args.product, args.reason, bundle=args.bundle)
            return Answer(ok=True, detail=words)
        assert isinstance(
            args, (TriggerCommand, ChangeoverCommand, DispositionCommand, MendedCommand)
        )
        return self._commands.do(args)

    def _pause(self, *, paused: bool) -> Answer:
        standing, pause = self._reach.standing, self._reach.pause
        standing.keep(msgspec.structs.replace(standing.orders, paused=paused))
        if paused:
            pause.begin()
        else:
            pause.end()
        return Answer(ok=True)

    def _set_limit(self, args: SetLimitArgs) -> Answer:
        products, standing = self._reach.products, self._reach.standing
        product = products.find(args.product)
        if product is None:
            there = ", ".join(products.names)
            raise RefusedError(f"product: no bundle for it; there are {there}")
        if args.reset:
            orders = standing.orders.without_limits(product.name)
        else:
            orders = standing.orders.with_limits(_order_of(args, product))
        standing.keep(orders)
        # Through the products: another bundle may have taken the place meanwhile.
        products.redress(product.name)
        return Answer(ok=True, detail=_words_of_limits(products.find(product.name)))

    def _repeat(self, command: SignedCommand, args: RangeArgs) -> Answer | None:
        name = (command.key.key_id, command.command_id)
        if self._reach.is_repeating():
            if name == self._repeating:
                return None  # asked again while it goes on: its answer comes
            return Answer(ok=False, detail="busy: another range is on its way; say it again later")
        found = self._reach.rebuild(args.first, args.last)
        if not found.payloads:
            return Answer(ok=found.waiting > 0, detail=str(found))
        if not self._note(command):
            return Answer(ok=False, detail="the disk takes nothing just now; say it again later")

        def sent() -> None:
            answer = Answer(ok=True, detail=str(found))
            self._reach.answer(Reply(cmd="range", command_id=command.command_id, answer=answer))

        self._repeating = name
        self._reach.repeat(found.payloads, sent)
        return None

    def _note(self, command: SignedCommand) -> bool:
        return self._reach.journal.keep(command_note(command), _KEEP_S)

    def _receiving(self) -> Receiving:
        found = self._reach.receiving()
        if found is None:
            raise RefusedError("no store: this station's bundle is a file (bundle.path)")
        return found

    def _slotting(self) -> Slotting:
        found = self._reach.slotting()
        if found is None:
            raise RefusedError("no store: this station's bundle is a file (bundle.path)")
        return found


def command_note(command: SignedCommand) -> Note:
    """For the journal: who said what, when."""
    body = {
        "verb": command.verb,
        "args": command.args,
        "key": command.key.key_id.hex(),
        "name": command.key.name,
        "id": command.command_id,
        "t": command.signed_unix_ms,
    }
    return Note(kind="command", body=msgspec.json.encode(body))


def _order_of(args: SetLimitArgs, product: Product) -> LimitOrder:
    card, limits = product.card, product.limits_of_file
    if not card.bundle.startswith(args.bundle):
        raise RefusedError(f"bundle: {card.bundle[:16]} is in use, not {args.bundle[:16]}")
    if limits is None or not isinstance(product.inspector, Inspector):
        raise RefusedError("the limits of this product cannot be set")
    try:
        tighten(limits.effective, LimitSettings(ok=args.ok, not_ok=args.not_ok))
    except ConfigurationError as error:
        raise RefusedError(str(error).removeprefix("limits.")) from error
    return LimitOrder(product=product.name, bundle=card.bundle, ok=args.ok, not_ok=args.not_ok)


def _words_of_limits(product: Product | None) -> str:
    if product is None or product.card.limits is None:
        return ""
    rule = product.card.limits.effective
    return f"ok {rule.ok_limit:g}, not_ok {rule.not_ok_limit:g}"
