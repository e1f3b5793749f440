"""Every error the trainer raises on purpose."""

from lineside.errors import LinesideError


class TrainerError(LinesideError):
    """Root of the trainer's errors."""


class DataError(TrainerError):
    """The images or their table cannot be used for training."""

    exit_code = 3


class ExperimentError(TrainerError):
    """A setting of the experiment is unknown, missing or impossible; the message names its path."""

    exit_code = 4


class OutOfMemoryError(TrainerError):
    """The memory of GPU or machine does not hold this batch; the message says what to turn down."""


class MaskError(TrainerError):
    """A mask hides nothing, or everything."""

    exit_code = 4
