"""`lineside bundle`: thin copies, other seals, and the walk from one key to the next."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from bundle_vectors import KEY, VECTOR, VECTORS, full
from click.testing import CliRunner, Result

from lineside.bundle import load_trust, open_bundle, write_key_pair
from lineside.bundle.keys import encode_public_key
from lineside.cli.bundle import bundle
from lineside.cli.keys import keys
from lineside.errors import (
    BundleError,
    ConfigurationError,
    KeyFileError,
    PartHashError,
    RevokedKeyError,
    StorageError,
    UntrustedBundleError,
)

PUBLIC = VECTORS / "factory.pub"


@pytest.fixture
def joint(tmp_path: Path) -> Path:
    path = tmp_path / "joint.lsb"
    path.write_bytes(full())
    return path


def run(*words: str | Path, trust: Path = PUBLIC) -> Result:
    return CliRunner().invoke(bundle, [*map(str, words), "--trust", str(trust)])


def test_a_thin_copy_has_the_same_seal_and_says_what_it_saved(joint: Path) -> None:
    done = run("thin", joint, "--engine", "onnxruntime")
    assert done.exit_code == 0
    thin = joint.with_name("joint-onnxruntime.lsb")
    assert thin.read_bytes() == (VECTORS / "thin-onnxruntime.bin").read_bytes()
    saved = len(full()) - thin.stat().st_size
    assert f"{saved:,} bytes, {saved / len(full()):.0%} of" in done.output
    assert "openvino/model.xml, openvino/model.bin" in done.output
    with open_bundle(joint, trust=PUBLIC) as whole, open_bundle(thin, trust=PUBLIC) as copy:
        assert whole.hash == copy.hash
        assert whole.model_id in done.output


def test_a_thin_copy_in_json(joint: Path, tmp_path: Path) -> None:
    done = run("thin", joint, "--engine", "openvino", "--out", tmp_path / "t.lsb", "--json")
    found = json.loads(done.output)
    assert found["parts_left_out"] == ["onnxruntime/model.onnx"]
    assert found["hash"] == found["of"]["hash"]
    assert found["size_bytes"] == (tmp_path / "t.lsb").stat().st_size
    again = run("thin", tmp_path / "t.lsb", "--engine", "openvino", "--out", tmp_path / "u.lsb")
    assert "holds nothing that could be left out" in again.output
    assert (tmp_path / "t.lsb").read_bytes() == (tmp_path / "u.lsb").read_bytes()


def test_what_is_there_is_replaced_on_purpose_only(joint: Path, tmp_path: Path) -> None:
    out = tmp_path / "joint-openvino.lsb"
    out.write_text("something else")
    refused = run("thin", joint, "--engine", "openvino")
    assert refused.exit_code == 2
    assert "is there already" in refused.output
    assert out.read_text() == "something else"
    assert run("thin", joint, "--engine", "openvino", "--replace").exit_code == 0
    assert out.read_bytes() == (VECTORS / "thin-openvino.bin").read_bytes()


@pytest.mark.parametrize("name", ["joint.lsb", "link.lsb", "hard.lsb"])
def test_a_bundle_is_never_thinned_in_its_own_place(name: str, joint: Path) -> None:
    joint.with_name("link.lsb").symlink_to(joint)
    joint.with_name("hard.lsb").hardlink_to(joint)
    words = ("--out", joint.with_name(name), "--replace")
    for done in (
        run("thin", joint, "--engine", "openvino", *words),
        run("reseal", joint, "--key", "x.key", *words),
    ):
        assert done.exit_code == 2
        assert "is the bundle itself" in done.output
    assert joint.read_bytes() == full()


def test_what_cannot_be_thinned_leaves_nothing(joint: Path, tmp_path: Path) -> None:
    (tmp_path / "thin.lsb").write_bytes((VECTORS / "thin-onnxruntime.bin").read_bytes())
    lacking = run("thin", tmp_path / "thin.lsb", "--engine", "openvino", "--out", tmp_path / "x")
    assert isinstance(lacking.exception, BundleError)
    assert "but for onnxruntime" in str(lacking.exception)
    assert run("thin", joint, "--engine", "abacus").exit_code == 2
    assert run("thin", joint, "--engine", "openvino", "--out", tmp_path / "no" / "x").exit_code == 2
    stranger = run("thin", joint, "--engine", "openvino", trust=VECTORS / "stranger.pub")
    assert isinstance(stranger.exception, UntrustedBundleError)
    damaged = bytearray(full())
    damaged[4096] ^= 1
    joint.write_bytes(damaged)
    assert isinstance(run("thin", joint, "--engine", "openvino").exception, PartHashError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["joint.lsb", "thin.lsb"]


def test_a_copy_that_cannot_be_written_is_a_storage_fault(joint: Path) -> None:
    done = run("thin", joint, "--engine", "openvino", "--out", Path("/dev/full/x"))
    assert done.exit_code == 2
    taken = joint.with_name(f".t.lsb.{os.getpid()}.part")
    taken.mkdir()
    blocked = run("thin", joint, "--engine", "openvino", "--out", joint.with_name("t.lsb"))
    assert isinstance(blocked.exception, StorageError)


@pytest.mark.parametrize("source", ["full.bin", "thin-onnxruntime.bin", "minimal.bin"])
def test_resealing_changes_nothing_but_the_seal(source: str, tmp_path: Path) -> None:
    private_path, public_path = write_key_pair(tmp_path, "new", "secret")
    old = (VECTORS / source).read_bytes()
    words = ("reseal", VECTORS / source, "--key", private_path, "--out", tmp_path / "new.lsb")
    done = CliRunner(env={"PW": "secret"}).invoke(
        bundle, [*map(str, words), "--trust", str(PUBLIC), "--password-env", "PW"]
    )
    assert done.exit_code == 0, done.exception
    new = (tmp_path / "new.lsb").read_bytes()
    # Key id, signature and CRC.
    for start, stop in ((0, 8), (24, 32), (96, 124), (128, len(old))):
        assert new[start:stop] == old[start:stop]
    with open_bundle(tmp_path / "new.lsb", trust=public_path) as opened:
        assert opened.model_id in done.output
        assert opened.signer.name == "new"
    with pytest.raises(UntrustedBundleError):
        open_bundle(tmp_path / "new.lsb", trust=PUBLIC)
    shutil.copy(tmp_path / "new.lsb", tmp_path / "back.bin")
    back = ("reseal", tmp_path / "new.lsb", "--key", VECTORS / "none.key", "--json")
    refused = run(*back, "--out", tmp_path / "x.lsb", trust=public_path)
    assert "none.key" in str(refused.exception)
    assert not (tmp_path / "x.lsb").exists()


def test_a_key_is_exchanged_without_a_gap(joint: Path, tmp_path: Path) -> None:
    """docs/devices.md, "Keys on a device": at each step some bundle of the factory works."""
    device = tmp_path / "trust"
    device.mkdir()
    (device / "factory.pub").write_bytes(encode_public_key(KEY.public))
    private_path, public_path = write_key_pair(tmp_path, "factory-2027")
    new = tmp_path / "joint-2027.lsb"

    shutil.copy(public_path, device)
    open_bundle(joint, trust=device).close()
    done = run("reseal", joint, "--key", private_path, "--out", new, "--json", trust=device)
    assert json.loads(done.output)["signer"]["name"] == "factory-2027"
    for path in (joint, new):
        open_bundle(path, trust=device).close()
    words = ["revoke", str(device / "factory.pub"), "--trust", str(device)]
    assert CliRunner().invoke(keys, words).exit_code == 0

    with pytest.raises(RevokedKeyError):
        open_bundle(joint, trust=device)
    with open_bundle(new, trust=device) as opened:
        assert [bytes(opened.part(p)) for p in opened.present] == [
            bytes(part.data) for part in VECTOR.full_parts()
        ]
    assert [key.name for key in load_trust(device).valid] == ["factory-2027"]
    # What is sealed by the old key after it was stolen is refused, and cannot be sealed anew here.
    refused = run("reseal", joint, "--key", private_path, "--out", tmp_path / "x", trust=device)
    assert isinstance(refused.exception, RevokedKeyError)


def test_a_process_may_seal_anew(joint: Path, tmp_path: Path) -> None:
    """Through the entry point, as the command line finds it."""
    private_path, _ = write_key_pair(tmp_path, "token")
    tool = (
        "import sys; from lineside.bundle import load_private_key; "
        f"key = load_private_key({str(private_path)!r}); "
        "sys.stdout.buffer.write(key.sign(sys.stdin.buffer.read()))"
    )
    (tmp_path / "token.toml").write_text(
        f'public = "token.pub"\ncommand = {json.dumps([sys.executable, "-c", tool])}\n'
    )
    key = f"process:{tmp_path / 'token.toml'}"
    done = run("reseal", joint, "--key", key, "--out", tmp_path / "new.lsb")
    assert done.exit_code == 0, done.exception
    open_bundle(tmp_path / "new.lsb", trust=tmp_path / "token.pub").close()


ORDER = ("--reason", "lot 17 is darker", "--by", "J. Doe", "--date", "2026-11-21")


@pytest.fixture
def factory_key(tmp_path: Path) -> Path:
    folder = tmp_path / "factory"
    folder.mkdir()
    return write_key_pair(folder, "factory")[0]


def test_an_override_is_signed_told_and_in_json(joint: Path, factory_key: Path) -> None:
    out = joint.with_name("joint.override")
    words = (*ORDER, "--key", factory_key, "--out", out)
    done = run("override", joint, "--ok", "0.22", *words)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "ok_limit 0.22 instead of the sealed 0.2" in done.output
    assert "override by J. Doe, 2026-11-21, signed by key" in done.output
    before = out.read_bytes()
    again = run("override", joint, "--ok", "0.22", *words)
    assert again.exit_code == 2
    assert "is there already" in again.output
    found = json.loads(run("override", joint, "--ok", "0.22", *words, "--replace", "--json").output)
    assert found["terms"]["rule"]["ok_limit"] == 0.22
    assert found["terms"]["rule"]["not_ok_limit"] == found["sealed"]["not_ok_limit"] == 0.25
    assert found["of"]["hash"] == found["terms"]["bundle"]
    assert found["keeps_promise"] is False  # the vector promises something up to 0.2
    assert "the bundle's promise on escapes does not hold" in done.output
    assert out.read_bytes() == before  # the same order, the same bytes


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ((), None),
        (("--ok", "0.3"), ConfigurationError),
        (("--ok", "nan"), ConfigurationError),
        (("--ok", "0.1", "--not-ok", "inf"), ConfigurationError),
        (("--ok", "0.22", "--reason", ""), ConfigurationError),
        (("--ok", "0.22", "--by", "two\nlines"), ConfigurationError),
        (("--ok", "0.22", "--date", "2026-02-30"), None),
        (("--ok", "0.22", "--key", "none.key"), KeyFileError),
    ],
)
def test_an_override_that_says_nothing_usable_is_not_written(
    joint: Path, factory_key: Path, changed: tuple[str, ...], kind: type[Exception] | None
) -> None:
    out = joint.with_name("joint.override")
    done = run("override", joint, *ORDER, "--key", factory_key, "--out", out, *changed)
    assert not out.exists()
    if kind is None:
        assert done.exit_code == 2, done.output
    else:
        assert isinstance(done.exception, kind), done.output


def test_an_override_never_takes_the_bundle_s_place(joint: Path, factory_key: Path) -> None:
    words = ("--key", factory_key, "--out", joint, "--replace")
    done = run("override", joint, "--ok", "0.22", *ORDER, *words)
    assert done.exit_code == 2
    assert joint.read_bytes() == full()
