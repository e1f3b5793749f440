"""The receiving side, as `lineside listen` and tests use it: one connection after the other."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from lineside.closing import Closing
from lineside.errors import BrokerError
from lineside.mqtt.link import Link, Message
from lineside.mqtt.settings import MqttSettings
from lineside.mqtt.wake import Wake


class Receiver(Closing):
    """Subscribes, and subscribes again after each loss of the connection.

    What stations publish while it is away, it does not hear: its sessions are clean, so that
    nothing of it stays behind in the broker.
    """

    def __init__(self, settings: MqttSettings, filters: Sequence[str]) -> None:
        self._settings = settings
        self._filters = tuple(filters)
        self._client_id = f"lineside-listen-{secrets.token_hex(4)}"
        self._wake = Wake()
        self._link: Link | None = None

    @property
    def listening(self) -> bool:
        """Whether what is published now will be heard."""
        return self._link is not None and self._link.subscribed

    def receive(self, timeout_s: float) -> list[Message]:
        """What has come, or nothing when ``timeout_s`` is over.

        Raises:
            BrokerRefusedError: the broker does not want us.
            BrokerError: not reachable or lost; the next call connects anew, after a pause of yours.
        """
        try:
            if self._link is None:
                self._link = Link(self._settings, client_id=self._client_id, wake=self._wake)
                self._link.subscribe(self._filters)
            self._link.step(timeout_s)
        except BrokerError:
            link, self._link = self._link, None
            if link is not None:
                heard = link.received()
                link.abort()
                if heard:
                    return heard
            raise
        return self._link.received()

    def publish(self, message: Message) -> None:
        """Send with QoS 1, over the connection that stands.

        Raises:
            BrokerError: there is none just now, or it was lost; nothing is kept for later.
        """
        if self._link is None:
            raise BrokerError(f"{self._settings.url}: not connected, so nothing can be sent")
        self._link.publish(message)

    def close(self) -> None:
        """Say goodbye."""
        if self._link is not None:
            self._link.close()
        self._wake.close()
