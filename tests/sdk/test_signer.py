"""Who seals: key files, plug-ins that installed distributions bring, and other programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from bundle_vectors import KEY, VECTOR, minimal, minimal_manifest

from lineside.bundle import (
    PublicKey,
    Signer,
    TrustedKeys,
    load_private_key,
    load_public_key,
    open_bundle,
    open_signer,
    seal_bundle,
    write_key_pair,
)
from lineside.bundle.keys import encode_public_key
from lineside.bundle.process_signer import PASSWORD_VARIABLE, open_process_signer
from lineside.errors import KeyFileError, SigningError

# A program that holds a key and nothing of ours but the primitive: what a token's tool does.
PROGRAM: Final = """
import os, sys, time
from cryptography.hazmat.primitives.serialization import load_pem_private_key
password = os.environ.get("LINESIDE_KEY_PASSWORD", "").encode() or None
mood, file = sys.argv[1:]
if mood == "slow":
    time.sleep(60)
if mood == "locked":
    sys.exit("token: PIN\\nlocked")
data = sys.stdin.buffer.read()
key = load_pem_private_key(open(file, "rb").read(), password)
signature = key.sign(b"another text" if mood == "other" else data)
sys.stdout.buffer.write(signature[:63] if mood == "short" else signature)
"""

PLUGIN: Final = """
from pathlib import Path
from lineside.bundle import load_private_key
from lineside.errors import SigningError

class Token:
    def __init__(self, key):
        self._key = key
        self.public = key.public
    def sign(self, data):
        return self._key.sign(data)

class Broken(Token):
    def sign(self, data):
        raise OSError("token was pulled out")

def open_token(locator, password):
    scheme, name = locator.split(":", 1)
    if name == "nothing":
        raise SigningError("no such object on the token")
    if name == "driver":
        raise RuntimeError("CKR_DEVICE_ERROR\\nat slot 3")
    if name == "nobody":
        return object()
    if name == "bytes":
        token = Token(load_private_key(Path(__file__).parent / "token.key", password))
        token.public = token.public.raw
        return token
    kind = Broken if scheme == "broken" else Token
    return kind(load_private_key(Path(__file__).parent / name, password))
"""


def token_file(folder: Path, mood: str, *, timeout_s: float = 30, password: str = "") -> Path:
    write_key_pair(folder, "token", password or None)
    (folder / "tool.py").write_text(PROGRAM)
    command = [sys.executable, str(folder / "tool.py"), mood, str(folder / "token.key")]
    file = folder / "token.toml"
    file.write_text(
        f'public = "token.pub"\ncommand = {json.dumps(command)}\ntimeout_s = {timeout_s}\n'
    )
    return file


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution as pip would install it, with two entry points."""
    (tmp_path / "token_plugin.py").write_text(PLUGIN)
    about = tmp_path / "token_plugin-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: token-plugin\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[lineside.signers]\nvault = token_plugin:open_token\nbroken = token_plugin:open_token\n"
        "gone = token_plugin:nothing\nlost = no_such_module:open_token\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "token_plugin", raising=False)
    write_key_pair(tmp_path, "token", "1234")
    return tmp_path


def seal(path: Path, key: Signer) -> bytes:
    seal_bundle(path, manifest=minimal_manifest(), parts=VECTOR.minimal_parts(), key=key)
    return path.read_bytes()


def test_a_plug_in_seals_as_its_key_would(plugin: Path, tmp_path: Path) -> None:
    signer = open_signer("vault:token.key", "1234")
    sealed = seal(tmp_path / "a.lsb", signer)
    assert sealed == seal(tmp_path / "b.lsb", load_private_key(plugin / "token.key", "1234"))
    with open_bundle(tmp_path / "a.lsb", trust=plugin / "token.pub") as bundle:
        assert bundle.signer.raw == signer.public.raw


def test_faults_of_a_plug_in_are_ours_and_leave_nothing(plugin: Path, tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="no such object on the token"):
        open_signer("vault:nothing")
    with pytest.raises(SigningError, match="vault:driver: RuntimeError: CKR_DEVICE_ERROR at slot"):
        open_signer("vault:driver")
    with pytest.raises(SigningError, match=r"vault:nobody: AttributeError"):
        open_signer("vault:nobody")
    with pytest.raises(SigningError, match=r"hands out no lineside\.bundle\.PublicKey"):
        open_signer("vault:bytes", "1234")
    with pytest.raises(KeyFileError, match="wrong password"):
        open_signer("vault:token.key", "4321")
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(SigningError, match="OSError: token was pulled out"):
        seal(out / "a.lsb", open_signer("broken:token.key", "1234"))
    assert list(out.iterdir()) == []


def test_a_scheme_without_a_plug_in_is_named(plugin: Path) -> None:
    with pytest.raises(SigningError, match=r"yubihsm: no plug-in.*broken, gone, lost, .*vault"):
        open_signer("yubihsm:3")
    for scheme in ("gone", "lost"):
        with pytest.raises(SigningError, match=f"{scheme}: its plug-in .*no"):
            open_signer(f"{scheme}:x")


def test_a_key_file_is_no_scheme(tmp_path: Path) -> None:
    private_path, public_path = write_key_pair(tmp_path, "factory")
    private_path.rename(tmp_path / "pkcs11:x")
    for key in (tmp_path / "pkcs11:x", f"{tmp_path}/pkcs11:x"):
        assert open_signer(key).public.raw == load_public_key(public_path).raw
    with pytest.raises(KeyFileError, match="No such file"):
        open_signer("c:factory.key")


class Liar:
    """Says it is one key and signs with another, or with nothing."""

    def __init__(self, public: PublicKey, signature: Any) -> None:
        self.public = public
        self._signature = signature

    def sign(self, data: bytes) -> Any:
        return VECTOR.STRANGER.sign(data) if self._signature is None else self._signature


@pytest.mark.parametrize("signature", [None, b"", bytes(64), bytes(65), "signed", 64])
def test_no_seal_that_nobody_can_open_is_written(signature: Any, tmp_path: Path) -> None:
    with pytest.raises(SigningError, match="no Ed25519 signature of this key"):
        seal(tmp_path / "a.lsb", Liar(KEY.public, signature))
    assert list(tmp_path.iterdir()) == []


# --- process: ------------------------------------------------------------------------------------


def test_another_program_seals(tmp_path: Path) -> None:
    signer = open_process_signer(f"process:{token_file(tmp_path, 'good')}", None)
    seal(tmp_path / "a.lsb", signer)
    open_bundle(tmp_path / "a.lsb", trust=tmp_path / "token.pub").close()


def test_the_password_reaches_the_program_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)
    locator = f"process:{token_file(tmp_path, 'good', password='1234')}"
    seal(tmp_path / "a.lsb", open_process_signer(locator, "1234"))
    with pytest.raises(SigningError, match="exit code 1: ") as caught:
        seal(tmp_path / "b.lsb", open_process_signer(locator, "4321"))
    assert "4321" not in str(caught.value)


@pytest.mark.parametrize(
    ("mood", "words"),
    [
        ("locked", "exit code 1: token: PIN locked"),
        ("other", "no Ed25519 signature of this key"),
        ("short", "63 bytes"),
        ("slow", r"no signature after 0\.5 s \(timeout_s\)"),
    ],
)
def test_a_program_that_does_not_sign_seals_nothing(mood: str, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "token"
    folder.mkdir()
    file = token_file(folder, mood, timeout_s=0.5 if mood == "slow" else 30)
    with pytest.raises(SigningError, match=words):
        seal(tmp_path / "a.lsb", open_process_signer(f"process:{file}", None))
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("public = 3", r"\$\.public"),
        ('public = "token.pub"', "command"),
        ('public = "token.pub"\ncommand = []', r"\$\.command"),
        ('public = "token.pub"\ncommand = ["x"]\nshell = true', "shell"),
        ("not toml", "token.toml"),
        ('public = "none.pub"\ncommand = ["x"]', r"none\.pub: No such file"),
    ],
)
def test_a_description_that_is_wrong_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "token.pub").write_bytes(encode_public_key(KEY.public))
    (tmp_path / "token.toml").write_text(text)
    with pytest.raises((SigningError, KeyFileError), match=words):
        open_process_signer(f"process:{tmp_path / 'token.toml'}", None)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "token.pub").write_bytes(encode_public_key(KEY.public))
    (tmp_path / "t.toml").write_text('public = "token.pub"\ncommand = ["/no/such/tool"]')
    with pytest.raises(SigningError, match="/no/such/tool: cannot be called"):
        seal(tmp_path / "a.lsb", open_process_signer(f"process:{tmp_path / 't.toml'}", None))


def test_a_private_key_is_a_signer(tmp_path: Path) -> None:
    signer: Signer = KEY
    assert seal(tmp_path / "a.lsb", signer) == minimal()
    open_bundle(tmp_path / "a.lsb", trust=TrustedKeys(keys=(KEY.public,))).close()
