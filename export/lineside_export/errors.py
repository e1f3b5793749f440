"""Every error the exporter raises on purpose."""

from lineside.errors import LinesideError


class ExportError(LinesideError):
    """Root of the exporter's errors."""


class CandidateError(ExportError):
    """The candidate folder is incomplete, or its parts contradict each other."""

    exit_code = 3


class GateError(ExportError):
    """The model in the exported formats does not do what the candidate did."""
