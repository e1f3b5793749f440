"""A verb of Lineside in a process of its own."""

from __future__ import annotations

import sys
from typing import Final

# Not the script `lineside`: that need not be on the path of whoever calls this interpreter.
_BEGIN: Final = "from lineside.cli.main import main; main()"


def verb_command(*words: object) -> list[str]:
    """The command line of ``lineside WORDS``, run by this interpreter."""
    return [sys.executable, "-c", _BEGIN, *map(str, words)]
