"""Every error the exporter raises on purpose."""

from lineside.errors import LinesideError


class ExportError(LinesideError):
    """Root of the exporter's errors."""


class CandidateError(ExportError):
    """The candidate folder is incomplete, or its parts contradict each other."""

    exit_code = 3


class GraphError(ExportError):
    """A vendor's tool refuses to translate or quantise the candidate's program."""


class GateError(ExportError):
    """The model in the exported formats does not do what the candidate did.

    ``failures`` are the gates that were missed, one sentence each.
    """

    def __init__(self, message: str, *, failures: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.failures = failures
