"""`lineside VERB …` in this process, as a user types it."""

from __future__ import annotations

from click.testing import CliRunner, Result

from lineside.cli.main import lineside
from lineside.errors import LinesideError


def call(*words: object) -> Result:
    """Run it; what it raised is in the result."""
    return CliRunner().invoke(lineside, [str(word) for word in words], catch_exceptions=True)


def succeed(*words: object) -> Result:
    """Run what must work."""
    result = call(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refuse(kind: type[LinesideError], *words: object) -> str:
    """Run what must be refused with this kind of error; its words."""
    result = call(*words)
    assert isinstance(result.exception, kind), (result.output, result.exception)
    return str(result.exception)
