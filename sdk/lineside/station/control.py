"""All that a station is told, and what of it stands: the parts, put together."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lineside.mqtt.commands import Answer, Command
from lineside.mqtt.publisher import Publisher
from lineside.mqtt.topics import StationTopics
from lineside.outbox import Note, Outbox
from lineside.remote.desk import RemoteDesk
from lineside.remote.gate import Gate, NonceAnswer, NonceMemory
from lineside.remote.handlers import Receiving, Slotting
from lineside.remote.keys import KeyRing, load_command_keys
from lineside.remote.nonces import NonceFile
from lineside.remote.settings import CommandSettings
from lineside.sources import Trigger
from lineside.station.commanding import Announcer, Commands
from lineside.station.dressing import Dresser
from lineside.station.orders import Orders, Reach
from lineside.station.pausing import Pause
from lineside.station.products import Products
from lineside.station.repeating import Rebuilt, rebuild_range
from lineside.station.standing import StandingFile

_JOIN_S: Final = 10.0


class _NoMemory:
    """Of a station that trusts no key: nothing gets so far."""

    def remember(self, nonce: bytes, expires_unix_ms: int, now_unix_ms: int) -> NonceAnswer:  # noqa: ARG002
        """See `NonceMemory`."""
        return "full"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """What the station's file says of it.

    Attributes:
        commands: section ``[commands]``.
        revocations: files and folders that may revoke keys: those of the bundles' trust.
        expiry_s: how long after its turn began a verdict may be acted on.
    """

    commands: CommandSettings = dataclasses.field(default_factory=CommandSettings)
    revocations: Sequence[Path] = ()
    expiry_s: float = 10.0


class Control:
    """Commands, signed or not, and what stands over a restart: pause, product, limits.

    Attributes:
        pause: whether parts are judged.
        receiving: takes bundles from afar; ``None``: there is no store.
        slotting: confirms and reverts; ``None``: there is no store.

    Args:
        topics: who the station is.
        products: what is loaded; what stands is applied to them at once.
        outbox: keeps notes; beside its file lies what stands, and the memory of nonces.
        settings: see there.
        announcer: hears what answers have said.
        trigger: hands a trigger to the source.
        mended: takes alarms of drift back.
        publisher: the publisher; called once commands come.

    Raises:
        ConfigurationError: a key cannot be read.
        StorageError: what stands, or the memory of nonces, is damaged or cannot be read.
    """

    def __init__(
        self,
        *,
        topics: StationTopics,
        products: Products,
        outbox: Outbox,
        settings: ControlSettings,
        announcer: Announcer,
        trigger: Callable[[Trigger], bool],
        mended: Callable[[str], None],
        publisher: Callable[[], Publisher],
    ) -> None:
        self.receiving: Receiving | None = None
        self.slotting: Slotting | None = None
        self._products = products
        self._outbox = outbox
        self._settings = settings
        self._publisher = publisher
        self._standing = StandingFile(_beside(outbox, "orders"))
        self.pause = Pause(paused=self._standing.orders.paused)
        self._apply()
        self._commands = Commands(
            products=products,
            announcer=announcer,
            trigger=trigger,
            journal=outbox,
            mended=mended,
            keep_product=self._keep_product,
            later=lambda job: self._desk.later(job),
            answer=lambda reply: publisher().answer(reply),
            unsigned=settings.commands.unsigned,
        )
        self._undo = contextlib.ExitStack()
        self._desk = self._make_desk(topics)

    @property
    def counts(self) -> Mapping[str, int]:
        """For health: commands done and refused."""
        refused = self._commands.refused
        return {**self._desk.counts, **({"refused_unsigned": refused} if refused else {})}

    @property
    def fault(self) -> str:
        """Why no signed command is taken; ``""`` when all is well."""
        return self._desk.fault

    def handle(self, command: Command) -> Answer | None:
        """One without signature; in the publisher's thread."""
        return self._commands.handle(command)

    def take(self, name: str, payload: bytes, retained: bool) -> bool:
        """A payload of ``cmd/signed`` or ``cmd/chunk``; in the publisher's thread."""
        return self._desk.take(name, payload, retained)

    def start(self) -> None:
        """Start the threads."""
        if self.receiving is not None:
            self._desk.chunk = self.receiving.chunk
            self.receiving.start()
        self._desk.start()

    def check(self) -> None:
        """Raise what ended one of the threads, if something did."""
        self._desk.check()
        if self.receiving is not None:
            self.receiving.check()

    def stop(self) -> None:
        """Finish the command under way."""
        self._desk.stop(_JOIN_S)
        if self.receiving is not None:
            self.receiving.stop()

    def close(self) -> None:
        """Close the file of nonces; after `stop`."""
        self._undo.close()

    def _apply(self) -> None:
        """What stood when the station ended."""
        products, standing = self._products, self._standing
        products.dress = Dresser(standing, self._outbox)
        for name in products.names:
            products.redress(name)
        wanted = standing.orders.product
        if wanted in products.names:
            if wanted != products.active.name:
                products.activate(wanted)
        elif wanted:
            body = {"product": products.active.name, "bundle": products.active.card.bundle}
            told = {**body, "gone": wanted}
            self._outbox.note(Note(kind="changeover", body=msgspec.json.encode(told)))

    def _make_desk(self, topics: StationTopics) -> RemoteDesk:
        settings = self._settings.commands
        ring = KeyRing(
            lambda: load_command_keys(settings.keys, revocations=self._settings.revocations)
        )
        gate = Gate(
            station=topics,
            keys=ring.look(),
            nonces=self._open_nonces(),
            skew_s=settings.skew_s,
            lifetime_s=settings.lifetime_s,
        )
        return RemoteDesk(
            gate,
            ring=ring,
            execute=Orders(self._commands, self._reach()),
            answer=lambda reply: self._publisher().answer(reply),
        )

    def _open_nonces(self) -> NonceMemory:
        if not self._settings.commands.keys:
            return _NoMemory()
        nonces = NonceFile(_beside(self._outbox, "nonces"))
        self._undo.callback(nonces.close)
        return nonces

    def _reach(self) -> Reach:
        return Reach(
            products=self._products,
            pause=self.pause,
            standing=self._standing,
            journal=self._outbox,
            rebuild=self._rebuild,
            repeat=self._repeat,
            is_repeating=lambda: self._publisher().repeats.is_busy,
            answer=lambda reply: self._publisher().answer(reply),
            slotting=lambda: self.slotting,
            receiving=lambda: self.receiving,
        )

    def _keep_product(self, name: str) -> None:
        self._standing.keep(msgspec.structs.replace(self._standing.orders, product=name))

    def _rebuild(self, first: int, last: int) -> Rebuilt:
        return rebuild_range(
            self._outbox.path,
            first=first,
            last=last,
            expiry_ms=round(self._settings.expiry_s * 1000),
            is_waiting=self._outbox.is_waiting,
        )

    def _repeat(self, payloads: Sequence[bytes], then: Callable[[], None]) -> None:
        publisher = self._publisher()
        publisher.repeats.offer(payloads, then)
        publisher.wake()


def _beside(outbox: Outbox, suffix: str) -> Path:
    return outbox.path.with_name(f"{outbox.path.name}.{suffix}")
