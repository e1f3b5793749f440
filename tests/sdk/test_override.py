"""A signed override: what a trusted key allowed for this bundle, and nothing else on earth."""

from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path

import msgspec
import pytest
from bundle_vectors import KEY, TRUSTED, VECTOR, VECTORS, minimal
from hypothesis import given
from hypothesis import strategies as st

from lineside.bundle import Bundle, Override, TrustedKeys, open_bundle, read_override, seal_override
from lineside.bundle.layout import pack_signed_header
from lineside.bundle.override import HEADER_BYTES, MAX_OVERRIDE_BYTES, check_override
from lineside.contract import LimitRule
from lineside.errors import BundleError, ConfigurationError, OverrideError, StorageError

DOCUMENT = Path(__file__).parents[2] / "docs" / "bundle-format.md"
LOOSER = LimitRule(ok_limit=0.25, not_ok_limit=0.3)
TOLD = {"reason": "lot 17 is darker, see 8D-204", "by": "J. Döe", "date": "2026-11-21"}


@pytest.fixture
def joint(tmp_path: Path) -> Bundle:
    path = tmp_path / "joint.lsb"
    path.write_bytes(minimal())
    with open_bundle(path, trust=TRUSTED) as opened:
        yield opened


@pytest.fixture
def signed(joint: Bundle, tmp_path: Path) -> bytes:
    seal_override(tmp_path / "joint.override", bundle=joint, rule=LOOSER, key=KEY, **TOLD)
    return (tmp_path / "joint.override").read_bytes()


def check(data: bytes, joint: Bundle, trusted: TrustedKeys = TRUSTED) -> Override:
    return check_override(data, bundle_hash=joint.hash, trusted=trusted)


def refusal(data: bytes, joint: Bundle, trusted: TrustedKeys = TRUSTED) -> str:
    """Why it is refused, as the station hears it."""
    file = joint.path.with_name("bad.override")
    file.write_bytes(data)
    with pytest.raises(OverrideError) as caught:
        read_override(file, bundle=joint, trusted=trusted)
    assert caught.value.file == file
    told = str(caught.value)
    assert told.startswith(f"{file}: ")
    assert told.isprintable()
    return told


def forge(
    terms: bytes,
    *,
    key: object = KEY,
    magic: bytes = b"LSO1",
    form: int = 1,
    header_bytes: int = HEADER_BYTES,
    reserved: int = 0,
) -> bytes:
    """A file with a sound signature over what need not be sound."""
    key_id = key.public.key_id  # type: ignore[attr-defined]
    header = struct.pack("<4sHH16sII", magic, form, header_bytes, key_id, len(terms), reserved)
    return header + key.sign(header + terms) + terms  # type: ignore[attr-defined]


def terms_of(joint: Bundle, **changed: object) -> bytes:
    rule = {"ok_limit": 0.25, "not_ok_limit": 0.3, "worse": "higher", "unit": "1"}
    fields = {"format": 1, "bundle": joint.hash, "rule": rule, **TOLD, **changed}
    kept = {name: value for name, value in fields.items() if value is not None}
    return msgspec.json.encode(kept, order="sorted")


def test_what_was_signed_comes_back(joint: Bundle, signed: bytes) -> None:
    found = check(signed, joint)
    assert found.terms.rule == LOOSER
    assert (found.terms.reason, found.terms.by, found.terms.date) == tuple(TOLD.values())
    assert found.signer == KEY.public
    assert signed == forge(terms_of(joint))  # so that the forgeries below are refused for a reason


@given(
    ok=st.floats(allow_nan=False, allow_infinity=False),
    gap=st.floats(0, 1e300),
    by=st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=200),
)
def test_any_limits_and_names_come_back(
    ok: float, gap: float, by: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("any") / "x.override"
    with open_bundle(VECTORS / "minimal.bin", trust=TRUSTED) as joint:
        try:
            rule = LimitRule(ok_limit=ok, not_ok_limit=ok + gap)
            seal_override(file, bundle=joint, rule=rule, key=KEY, **{**TOLD, "by": by})
        except ConfigurationError:
            assert not ok + gap < float("inf")
            return
        found = read_override(file, bundle=joint, trusted=TRUSTED)
    assert (found.terms.rule, found.terms.by) == (rule, by)


def test_every_bit_counts(joint: Bundle, signed: bytes) -> None:
    data = bytearray(signed)
    for offset, bit in itertools.product(range(len(data)), range(8)):
        data[offset] ^= 1 << bit
        with pytest.raises(ValueError):
            check(bytes(data), joint)
        data[offset] ^= 1 << bit
    check(bytes(data), joint)


def test_every_other_length_is_refused(joint: Bundle, signed: bytes) -> None:
    for length in range(len(signed)):
        refusal(signed[:length], joint)
    for more in (b"\0", b" ", signed, bytes(MAX_OVERRIDE_BYTES), bytes(2**20)):
        refusal(signed + more, joint)


def test_only_a_key_that_counts_here_may_sign(joint: Bundle, signed: bytes) -> None:
    stranger = forge(terms_of(joint), key=VECTOR.STRANGER)
    assert "is not trusted here; trusted are: 21fe31df" in refusal(stranger, joint)
    # Under the factory's name.
    posing = stranger[:8] + signed[8:24] + stranger[24:]
    assert "does not hold" in refusal(posing, joint)
    revoked = TrustedKeys(keys=TRUSTED.keys, revoked=frozenset([KEY.public.key_id]))
    assert "was revoked on this machine" in refusal(signed, joint, revoked)
    check(stranger, joint, TrustedKeys(keys=(VECTOR.STRANGER.public,)))


def test_it_is_for_one_bundle_and_its_thin_copies(joint: Bundle, signed: bytes) -> None:
    told = refusal(forge(terms_of(joint, bundle="ab" * 32)), joint)
    assert "ab" * 32 in told
    assert joint.hash in told
    with open_bundle(VECTORS / "full.bin", trust=TRUSTED) as other:
        with pytest.raises(ValueError, match="it is for the bundle"):
            check(signed, other)
        allowed = forge(terms_of(other))
    with open_bundle(VECTORS / "thin-openvino.bin", trust=TRUSTED) as thin:
        assert check(allowed, thin).terms.rule == LOOSER


def test_no_signature_of_a_bundle_passes_for_one_of_an_override(
    joint: Bundle, signed: bytes
) -> None:
    terms = terms_of(joint)
    as_bundle = pack_signed_header(key_id=KEY.public.key_id, manifest_bytes=len(terms)) + terms
    assert "does not hold" in refusal(signed[:32] + KEY.sign(as_bundle) + terms, joint)
    sealed = minimal()
    end = 128 + struct.unpack_from("<I", sealed, 24)[0]
    worn = b"LSO1" + sealed[4:6] + struct.pack("<H", 96) + sealed[8:96] + sealed[128:end]
    assert "does not hold" in refusal(worn, joint)
    assert "is none" in refusal(sealed[:2000], joint)
    # Nor the other way round.
    disguised = joint.path.with_name("disguised.lsb")
    disguised.write_bytes(signed)
    with pytest.raises(BundleError, match="not a bundle"):
        open_bundle(disguised, trust=TRUSTED)


@pytest.mark.parametrize(
    "changed",
    [
        {"format": 2},
        {"bundle": "AB" * 32},
        {"reason": ""},
        {"reason": "x" * 201},
        {"reason": "two\nlines"},
        {"by": "\x1b[2J"},
        {"by": "a\u202eb"},
        {"date": "21.11.2026"},
        {"date": None},
        {"rule": {"ok_limit": 0.3, "not_ok_limit": 0.25, "worse": "higher", "unit": "1"}},
        {"rule": {"ok_limit": 0.2, "not_ok_limit": 0.25}},
        {"rule": {"ok_limit": None, "not_ok_limit": 0.25, "worse": "higher", "unit": "1"}},
        {"until": "2027-01-01"},
    ],
)
def test_terms_that_are_not_as_format_1_says_are_refused(
    joint: Bundle, changed: dict[str, object]
) -> None:
    refusal(forge(terms_of(joint, **changed)), joint)


def test_signed_nonsense_is_refused(joint: Bundle) -> None:
    terms = terms_of(joint)
    for wrong in (
        b"",
        b"[]",
        b"\xff",
        b"[" * 3000,
        terms.replace(b"0.25", b"1e999"),
        terms[:-1] + b',"by":"me"}',
        terms + terms,
    ):
        refusal(forge(wrong), joint)
    assert "update the runtime" in refusal(forge(terms, form=2), joint)
    assert "does not begin with LSO1" in refusal(forge(terms, magic=b"LSB1"), joint)
    for wrong_header in ({"header_bytes": 128}, {"reserved": 1}):
        told = refusal(forge(terms, **wrong_header), joint)  # type: ignore[arg-type]
        assert "not as format 1 says" in told


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_at_once(joint: Bundle, tmp_path: Path) -> None:
    pipe, giant = tmp_path / "pipe", tmp_path / "giant"
    os.mkfifo(pipe)
    giant.touch()
    os.truncate(giant, 2**40)  # a hole: it takes no room on the disk
    for file in (pipe, giant, tmp_path, tmp_path / "none", Path("a\0b")):
        with pytest.raises(OverrideError):
            read_override(file, bundle=joint, trusted=TRUSTED)


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": ""},
        {"by": "two\nlines"},
        {"by": "\udcff"},
        {"date": "today"},
        {"rule": LimitRule(ok_limit=0.25, not_ok_limit=float("inf"))},
        {"rule": LimitRule(ok_limit=0.25, not_ok_limit=0.3, unit="x" * MAX_OVERRIDE_BYTES)},
    ],
)
def test_what_no_reader_would_take_is_not_signed(
    joint: Bundle, tmp_path: Path, changed: dict[str, object]
) -> None:
    order = {"rule": LOOSER, **TOLD, **changed}
    with pytest.raises(ConfigurationError):
        seal_override(tmp_path / "x", bundle=joint, key=KEY, **order)  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_the_longest_texts_fit(joint: Bundle, tmp_path: Path) -> None:
    wide = {**TOLD, "reason": "\U00020000" * 200, "by": '"' * 200}
    seal_override(tmp_path / "x", bundle=joint, rule=LOOSER, key=KEY, **wide)
    found = read_override(tmp_path / "x", bundle=joint, trusted=TRUSTED)
    assert found.terms.reason == wide["reason"]


def test_an_override_that_cannot_be_written_leaves_the_old_one(
    joint: Bundle, signed: bytes, tmp_path: Path
) -> None:
    with pytest.raises(StorageError):
        seal_override(Path("/proc/x"), bundle=joint, rule=LOOSER, key=KEY, **TOLD)
    assert (tmp_path / "joint.override").read_bytes() == signed


def test_the_example_of_the_document_is_real(signed: bytes) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    header = signed[:HEADER_BYTES].hex()
    for line in (header[:64], header[64:128], header[128:], signed[HEADER_BYTES:].decode()):
        assert line in text
