"""Keys in a token: SoftHSM's real PKCS#11 module, reached as a smart card's would be."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from bundle_vectors import VECTOR, minimal_manifest
from cryptography.hazmat.primitives.asymmetric import ed448
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from lineside.bundle import (
    Signer,
    load_private_key,
    load_public_key,
    open_bundle,
    seal_bundle,
    write_key_pair,
)
from lineside.bundle.pkcs11 import open_pkcs11
from lineside.bundle.pkcs11_uri import DEFAULT_MODULE, parse_address
from lineside.errors import SigningError

PIN: Final = "1234"


def softhsm() -> Path:
    """Debian's package softhsm2 puts it into one of these."""
    for folder in ("/usr/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"):
        module = Path(folder, "softhsm", "libsofthsm2.so")
        if module.exists():
            return module
    raise AssertionError("SoftHSM is missing: sudo apt-get install softhsm2")


def token_tool(*words: str | Path) -> None:
    subprocess.run(["softhsm2-util", *map(str, words)], check=True, capture_output=True)


class Token:
    """A token of its own, with one key that also lies in a file."""

    def __init__(self, folder: Path) -> None:
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(
            f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n"
        )
        self.folder = folder
        self.key, self.public = write_key_pair(folder, "seal")

    def make(self, label: str) -> None:
        token_tool("--init-token", "--free", "--label", label, "--so-pin", "5678", "--pin", PIN)

    def put(self, file: Path, *, label: str, number: str, token: str = "factory") -> None:
        token_tool(
            *("--import", file, "--token", token, "--label", label, "--id", number, "--pin", PIN)
        )

    def locator(self, path: str) -> str:
        return f"pkcs11:{path}?module-path={softhsm()}"


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    made = Token(tmp_path_factory.mktemp("token"))
    with pytest.MonkeyPatch.context() as environment:
        # The module and its tool read it from the process's own environment.
        environment.setenv("SOFTHSM2_CONF", str(made.folder / "softhsm2.conf"))
        made.make("factory")
        made.put(made.key, label="seal", number="01")
        yield made


def seal(path: Path, key: Signer) -> bytes:
    seal_bundle(path, manifest=minimal_manifest(), parts=VECTOR.minimal_parts(), key=key)
    return path.read_bytes()


@pytest.mark.parametrize(
    "path", ["token=factory;object=seal", "object=seal", "id=%01;type=private", "object=%73eal"]
)
def test_a_token_seals_the_same_bytes_as_the_key_in_a_file(
    path: str, token: Token, tmp_path: Path
) -> None:
    signer = open_pkcs11(token.locator(path), PIN)
    assert signer.public.raw == load_public_key(token.public).raw
    by_token = seal(tmp_path / "a.lsb", signer)
    assert by_token == seal(tmp_path / "b.lsb", load_private_key(token.key))
    assert by_token == seal(tmp_path / "a.lsb", signer)
    open_bundle(tmp_path / "a.lsb", trust=token.public).close()


def test_a_manifest_of_any_size_is_signed_in_one_call(token: Token) -> None:
    signer = open_pkcs11(token.locator("object=seal"), PIN)
    for size_bytes in (0, 1, 1024, 2**18 + 32):
        data = os.urandom(size_bytes)
        assert signer.public.holds(signer.sign(data), data)


@pytest.mark.parametrize(
    ("path", "pin", "words"),
    [
        ("object=seal", "9999", r"C_Login: the PIN is wrong \(CKR 0xa0\)"),
        ("object=seal", "", r"C_Login: .*\(CKR 0x"),
        ("object=seal", None, "with the PIN only"),
        ("object=other", PIN, "no such private Ed25519 key"),
        ("token=smelter;object=seal", PIN, r"fits 0 tokens; there are: token=factory;serial=\w+"),
        ("serial=0;object=seal", PIN, "fits 0 tokens"),
    ],
)
def test_what_the_token_refuses_is_named(
    path: str, pin: str | None, words: str, token: Token
) -> None:
    with pytest.raises(SigningError, match=words):
        open_pkcs11(token.locator(path), pin)
    # Neither a session nor a login is left behind.
    open_pkcs11(token.locator("object=seal"), PIN)


def test_keys_that_are_not_the_one_meant_are_refused(token: Token, tmp_path: Path) -> None:
    for number in ("02", "03"):
        write_key_pair(tmp_path, f"twin{number}")
        token.put(tmp_path / f"twin{number}.key", label="twin", number=number)
    with pytest.raises(SigningError, match="fits several keys"):
        open_pkcs11(token.locator("object=twin"), PIN)
    second = open_pkcs11(token.locator("object=twin;id=%03"), PIN)
    assert second.public.raw == load_public_key(tmp_path / "twin03.pub").raw
    wide = ed448.Ed448PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    (tmp_path / "wide.pem").write_bytes(wide)
    token.put(tmp_path / "wide.pem", label="wide", number="04")
    with pytest.raises(SigningError, match=r"no Ed25519 key: its CKA_EC_POINT has 5\d bytes"):
        open_pkcs11(token.locator("object=wide"), PIN)


def test_a_token_that_was_cleared_meanwhile_seals_nothing(token: Token, tmp_path: Path) -> None:
    token.make("spare")
    token.put(token.key, label="seal", number="01", token="spare")
    signer = open_pkcs11(token.locator("token=spare;object=seal"), PIN)
    token_tool("--delete-token", "--token", "spare")
    with pytest.raises(SigningError, match="fits 0 tokens"):
        seal(tmp_path / "a.lsb", signer)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("module", ["/no/such.so", "libm.so.6", __file__])
def test_what_is_no_module_is_named(module: str) -> None:
    with pytest.raises(SigningError, match="no PKCS#11 module"):
        open_pkcs11(f"pkcs11:object=seal?module-path={module}", PIN)


@pytest.mark.parametrize(
    ("locator", "words"),
    [
        ("pkcs11:", "names no key"),
        ("pkcs11:token=factory", "names no key"),
        ("pkcs11:object=a;object=b", "'object=b': give each of"),
        ("pkcs11:object=", "'object=': give each of"),
        ("pkcs11:object=a;slot-id=3", "'slot-id=3': give each of"),
        ("pkcs11:object=a;type=public", "only a private key seals"),
        ("pkcs11:object=a?pin-value=1234", "give the PIN by --ask-password"),
        ("pkcs11:object=a?module-name=x", "'module-name=x': give each of"),
    ],
)
def test_a_locator_that_is_wrong_is_named(locator: str, words: str) -> None:
    with pytest.raises(SigningError, match=words) as caught:
        parse_address(locator)
    assert "1234" not in str(caught.value)


@given(text=st.text(max_size=60))
def test_any_locator_is_read_or_refused(text: str) -> None:
    try:
        address = parse_address(f"pkcs11:object=a;{text}")
    except SigningError:
        return
    assert (address.label, address.locator) == ("a", f"pkcs11:object=a;{text}")
    assert address.module


def test_without_a_module_the_system_s_proxy_is_asked() -> None:
    assert parse_address("pkcs11:object=a").module == DEFAULT_MODULE
