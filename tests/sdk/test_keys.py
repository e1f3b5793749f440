"""Keys: made once, never overwritten, read by others' tools, and refused with a remedy."""

from __future__ import annotations

import inspect
import json
import os
import stat
import subprocess
from pathlib import Path
from sysconfig import get_path
from typing import Final

import pytest
from click.testing import CliRunner
from cryptography import exceptions as vendor
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside.bundle import (
    PrivateKey,
    PublicKey,
    generate_key_pair,
    load_private_key,
    load_public_key,
    load_trust,
    write_key_pair,
)
from lineside.bundle import keys as keys_module
from lineside.cli.keys import keys
from lineside.errors import KeyFileError, StorageError

# RFC 8032, section 7.1, test 3: secret key, public key, message, signature.
RFC_SECRET: Final = "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"
RFC_PUBLIC: Final = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
RFC_MESSAGE: Final = bytes.fromhex("af82")
RFC_SIGNATURE: Final = (
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


def test_signing_is_rfc_8032() -> None:
    key = PrivateKey(bytes.fromhex(RFC_SECRET))
    assert key.public.raw.hex() == RFC_PUBLIC
    assert key.sign(RFC_MESSAGE).hex() == RFC_SIGNATURE
    assert key.public.holds(bytes.fromhex(RFC_SIGNATURE), RFC_MESSAGE)


@settings(max_examples=50, deadline=None)
@given(
    message=st.binary(max_size=100),
    at=st.integers(0, 63),
    flip=st.integers(1, 255),
    cut=st.booleans(),
)
def test_a_changed_signature_does_not_hold(message: bytes, at: int, flip: int, cut: bool) -> None:
    key = generate_key_pair()
    signature = bytearray(key.sign(message))
    signature[at] ^= flip
    assert not key.public.holds(bytes(signature[:at] if cut else signature), message)


@pytest.mark.parametrize("password", [None, "correct horse", "Füße 🔑"])
def test_a_written_pair_is_read_again(password: str | None, tmp_path: Path) -> None:
    private_path, public_path = write_key_pair(tmp_path, "factory", password)
    private = load_private_key(private_path, password)
    assert private.public == load_public_key(public_path)
    assert private.public.name == "factory"
    assert stat.S_IMODE(private_path.stat().st_mode) == 0o600
    assert private.public.key_id.hex() in public_path.read_text()
    with pytest.raises(KeyFileError, match=r"wrong password|has no password"):
        load_private_key(private_path, "another")
    if password is not None:
        with pytest.raises(KeyFileError, match="is encrypted: give its password"):
            load_private_key(private_path)


def test_the_public_file_is_plain_pem_for_others(tmp_path: Path) -> None:
    _, public_path = write_key_pair(tmp_path, "factory")
    theirs = load_pem_public_key(public_path.read_bytes())
    raw = theirs.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert raw == load_public_key(public_path).raw


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    paths = write_key_pair(tmp_path, "factory")
    before = [path.read_bytes() for path in paths]
    with pytest.raises(KeyFileError, match="never overwritten"):
        write_key_pair(tmp_path, "factory")
    assert [path.read_bytes() for path in paths] == before
    paths[0].unlink()
    with pytest.raises(KeyFileError, match="never overwritten"):
        write_key_pair(tmp_path, "factory")
    assert not paths[0].exists()


def test_a_dangling_link_in_the_keys_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "factory.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="never overwritten"):
        write_key_pair(tmp_path, "factory")
    assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "other.pub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError, match="never overwritten"):
        write_key_pair(tmp_path, "other")
    assert not (tmp_path / "other.key").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        write_key_pair(tmp_path / "nowhere", "factory")


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "-flag", "a" * 65, "a\nb", "a b"])
def test_a_name_that_is_no_file_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="key name"):
        write_key_pair(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("password", ["", "x" * 1024])
def test_a_password_that_cannot_be_used_is_refused(password: str, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="password cannot be used"):
        write_key_pair(tmp_path, "factory", password)
    assert list(tmp_path.iterdir()) == []


def test_a_password_of_bytes_that_are_no_utf_8_works(tmp_path: Path) -> None:
    words = ("--out", str(tmp_path), "--password-env", "PW")
    assert lineside("keys", "new", "factory", *words, PW="\udcff\udcfe").returncode == 0
    private_path = tmp_path / "factory.key"
    assert load_private_key(private_path, "\udcff\udcfe").public.name == "factory"


def test_a_private_key_does_not_show_itself() -> None:
    shown = repr(PrivateKey(bytes.fromhex(RFC_SECRET)))
    assert RFC_SECRET not in shown
    assert "PrivateKey(id " in shown


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(KeyFileError, match="32 bytes"):
        PrivateKey(bytes(length))


@pytest.mark.parametrize("kind", ["ec", "ed448"])
def test_keys_of_another_kind_are_refused(kind: str, tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else None
    key = other or ed448.Ed448PrivateKey.generate()
    (tmp_path / "x.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "x.pub").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(KeyFileError, match="not an Ed25519 key"):
        load_private_key(tmp_path / "x.key")
    with pytest.raises(KeyFileError, match="not an Ed25519 key"):
        load_public_key(tmp_path / "x.pub")


def test_a_private_key_is_no_trust(tmp_path: Path) -> None:
    private_path, public_path = write_key_pair(tmp_path, "factory")
    with pytest.raises(KeyFileError, match="holds a private key"):
        load_trust(private_path)
    with pytest.raises(
        KeyFileError, match=r"is the public half.*private key is needed.*give the \.key file"
    ):
        load_private_key(public_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_key_files_are_refused_or_whole(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    good = keys_module.encode_public_key(PublicKey(raw=bytes.fromhex(RFC_PUBLIC), name="a"))
    bad = bytearray(data.draw(st.sampled_from([good, b""])))
    at = data.draw(st.integers(0, len(bad)))
    bad[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    (folder / "a.pub").write_bytes(bad)
    try:
        found = load_public_key(folder / "a.pub")
    except KeyFileError as error:
        assert "a.pub" in str(error)
    else:
        assert len(found.raw) == 32


# --- trust --------------------------------------------------------------------------------------


def test_a_folder_of_keys_is_trusted_whole(tmp_path: Path) -> None:
    _, first = write_key_pair(tmp_path, "first")
    _, second = write_key_pair(tmp_path, "second")
    (tmp_path / "notes.txt").write_text("not a key")
    trusted = load_trust(tmp_path)
    assert trusted.keys == (load_public_key(first), load_public_key(second))
    assert load_trust([first, tmp_path, str(second)]) == trusted
    assert trusted.find(load_public_key(second).key_id) == load_public_key(second)
    assert trusted.find(bytes(16)) is None


def test_one_bad_key_in_the_folder_is_named(tmp_path: Path) -> None:
    write_key_pair(tmp_path, "good")
    (tmp_path / "torn.pub").write_bytes(b"-----BEGIN PUBLIC KEY-----\nMCow")
    with pytest.raises(KeyFileError, match=r"torn\.pub: not a public key"):
        load_trust(tmp_path)


def test_where_no_key_is_the_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"holds no \*\.pub"):
        load_trust(tmp_path)
    with pytest.raises(KeyFileError, match=r"missing\.pub: No such file"):
        load_trust(tmp_path / "missing.pub")
    (tmp_path / "folder.pub").mkdir()
    with pytest.raises(KeyFileError, match=r"folder\.pub: Is a directory"):
        load_trust(tmp_path)


def test_a_file_too_large_for_a_key_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "big.pub").write_bytes(bytes(70_000))
    with pytest.raises(KeyFileError, match="more than 65536 bytes"):
        load_trust(tmp_path / "big.pub")


@pytest.mark.timeout(20)
def test_a_pipe_in_a_key_s_place_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pub")
    with pytest.raises(KeyFileError, match="not a file"):
        load_trust(tmp_path / "pipe.pub")
    with pytest.raises(KeyFileError, match="not a file"):
        load_private_key(tmp_path / "pipe.pub")


def test_a_place_that_the_system_will_not_look_at_is_named() -> None:
    # As under a folder that may not be entered, which root, who runs tests in containers, may.
    with pytest.raises(KeyFileError, match="File name too long"):
        load_trust("x" * 5000)


# --- completeness -------------------------------------------------------------------------------

# None of these can come from loading or checking Ed25519 keys: they belong to streaming hashes,
# ciphers and message authentication codes, which are not used here.
NOT_OURS: Final = {
    "AlreadyFinalized",
    "AlreadyUpdated",
    "InvalidKey",
    "InvalidTag",
    "NotYetFinalized",
}


def test_every_exception_of_cryptography_is_mapped_or_cannot_come() -> None:
    known = {
        name
        for name, kind in inspect.getmembers(vendor, inspect.isclass)
        if issubclass(kind, Exception)
    }
    mapped = {kind.__name__ for kind in keys_module._LOAD_ERRORS} | {"InvalidSignature"}
    assert known <= mapped | NOT_OURS


# --- the command line ---------------------------------------------------------------------------


def lineside(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = Path(get_path("scripts")) / "lineside"
    return subprocess.run([program, *words], capture_output=True, text=True, env=environment)


def test_keys_new_and_show(tmp_path: Path) -> None:
    made = lineside("keys", "new", "factory", "--out", str(tmp_path / "deep" / "er"), "--json")
    assert (made.returncode, made.stderr) == (0, "")
    found = json.loads(made.stdout)
    key = load_private_key(found["private_file"]).public
    assert found["key_id"] == key.key_id.hex()
    for file in (found["private_file"], found["file"]):
        shown = lineside("keys", "show", file)
        assert shown.returncode == 0
        assert key.key_id.hex() in shown.stdout
        assert key.raw.hex() in shown.stdout
    again = lineside("keys", "new", "factory", "--out", str(tmp_path / "deep" / "er"))
    assert again.returncode == 5
    assert again.stderr.startswith("lineside: ")
    assert "Traceback" not in again.stderr


def test_keys_with_a_password_from_the_environment(tmp_path: Path) -> None:
    words = ("--out", str(tmp_path), "--password-env", "PW")
    assert lineside("keys", "new", "factory", *words, PW="secret").returncode == 0
    path = str(tmp_path / "factory.key")
    assert lineside("keys", "show", path).returncode == 5
    assert lineside("keys", "show", path, "--password-env", "PW").returncode == 4
    assert lineside("keys", "show", path, "--password-env", "PW", PW="other").returncode == 5
    assert lineside("keys", "show", path, "--password-env", "PW", PW="secret").returncode == 0


def test_keys_with_a_password_that_is_asked_for(tmp_path: Path) -> None:
    runner = CliRunner()
    words = ["new", "factory", "--out", str(tmp_path), "--ask-password"]
    assert runner.invoke(keys, words, input="secret\nsecret\n").exit_code == 0
    path = str(tmp_path / "factory.key")
    assert runner.invoke(keys, ["show", path, "--ask-password"], input="secret\n").exit_code == 0
    refused = runner.invoke(keys, ["show", path, "--ask-password"], input="other\n")
    assert isinstance(refused.exception, KeyFileError)
