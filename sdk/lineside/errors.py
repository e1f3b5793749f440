"""Every error the sdk raises on purpose: one root, fields to act on, a remedy in the message.

The command line turns ``exit_code`` into the process's status (see docs/cli.md).
"""

from __future__ import annotations

from pathlib import Path


class LinesideError(Exception):
    """Root of all errors raised by Lineside's distributions."""

    exit_code = 1


class InputDataError(LinesideError):
    """What the user gave us to read (images, tables, folders) cannot be used."""

    exit_code = 3


class FrameError(InputDataError):
    """A frame cannot be used; ``reason`` is the name of the verdict's reason code."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConfigurationError(LinesideError):
    """A setting is unknown, missing or impossible; ``path`` says where, e.g. ``mqtt.url``."""

    exit_code = 4

    def __init__(self, message: str, *, file: Path | None = None, path: str | None = None) -> None:
        super().__init__(message)
        self.file = file
        self.path = path


class BundleError(LinesideError):
    """A bundle is refused."""

    exit_code = 5


class BundleFormatError(BundleError):
    """The file is not a bundle, is cut short, or was changed."""


class IncompatibleBundleError(BundleError):
    """The bundle is sound but made for another runtime; ``expected`` is what it asks for."""

    def __init__(self, message: str, *, expected: str, actual: str) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class UntrustedBundleError(BundleError):
    """The bundle's signing key is not among the trusted ones."""

    def __init__(self, message: str, *, key_id: str) -> None:
        super().__init__(message)
        self.key_id = key_id


class RevokedKeyError(UntrustedBundleError):
    """The bundle's signing key was revoked on this machine."""


class SignatureError(BundleError):
    """The signature does not hold: header or manifest are not what the key's owner sealed."""


class PartHashError(BundleError):
    """A part's bytes are not the sealed ones."""

    def __init__(self, message: str, *, part: str, expected: str, actual: str) -> None:
        super().__init__(message)
        self.part = part
        self.expected = expected
        self.actual = actual


class KeyFileError(LinesideError):
    """A key file is missing, unreadable, of another kind, or its password is wrong."""

    exit_code = 5


class SigningError(LinesideError):
    """A key cannot seal: its plug-in or token is missing, locked, or answers with nonsense."""

    exit_code = 5


class OverrideError(LinesideError):
    """A signed override of limits is refused: damaged, not trusted, or for another bundle."""

    exit_code = 5

    def __init__(self, message: str, *, file: Path) -> None:
        super().__init__(message)
        self.file = file


class TargetError(BundleError):
    """The bundle was made for other hardware; ``expected`` is what it asks for."""

    def __init__(self, message: str, *, expected: str, actual: str) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class DowngradeError(BundleError):
    """The bundle's security counter is below what was confirmed here: ``actual`` < ``expected``."""

    def __init__(self, message: str, *, expected: int, actual: int) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class EngineError(LinesideError):
    """An inference engine is missing, refuses the model, or failed while running."""

    exit_code = 6


class ProviderError(EngineError):
    """An execution provider or device was asked for and did not come up."""

    def __init__(self, message: str, *, asked: str, available: tuple[str, ...]) -> None:
        super().__init__(message)
        self.asked = asked
        self.available = available


class SelfTestError(EngineError):
    """The golden samples do not come out as sealed on this device."""


class StorageError(LinesideError):
    """A disk operation failed: full, read-only, not permitted, torn."""

    exit_code = 7


class StoreBusyError(StorageError):
    """Another process changes the slots just now, or another station runs on them."""


class BrokerError(LinesideError):
    """The MQTT broker cannot be reached or refuses us."""

    exit_code = 8


class BrokerRefusedError(BrokerError):
    """The broker answers but does not want us or a message; ``reason`` is its own word."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class RefusedError(LinesideError):
    """Well-formed, and not done in this state: a store without trial, a station that says no."""

    exit_code = 9


class CommandRefusedError(RefusedError):
    """A station answered no; ``reason`` is its own word, e.g. ``expired``."""

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
