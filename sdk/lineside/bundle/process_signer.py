"""``--key process:FILE.toml``: a key that another program holds, such as a token's own tool.

The file names the public key and the command. The command gets the bytes to sign on its standard
input and gives the signature, 64 bytes, on its standard output.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Annotated, Final

import msgspec

from lineside.bundle.keys import PublicKey, load_public_key, read_small
from lineside.errors import SigningError

PASSWORD_VARIABLE: Final = "LINESIDE_KEY_PASSWORD"
DEFAULT_TIMEOUT_S: Final = 60.0


class ProcessKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the file says.

    Attributes:
        public: the ``.pub`` of the key, beside the file.
        command: program and arguments; no shell reads it.
        timeout_s: a token that waits for a touch or a PIN pad needs long.
    """

    public: str
    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=3600)] = DEFAULT_TIMEOUT_S


class ProcessSigner:
    """Signs by calling a program each time.

    Attributes:
        public: whose signature must come back.
    """

    def __init__(self, told: ProcessKey, public: PublicKey, password: str | None) -> None:
        self.public = public
        self._told = told
        self._password = password

    def sign(self, data: bytes) -> bytes:
        """What the command answers.

        Raises:
            SigningError: it is not there, takes too long, or fails.
        """
        environment = dict(os.environ)
        if self._password is not None:
            environment[PASSWORD_VARIABLE] = self._password
        program = self._told.command[0]
        try:
            done = subprocess.run(
                self._told.command,
                input=data,
                capture_output=True,
                env=environment,
                timeout=self._told.timeout_s,
                check=False,
            )
        except (OSError, ValueError) as error:
            raise SigningError(f"{program}: cannot be called: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise SigningError(
                f"{program}: no signature after {self._told.timeout_s:g} s (timeout_s)"
            ) from error
        if done.returncode != 0:
            words = " ".join(done.stderr.decode("utf-8", "replace").split())[-300:]
            raise SigningError(f"{program}: exit code {done.returncode}: {words or 'no word'}")
        return done.stdout


def open_process_signer(locator: str, password: str | None) -> ProcessSigner:
    """The entry point for ``process:``.

    Raises:
        KeyFileError: the file or its public key cannot be read.
        SigningError: the file is no such description.
    """
    path = Path(locator.partition(":")[2])
    try:
        told = msgspec.toml.decode(read_small(path), type=ProcessKey)
    except (msgspec.MsgspecError, ValueError) as error:
        raise SigningError(f"{path}: {error}") from error
    return ProcessSigner(told, load_public_key(path.parent / told.public), password)
