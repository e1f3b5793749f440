"""What a group makes of a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from lineside_bridge.body import Body
from lineside_bridge.header import Operation


def _nothing() -> None:
    return None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """An answer's body, and what is to be done once it has left.

    Attributes:
        body: of a yes.
        then: e.g. the reset that was asked for.
    """

    body: Body
    then: Callable[[], None] = field(default=_nothing)


class Group(Protocol):
    """Answers the requests of one group."""

    def answer(self, operation: Operation, command: int, body: Body) -> Outcome:
        """Do it.

        Raises:
            DeniedError, LinesideError: it is not done.
            MalformedError: a field is missing or impossible.
            UnknownRequestError: no such command.
        """
