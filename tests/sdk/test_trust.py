"""Trust: several keys at once, rotation, and revocation that nothing on the device undoes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from bundle_vectors import KEY, VECTOR, minimal_manifest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lineside.bundle import (
    load_private_key,
    load_public_key,
    load_trust,
    open_bundle,
    revoke_key,
    seal_bundle,
    write_key_pair,
)
from lineside.bundle.keys import encode_public_key
from lineside.bundle.trust import load_revocation
from lineside.cli.keys import keys
from lineside.doctor.permissions import check_trust
from lineside.errors import KeyFileError, RevokedKeyError, StorageError, UntrustedBundleError

FACTORY_ID: Final = KEY.public.key_id.hex()


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """By the factory's key, which is known to everybody."""
    path = tmp_path / "joint.lsb"
    seal_bundle(path, manifest=minimal_manifest(), parts=VECTOR.minimal_parts(), key=KEY)
    return path


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A trust folder with the factory's key and a spare one."""
    folder = tmp_path / "trust"
    folder.mkdir()
    (folder / "factory.pub").write_bytes(encode_public_key(KEY.public))
    write_key_pair(tmp_path, "spare")
    (tmp_path / "spare.pub").rename(folder / "spare.pub")
    return folder


def test_a_revoked_key_is_refused_though_it_is_still_there(sealed: Path, device: Path) -> None:
    open_bundle(sealed, trust=device).close()
    path = revoke_key(device, KEY.public)
    assert path.name == f"{FACTORY_ID}.revoked"
    with pytest.raises(RevokedKeyError, match=r"was revoked on this machine.*\(spare\)") as caught:
        open_bundle(sealed, trust=device)
    assert caught.value.key_id == FACTORY_ID
    assert "(factory)" not in str(caught.value)
    trusted = load_trust(device)
    assert [key.name for key in trusted.keys] == ["factory", "spare"]
    assert [key.name for key in trusted.valid] == ["spare"]
    assert trusted.find(KEY.public.key_id) is None


def test_a_revocation_is_not_lost_where_a_disk_gave_it_capitals(sealed: Path, device: Path) -> None:
    path = revoke_key(device, KEY.public)
    path = path.rename(path.with_suffix(".REVOKED"))
    for trust in (device, device / "factory.pub", [device / "factory.pub", path]):
        with pytest.raises(RevokedKeyError):
            open_bundle(sealed, trust=trust)
    path.rename(device / path.name.upper())
    with pytest.raises(KeyFileError, match="a damaged revocation"):
        open_bundle(sealed, trust=device)


def test_revocation_reaches_a_key_that_is_named_alone(sealed: Path, device: Path) -> None:
    revoke_key(device, KEY.public)
    with pytest.raises(RevokedKeyError):
        open_bundle(sealed, trust=device / "factory.pub")


def test_revocation_in_one_place_holds_in_all(sealed: Path, device: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    path = revoke_key(elsewhere, KEY.public.key_id)
    for trust in ([device, elsewhere], [elsewhere, device], [device, path]):
        with pytest.raises(RevokedKeyError):
            open_bundle(sealed, trust=trust)
    # A key that was never here is refused as revoked too, which says more than unknown.
    (device / "factory.pub").unlink()
    with pytest.raises(RevokedKeyError):
        open_bundle(sealed, trust=[device, path])
    with pytest.raises(UntrustedBundleError):
        open_bundle(sealed, trust=device)


def test_a_second_name_does_not_bring_a_key_back(sealed: Path, device: Path) -> None:
    revoke_key(device, KEY.public)
    (device / "another-name.pub").write_bytes((device / "factory.pub").read_bytes())
    with pytest.raises(RevokedKeyError):
        open_bundle(sealed, trust=device)


def test_where_all_are_revoked_nothing_is_taken(sealed: Path, device: Path) -> None:
    for file in device.glob("*.pub"):
        revoke_key(device, load_public_key(file))
    with pytest.raises(RevokedKeyError, match="trusted here: none"):
        open_bundle(sealed, trust=device)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"# only a comment\n",
        FACTORY_ID.encode(),
        FACTORY_ID[:-1].encode() + b"\n",
        FACTORY_ID.upper().encode() + b"\n",
        f" {FACTORY_ID}\n".encode(),
        f"{FACTORY_ID}\n{FACTORY_ID}\n".encode(),
        f"{FACTORY_ID}\nmore\n".encode(),
        b"\0" * 33,
        b"\xff\xfe" + FACTORY_ID.encode() + b"\n",
        b"#" * 70_000,
    ],
)
def test_a_damaged_revocation_refuses_everything(data: bytes, sealed: Path, device: Path) -> None:
    """Nobody knows which key it meant, so none counts: also the one that it is named for."""
    spare = device.parent / "by-spare.lsb"
    key = load_private_key(device.parent / "spare.key")
    seal_bundle(spare, manifest=minimal_manifest(), parts=VECTOR.minimal_parts(), key=key)
    open_bundle(spare, trust=device).close()
    (device / f"{FACTORY_ID}.revoked").write_bytes(data)
    for bundle in (sealed, spare):
        with pytest.raises(KeyFileError, match=rf"{FACTORY_ID}\.revoked"):
            open_bundle(bundle, trust=device)


@given(data=st.data())
def test_no_torn_or_changed_revocation_reads_as_another_key(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("trust")
    path = revoke_key(folder, KEY.public)
    good = path.read_bytes()
    bad = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 2))):
        if bad:
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bad)
    try:
        assert load_revocation(path) == KEY.public.key_id
    except KeyFileError as error:
        assert str(path) in str(error)
    else:
        assert FACTORY_ID.encode() in bad


def test_a_revocation_written_by_hand_counts(sealed: Path, device: Path) -> None:
    for text in (f"{FACTORY_ID}\n", f"# stolen\r\n{FACTORY_ID}\r\n# in Linz\r\n"):
        (device / f"{FACTORY_ID}.revoked").write_text(text, newline="")
        with pytest.raises(RevokedKeyError):
            open_bundle(sealed, trust=device)


def test_a_revocation_under_a_wrong_name_is_damaged(device: Path) -> None:
    path = revoke_key(device, KEY.public)
    path.rename(device / "factory.revoked")
    with pytest.raises(KeyFileError, match=r"factory\.revoked: a damaged revocation"):
        load_trust(device)
    (device / "factory.revoked").unlink()
    (device / f"{FACTORY_ID}.revoked").mkdir()
    with pytest.raises(KeyFileError, match="Is a directory"):
        load_trust(device)


def test_a_folder_of_revocations_alone_trusts_nobody(device: Path, tmp_path: Path) -> None:
    (tmp_path / "stash").mkdir()
    revoke_key(tmp_path / "stash", KEY.public)
    with pytest.raises(KeyFileError, match=r"holds no \*\.pub"):
        load_trust(tmp_path / "stash")
    (tmp_path / "empty").mkdir()
    with pytest.raises(KeyFileError, match=r"empty: holds no \*\.pub"):
        load_trust([device, tmp_path / "empty"])


def test_a_place_where_nothing_can_be_revoked_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="nowhere: no such folder"):
        revoke_key(tmp_path / "nowhere", KEY.public)
    target = tmp_path / f"{FACTORY_ID}.revoked"
    target.mkdir()
    (target / "in-the-way").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        revoke_key(tmp_path, KEY.public)


# --- the command line ---------------------------------------------------------------------------


def test_keys_revoke_and_list(device: Path) -> None:
    runner = CliRunner()
    words = ["revoke", str(device / "factory.pub"), "--trust", str(device)]
    done = runner.invoke(keys, words, catch_exceptions=False)
    assert f"{FACTORY_ID}.revoked" in done.output
    assert "still trusted" in done.output
    assert "(spare)" in done.output
    before = (device / f"{FACTORY_ID}.revoked").read_bytes()
    by_id = ["revoke", FACTORY_ID, "--trust", str(device), "--json"]
    found = json.loads(runner.invoke(keys, by_id, catch_exceptions=False).output)
    spare = load_public_key(device / "spare.pub")
    assert (found["key_id"], found["trusted"]) == (FACTORY_ID, [spare.key_id.hex()])
    assert before.endswith((device / f"{FACTORY_ID}.revoked").read_bytes())
    shown = runner.invoke(keys, ["list", str(device)], catch_exceptions=False).output
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["revoked", "trusted"]
    (device / "factory.pub").unlink()
    listed = runner.invoke(keys, ["list", str(device), "--json"], catch_exceptions=False).output
    assert json.loads(listed) == [
        {"state": "trusted", "key_id": spare.key_id.hex(), "name": "spare"},
        {"state": "revoked", "key_id": FACTORY_ID, "name": ""},
    ]


def test_keys_are_revoked_in_a_folder_without_any(tmp_path: Path) -> None:
    done = CliRunner().invoke(keys, ["revoke", FACTORY_ID, "--trust", str(tmp_path)])
    assert done.exit_code == 0
    assert f"still trusted in {tmp_path}: none" in done.output
    refused = CliRunner().invoke(keys, ["revoke", "abc.pub", "--trust", str(tmp_path)])
    assert isinstance(refused.exception, KeyFileError)


def verify(bundle: Path, *words: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from lineside.cli.main import main; main()", "verify"]
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("LINESIDE_TRUST", None)
    return subprocess.run(
        [*command, bundle, "--engine", "none", *map(str, words)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_what_this_machine_revoked_holds_whatever_trust_is_given(
    sealed: Path, device: Path, tmp_path: Path
) -> None:
    public = tmp_path / "factory.pub"
    public.write_bytes((device / "factory.pub").read_bytes())
    machine = tmp_path / "home" / ".config" / "lineside" / "trust"
    machine.mkdir(parents=True)
    home = tmp_path / "home"
    assert verify(sealed, "--trust", public, home=home).returncode == 0
    revoke_key(machine, KEY.public)
    refused = verify(sealed, "--trust", public, home=home)
    assert refused.returncode == 5
    assert "was revoked on this machine" in refused.stderr
    # A folder that only revokes is no trust.
    assert verify(sealed, home=home).returncode == 4


def test_doctor_tells_what_was_revoked(device: Path) -> None:
    path = revoke_key(device, KEY.public)
    assert f"revoked: {FACTORY_ID}" in check_trust([device]).found
    assert f"revoked: {FACTORY_ID}" in check_trust([device / "spare.pub", path]).found
