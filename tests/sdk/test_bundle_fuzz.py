"""20,000 mutated bundles, each refused with an error of ours, in time and in bounded memory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import bundle_fuzzer
import pytest
from bundle_damage import DAMAGE, GOOD, whole
from bundle_fuzzer import MAKERS, make_mutant
from bundle_lies import LIES, sealed
from bundle_vectors import TRUSTED
from msgspec import inspect

from lineside.bundle import Manifest
from lineside.bundle.checks import check_bundle
from lineside.errors import BundleFormatError

COUNT: Final = 20_000


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """In a process of its own, because the kernel bounds its memory."""
    command = [sys.executable, str(Path(bundle_fuzzer.__file__)), "--count", str(COUNT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_mutant_is_refused_with_an_error_of_ours_on_one_line(report: dict[str, Any]) -> None:
    assert report["wrong"] == []
    assert report["refused"] == COUNT


def test_no_mutant_takes_long(report: dict[str, Any]) -> None:
    # Measured: 0.01 to 0.03 s of CPU, for a manifest of 256 KiB. A hang ends the run after 5 s.
    took_s, kind = report["slowest_s"]
    assert took_s < 0.5, kind


def test_no_mutant_takes_memory(report: dict[str, Any]) -> None:
    # Measured: 6 MB. The kernel refuses more than `MEMORY_BYTES` of private memory meanwhile.
    assert report["grown_bytes"] < bundle_fuzzer.MEMORY_BYTES


def test_every_kind_has_its_share_and_lies_come_behind_the_signature(
    report: dict[str, Any],
) -> None:
    refusals: dict[str, dict[str, int]] = report["refusals"]
    assert set(refusals) == {maker.__name__ for maker in MAKERS}
    assert sum(refusals["giants"].values()) == COUNT // bundle_fuzzer.GIANT_SHARE
    for maker in (*DAMAGE, *LIES):
        assert sum(refusals[maker.__name__].values()) > 900
    # What is sealed by a trusted key must be refused for what it says.
    for maker in LIES:
        assert refusals[maker.__name__].keys() <= {
            *("BundleFormatError", "IncompatibleBundleError", "PartHashError"),
        }
    met = {kind for counts in refusals.values() for kind in counts}
    assert met == {
        *("BundleFormatError", "IncompatibleBundleError", "PartHashError"),
        *("SignatureError", "UntrustedBundleError"),
    }


def test_a_case_is_made_again_by_its_number() -> None:
    for number in range(200):
        assert make_mutant(1, number) == make_mutant(1, number)
    assert make_mutant(1, 7) != make_mutant(2, 7)


def test_the_fuzzer_sees_a_bundle_that_is_opened(tmp_path: Path) -> None:
    for number, data in enumerate(GOOD):
        assert bundle_fuzzer._judge(data, number, tmp_path / "x.lsb") == "! was opened"


@pytest.mark.parametrize("version", ["٠.١.٠", "０.１.０", "0.1.²"])
def test_digits_of_other_scripts_are_no_version(version: str) -> None:
    """Found by fuzzing: a reader in C would have refused what this one opened."""
    manifest, parts = whole()
    manifest["identity"]["minimum_runtime"] = version
    with pytest.raises(BundleFormatError, match="minimum_runtime"):
        check_bundle(
            memoryview(sealed(manifest, parts)),
            trusted=TRUSTED,
            source="x.lsb",
        )


def patterns(kind: object) -> Iterator[str]:
    """Of every string below a type of the manifest."""
    if isinstance(kind, inspect.StrType) and kind.pattern:
        yield kind.pattern
    below = getattr(kind, "__struct_fields__", ())
    for value in (getattr(kind, name) for name in below):
        for inner in value if isinstance(value, tuple) else (value,):
            inner = inner.type if isinstance(inner, inspect.Field) else inner
            if isinstance(inner, inspect.Type):
                yield from patterns(inner)


def test_no_pattern_of_the_manifest_takes_letters_of_every_script() -> None:
    """In Python \\d, \\w and \\s mean all of Unicode; in C they would not."""
    found = set(patterns(inspect.type_info(Manifest)))
    assert len(found) >= 4
    assert [pattern for pattern in sorted(found) if re.search(r"\\[dws]", pattern)] == []


def test_a_key_of_any_length_is_told_on_one_short_line() -> None:
    """Found by fuzzing: the refusal was as long as the manifest, and broke lines as it liked."""
    manifest, parts = whole()
    manifest["a\nlineside: all is well\x1b[2J" + "k" * 9000] = 1
    with pytest.raises(BundleFormatError, match="unknown field") as caught:
        check_bundle(
            memoryview(sealed(manifest, parts)),
            trusted=TRUSTED,
            source="x.lsb",
        )
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
