"""A bundle downloaded by the station itself, from the one place that its configuration names.

Below the configured URL and from nowhere else: no other host, no other scheme, no proxy of the
environment, whatever a command or a server says.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from typing import IO, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from lineside.closing import Closing
from lineside.errors import ConfigurationError, InputDataError, RefusedError

TIMEOUT_S: Final = 10.0
_BLOCK_BYTES: Final = 256 * 1024
_REDIRECTS: Final = 5
_RANGE: Final = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")


class FetchError(RefusedError):
    """The server does not give it, or not now; ``passing``: it may later."""

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


def check_base(url: str, *, path: str = "commands.url") -> str:
    """The place below which bundles lie.

    Raises:
        ConfigurationError: no http or https URL of a host; or user, password, query within.
    """
    hint = "write https://HOST/FOLDER"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{path}: {error}; {hint}", path=path) from error
    if parts.username is not None or parts.password is not None:
        # Not repeated: it may be on its way to a log.
        raise ConfigurationError(f"{path}: user and password do not belong here", path=path)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{path} = {url!r}: no http or https URL; {hint}", path=path)
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable():
        raise ConfigurationError(f"{path} = {url!r}: no folder; {hint}", path=path)
    return url


def place_of(base: str, name: str) -> str:
    """The URL of a name below the base.

    Raises:
        FetchError: no base is configured.
        InputDataError: the name leads elsewhere.
    """
    if not base:
        raise FetchError("commands.url is not set on this station: send it", passing=False)
    parts = name.split("/")
    if "\\" in name or not name.isprintable() or {"", ".", ".."}.intersection(parts):
        raise InputDataError(f"url {name[:64]!r}: a name below commands.url, without .. and //")
    return f"{base.rstrip('/')}/{quote(name)}"


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows within the host; elsewhere the answer is an error, the redirect itself."""

    max_redirections = _REDIRECTS

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        if _origin(urlsplit(req.full_url)) != _origin(urlsplit(urljoin(req.full_url, newurl))):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or default


class Fetch(Closing):
    """One request, from an offset on. Close it, or use it in a ``with`` statement.

    Args:
        url: of `place_of`.
        offset: bytes that are there already.
        timeout_s: without a byte for so long it is given up.
        watch: called with the size of each piece that comes, also of what is passed over because it
            is there already; what it raises ends the reading.

    Attributes:
        size_bytes: of the whole file; ``None``: the server does not say.

    Raises:
        FetchError: not there, not permitted, redirected elsewhere, or the connection failed.
    """

    def __init__(
        self,
        url: str,
        *,
        offset: int,
        timeout_s: float = TIMEOUT_S,
        watch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._watch = watch
        headers = {"Accept-Encoding": "identity", "User-Agent": "lineside"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _SameOrigin())
        with self._mapped():
            request = urllib.request.Request(url, headers=headers)
            self._answer: http.client.HTTPResponse = opener.open(request, timeout=timeout_s)
        begin, self.size_bytes = self._read_head(offset)
        self._skip_bytes = offset - begin

    def read(self) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            FetchError: the connection failed; what was read so far is right.
        """
        while True:
            with self._mapped():
                block = self._answer.read1(_BLOCK_BYTES)
            self._watch(len(block))
            if not block or len(block) > self._skip_bytes:
                block, self._skip_bytes = block[self._skip_bytes :], 0
                return block
            self._skip_bytes -= len(block)

    def close(self) -> None:
        """End the connection."""
        self._answer.close()

    def _read_head(self, offset: int) -> tuple[int, int | None]:
        """Where the answer's bytes begin, and how large the whole file is."""
        headers = self._answer.headers
        if self._answer.status != http.client.PARTIAL_CONTENT:
            length = headers.get("Content-Length", "")
            return 0, int(length) if length.isdecimal() and len(length) < 16 else None
        found = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if found is None or int(found[1]) != offset:
            raise FetchError("the server answers another range", passing=False)
        return offset, None if found[3] == "*" else int(found[3])

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error) from error
        except urllib.error.URLError as error:
            raise FetchError(f"{_words(error.reason)}", passing=True) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise FetchError(f"{_words(error)}", passing=True) from error

    def _refused(self, error: urllib.error.HTTPError) -> FetchError:
        if 300 <= error.code < 400:
            words = "the server sends us elsewhere; only commands.url is asked"
            return FetchError(words, passing=False)
        words = f"{urlsplit(self._url).path}: {error.code} {error.reason}"
        return FetchError(words, passing=error.code >= 500 or error.code in (408, 429))


def _words(reason: object) -> str:
    words = reason.strerror if isinstance(reason, OSError) else None
    return words or str(reason) or type(reason).__name__
