"""Bytes of a serial port to triggers: whatever comes, nothing but whole and clean lines count.

A wrong part id is worse than none, so what is left of a broken line is thrown away up to its end.
"""

from __future__ import annotations

import re
from typing import Final

LINE_LIMIT_BYTES: Final = 256
_END: Final = re.compile(rb"[\r\n]")


class SerialLines:
    """Pure: fed with bytes, gives ``(part, product)``. Memory: one line.

    Args:
        pattern: a whole line must match; its group ``part`` is the part, ``product`` the product.

    Attributes:
        noise: lines that are no text, have control characters, or do not match.
        overlong: lines beyond `LINE_LIMIT_BYTES`.
        cut: lines that stopped half-way.
    """

    def __init__(self, pattern: str) -> None:
        self.noise = 0
        self.overlong = 0
        self.cut = 0
        self._pattern = re.compile(pattern)
        self._begun = bytearray()
        self._dropping = False

    @property
    def refused(self) -> int:
        """All that could not be used."""
        return self.noise + self.overlong + self.cut

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """What has come to its end with these bytes; a line ends with CR, LF or both."""
        *ended, begun = _END.split(data)
        found = []
        for piece in ended:
            line = self._finish(piece)
            if line is not None:
                found.append(line)
        self._extend(begun)
        return found

    def quiet(self) -> None:
        """Nothing came for a while: what has begun will not be finished.

        The rest of a line may still come, and must not be taken for a line. Noise of a cable that
        was plugged in is no beginning of a line.
        """
        if self._begun:
            self.cut += 1
            self._dropping = _text(bytes(self._begun)) is not None
            self._begun.clear()

    def reset(self) -> None:
        """The port was opened anew."""
        self.quiet()
        self._dropping = False

    def _extend(self, piece: bytes) -> None:
        if self._dropping:
            return
        self._begun += piece[: LINE_LIMIT_BYTES + 1]
        if len(self._begun) > LINE_LIMIT_BYTES:
            self.overlong += 1
            self._dropping = True
            self._begun.clear()

    def _finish(self, piece: bytes) -> tuple[str, str] | None:
        self._extend(piece)
        dropped, self._dropping = self._dropping, False
        line = bytes(self._begun)
        self._begun.clear()
        if dropped or not line:
            return None
        text = _text(line)
        match = None if text is None else self._pattern.fullmatch(text)
        if match is None:
            self.noise += 1
            return None
        named = match.groupdict()
        return (named["part"] or "").strip(), (named.get("product") or "").strip()


def _text(line: bytes) -> str | None:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
