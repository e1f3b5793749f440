"""Group 0: echo, parameters, reset, and who we are."""

from __future__ import annotations

from collections.abc import Callable

from lineside_bridge.body import Body
from lineside_bridge.errors import MalformedError
from lineside_bridge.header import Operation
from lineside_bridge.requests import OsCommand, Parameters
from lineside_bridge.sensor.denial import UnknownRequestError
from lineside_bridge.sensor.groups.outcome import Outcome
from lineside_bridge.sensor.sensor import Sensor

# uname's letters, as Zephyr answers them, and what they are of us.
_INFO_LETTERS = "snrvbmpio"


class OsGroup:
    """Args:
    sensor: what it speaks for.
    parameters: of the server's buffers.
    """

    def __init__(self, sensor: Sensor, parameters: Parameters) -> None:
        self._sensor = sensor
        self._parameters = parameters

    def answer(self, operation: Operation, command: int, body: Body) -> Outcome:
        """See `Group`."""
        known: dict[tuple[Operation, int], Callable[[Body], Outcome]] = {
            (Operation.WRITE, OsCommand.ECHO): self._echo,
            (Operation.READ, OsCommand.ECHO): self._echo,
            (Operation.READ, OsCommand.PARAMETERS): self._tell_parameters,
            (Operation.WRITE, OsCommand.RESET): self._reset,
            (Operation.READ, OsCommand.INFO): self._tell_info,
            (Operation.READ, OsCommand.BOOTLOADER): self._tell_bootloader,
        }
        found = known.get((operation, command))
        if found is None:
            raise UnknownRequestError
        return found(body)

    def _echo(self, body: Body) -> Outcome:
        text = body.get("d", "")
        if not isinstance(text, str):
            raise MalformedError("echo: d is no text")
        return Outcome(body={"r": text})

    def _tell_parameters(self, _body: Body) -> Outcome:
        found = self._parameters
        return Outcome(body={"buf_size": found.buf_size, "buf_count": found.buf_count})

    def _reset(self, _body: Body) -> Outcome:
        return Outcome(body={}, then=self._sensor.reset)

    def _tell_info(self, body: Body) -> Outcome:
        wanted = body.get("format") or "s"
        if not isinstance(wanted, str):
            raise MalformedError("info: format is no text")
        facts = self._sensor.facts
        told = {
            "s": "Lineside",
            "n": facts.serial,
            "r": facts.runtime,
            "v": facts.runtime,
            "b": "-",
            "m": facts.engine or "any",
            "p": facts.hardware,
            "i": facts.hardware,
            "o": "Lineside",
        }
        # Each once, as of Zephyr: an answer that repeats them may be too long for any message.
        letters = dict.fromkeys(_INFO_LETTERS if "a" in wanted else wanted)
        unknown = [letter for letter in letters if letter not in told]
        if unknown:
            raise MalformedError(f"info: no such letter {unknown[0]!r}")
        return Outcome(body={"output": " ".join(told[letter] for letter in letters)})

    def _tell_bootloader(self, body: Body) -> Outcome:
        query = body.get("query", "")
        if not query:
            return Outcome(body={"bootloader": "Lineside"})
        if query == "mode":
            # MCUboot's number of two slots that are both run in place, with reverting.
            return Outcome(body={"mode": _DIRECT_XIP_WITH_REVERT, "no-downgrade": True})
        raise MalformedError(f"bootloader: no such query {str(query)[:32]!r}")


_DIRECT_XIP_WITH_REVERT = 5
