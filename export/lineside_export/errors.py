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


class GuaranteeError(ExportError):
    """The promise that was asked for cannot be proven on the assurance parts.

    ``bad_parts`` were counted, ``escaped`` of them pass at the safest limit, ``parts_missing`` more
    would be needed if no further one passes.
    """

    def __init__(
        self, message: str, *, bad_parts: int = 0, escaped: int = 0, parts_missing: int = 0
    ) -> None:
        super().__init__(message)
        self.bad_parts = bad_parts
        self.escaped = escaped
        self.parts_missing = parts_missing
