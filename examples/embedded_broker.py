"""An MQTT broker inside this process, for machines that have none: demo and first steps only.

A factory runs a real one (mosquitto, EMQX, HiveMQ). This one keeps nothing across a restart.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig

START_TIMEOUT_S = 20.0


def answers(host: str, port: int, timeout_s: float = 0.5) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False


@contextmanager
def embedded_broker(host: str = "127.0.0.1") -> Iterator[int]:
    """Run a broker on a free port of the loopback interface; yields the port.

    Raises:
        RuntimeError: it did not come up within 20 s.
    """
    logging.getLogger("amqtt").setLevel(logging.ERROR)
    logging.getLogger("transitions").setLevel(logging.ERROR)
    port = _free_port(host)
    started, stop, failures = threading.Event(), threading.Event(), list[BaseException]()
    thread = threading.Thread(
        target=lambda: asyncio.run(_serve(host, port, started, stop, failures)), daemon=True
    )
    thread.start()
    if not started.wait(START_TIMEOUT_S) or failures:
        raise RuntimeError(f"the embedded broker did not start on {host}:{port}: {failures}")
    try:
        yield port
    finally:
        stop.set()
        thread.join(timeout=10.0)


async def _serve(
    host: str,
    port: int,
    started: threading.Event,
    stop: threading.Event,
    failures: list[BaseException],
) -> None:
    config = BrokerConfig.from_dict(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{host}:{port}"}},
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
            },
        }
    )
    try:
        broker = Broker(config)
        await broker.start()
    except BaseException as error:
        failures.append(error)
        started.set()
        raise
    started.set()
    while not stop.is_set():
        await asyncio.sleep(0.1)
    await broker.shutdown()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
