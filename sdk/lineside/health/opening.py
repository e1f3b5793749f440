"""All of a station's health at once: opened before the first frame, closed after the last."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lineside.health.figures import HealthSources
from lineside.health.monitor import HealthMonitor
from lineside.health.notify import Notifier
from lineside.health.server import HealthServer
from lineside.health.settings import HealthSettings
from lineside.health.watchdog import Watchdog
from lineside.mqtt.health import encode_health


@dataclass(frozen=True, kw_only=True)
class Health:
    """What a station holds of it.

    Attributes:
        monitor: for ``faults.note`` and ``snapshot``.
        watchdog: for ``beat``.
        notifier: for ``ready``, ``status`` and ``stopping``.
        server: the listener; ``None`` where none is configured.
    """

    monitor: HealthMonitor
    watchdog: Watchdog
    notifier: Notifier
    server: HealthServer | None

    def payload(self) -> bytes:
        """The health topic's message of this moment; from any thread, never waits."""
        return encode_health(self.monitor.snapshot().message)

    @property
    def fault(self) -> str:
        """Why health itself is not well, ``""`` when it is."""
        return self.monitor.fault or ("" if self.server is None else self.server.fault)


@contextlib.contextmanager
def open_health(
    settings: HealthSettings,
    sources: HealthSources,
    *,
    notifier: Notifier,
    beating: Sequence[str] = ("inspection",),
    alive: Mapping[str, Callable[[], bool]] | None = None,
) -> Iterator[Health]:
    """Start the threads and, where one is configured, the listener; the caller closes ``notifier``.

    Args:
        beating, alive: see ``Watchdog``.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    monitor = HealthMonitor(sources)
    watchdog = Watchdog(notifier, beating=beating, alive=alive)
    address = settings.listen
    monitor.look()  # so that the first message has figures
    with contextlib.ExitStack() as stack:
        monitor.start()
        stack.callback(monitor.stop)
        server = None
        if address is not None:
            server = HealthServer(address, snapshot=monitor.snapshot, trouble=watchdog.trouble)
            server.start()
            stack.callback(server.stop)
        yield Health(monitor=monitor, watchdog=watchdog, notifier=notifier, server=server)
