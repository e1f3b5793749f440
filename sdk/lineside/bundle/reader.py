"""Open a bundle: map the file, check all of it, hand out its parts without copying."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from pathlib import Path

from lineside.bundle.checks import CheckedBundle, check_bundle
from lineside.bundle.keys import PublicKey
from lineside.bundle.layout import HEADER_BYTES, Span
from lineside.bundle.manifest import Manifest
from lineside.bundle.trust import Trust, load_trust
from lineside.closing import Closing
from lineside.errors import BundleError, BundleFormatError


class Bundle(Closing):
    """A bundle whose every check has held. Close it, or use it as a context manager.

    Attributes:
        path: the file.
        checked: what the checks found; its bytes are those that were verified.
    """

    def __init__(self, path: Path, checked: CheckedBundle, view: memoryview) -> None:
        self.path = path
        self.checked = checked
        self._view: memoryview | None = view

    @property
    def manifest(self) -> Manifest:
        """The sealed description."""
        return self.checked.manifest

    @property
    def hash(self) -> str:
        """64 hex digits: SHA-256 over the signed bytes, the same for a thin copy."""
        return self.checked.hash

    @property
    def model_id(self) -> str:
        """The first 16 digits of the hash: what verdicts carry."""
        return self.hash[:16]

    @property
    def signer(self) -> PublicKey:
        """Whose seal it is."""
        return self.checked.signer

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the parts that this copy holds, in the file's order."""
        return tuple(self.checked.spans)

    def part(self, name: str) -> memoryview:
        """A part's bytes: read-only, mapped, format ``B``; valid for as long as it is held.

        Raises:
            BundleError: no such part in this copy, or the bundle is closed.
        """
        if self._view is None:
            raise BundleError(f"{self.path}: is closed; open it again")
        span = self.checked.spans.get(name)
        if span is None:
            sealed = any(part.name == name for part in self.manifest.parts)
            why = "was left out of this thin copy" if sealed else "is not in this bundle"
            raise BundleError(
                f"{self.path}: part {name!r} {why}; present: {', '.join(self.present)}"
            )
        return self._view[span.start : span.stop]

    def let_go(self, name: str) -> None:
        """Give a part's memory back to the system; who reads it again gets it from the file again.

        Views handed out stay valid. A bundle that was opened from memory keeps it.

        Raises:
            BundleError: as `part` does.
        """
        mapping = self.part(name).obj
        if isinstance(mapping, mmap.mmap):
            _let_go(mapping, self.checked.spans[name])

    def close(self) -> None:
        """Let go of the file. Views handed out stay valid, and keep the mapping until they go."""
        if self._view is not None:
            self._view.release()
            self._view = None


def open_bundle(path: str | Path, *, trust: Trust) -> Bundle:
    """Open and check a bundle: header, key, signature, manifest, every present part.

    Memory stays small whatever the file's size: a part's pages are let go once hashed.

    Args:
        path: the file. It must not be written in place while open (replace it by renaming).
        trust: a ``.pub`` file, a folder of them, several of either, or keys loaded before.

    Raises:
        KeyFileError: a trusted key cannot be read.
        BundleError: refused; the kind says why (see `lineside.bundle.checks.check_bundle`).
    """
    path = Path(path)
    trusted = load_trust(trust)
    mapping = _map(path)

    view = memoryview(mapping)
    try:
        checked = check_bundle(
            view,
            trusted=trusted,
            source=str(path),
            done_with=lambda span: _let_go(mapping, span),
        )
    except BundleError:
        view.release()
        mapping.close()
        raise
    return Bundle(path, checked, view)


def _let_go(mapping: mmap.mmap, span: Span) -> None:
    start = span.start // mmap.PAGESIZE * mmap.PAGESIZE
    # Refused where a real-time process has locked its memory; then it means to keep it.
    with contextlib.suppress(OSError):
        mapping.madvise(mmap.MADV_DONTNEED, start, span.stop - start)


def _map(path: Path) -> mmap.mmap:
    try:
        # Non-blocking, so that a pipe put in the file's place cannot hang us.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise BundleError(f"{path}: cannot be opened: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BundleFormatError(f"{path}: not a file")
        if status.st_size < HEADER_BYTES:
            raise BundleFormatError(
                f"{path}: cut short, or not a bundle: {status.st_size} bytes, a header alone has "
                f"{HEADER_BYTES}"
            )
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise BundleError(f"{path}: cannot be mapped: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)
