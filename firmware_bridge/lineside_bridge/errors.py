"""The bridge's error root."""

from lineside.errors import LinesideError


class BridgeError(LinesideError):
    """A sensor cannot be reached, refuses, or does not prove what it received."""
