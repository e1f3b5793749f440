"""The bundle reader in C under sanitizers beside the one in Python: vectors, mutants, spellings."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from bundle_damage import DAMAGE, GOOD, manifest_end, mended, whole
from bundle_fuzzer import make_mutant
from bundle_lies import LIES, seal_text
from bundle_vectors import KEY, VECTORS
from c_reader import (
    PASSED_OVER,
    SOURCE,
    CReader,
    Told,
    compare,
    python_refusal,
    run_cmake,
    run_make,
)

import lineside
from lineside.bundle.layout import MAX_MANIFEST_BYTES
from lineside.bundle.manifest import MAX_PARTS

INDEX: Final = json.loads((VECTORS / "index.json").read_text())
MUTANTS: Final = 2500
SEED: Final = 11
RECORDED: Final = Path(__file__).parents[2] / "benchmarks/results/c_reader_size.json"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("c_reader")


@pytest.fixture(scope="module")
def reader(build: Path) -> CReader:
    return CReader(build)


def altered(row: dict[str, Any]) -> bytes:
    """A bad vector's bytes, as docs/bundle-format.md says how to make them."""
    data = bytearray((VECTORS / row["file"]).read_bytes())
    for edit in row["edits"]:
        change = bytes.fromhex(edit["bytes"])
        data[edit["at"] : edit["at"] + len(change)] = change
    if row["mend_crc"]:
        struct.pack_into("<I", data, 124, zlib.crc32(data[:124]))
    return bytes(data[: row["length"]]).ljust(row["length"], b"\0")


def seal(manifest: dict[str, Any], parts: list[bytes]) -> bytes:
    text = json.dumps(manifest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return seal_text(text.encode(), parts)


def test_it_takes_the_good_vectors_and_finds_their_parts(reader: CReader) -> None:
    rows = INDEX["good"]

    told = reader.judge((VECTORS / row["file"]).read_bytes() for row in rows)

    assert [said.refusal for said in told] == [""] * len(rows)
    for row, said in zip(rows, told, strict=True):
        assert said.fields["hash"] == [row["hash"]]
        assert said.fields["key"] == [KEY.public.raw.hex()]
        assert said.spans == {name: tuple(span) for name, span in row["present"].items()}


def test_it_refuses_the_bad_vectors_for_their_reason(reader: CReader) -> None:
    rows = INDEX["bad"]

    told = reader.judge(altered(row) for row in rows)

    differ = {
        row["file"]: said.refusal
        for row, said in zip(rows, told, strict=True)
        if said.refusal != row["expect"]
    }
    # Its rule is looser than its guarantee: of no matter to who judges nothing by it.
    assert differ == {"signed-unproven-rule.bin": ""}


def test_it_reads_the_identity_and_the_forms_of_the_model(reader: CReader) -> None:
    (said,) = reader.judge([GOOD[1]])

    assert {name: said.fields[name] for name in ("product", "version", "security_counter")} == {
        "product": ["led-joint"],
        "version": ["1.0.0"],
        "security_counter": ["3"],
    }
    assert said.fields["target"] == ["any"]
    assert said.fields["minimum_runtime"] == ["0.1.0"]
    assert said.fields["model"] == [
        "onnxruntime int8 onnxruntime/model.onnx f32 1",
        "openvino int8 openvino/model.xml f32 1",
    ]


def test_both_readers_refuse_the_same_mutants(reader: CReader) -> None:
    mutants = [make_mutant(SEED, number) for number in range(MUTANTS)]

    found = compare(reader, mutants)

    assert found.differ == []
    assert set(found.refusals) == {"format", "incompatible", "untrusted", "signature", "part"}
    # Only a trusted key can seal what is passed over; damage has no such excuse.
    assert found.passed_over.keys() <= {maker.__name__ for maker in LIES}
    assert 0 < found.passed_over.total() < MUTANTS / 10
    # What is no version at all is malformed here, and may be "newer" to the reader in Python.
    for difference in found.other_class:
        assert re.fullmatch(r"(giants|beyond_limits): incompatible, in C format", difference)
    assert found.other_class.total() < MUTANTS / 200


def test_damage_is_refused_for_the_same_reason(reader: CReader) -> None:
    random = Random(SEED)
    mutants = [(maker.__name__, maker(random)) for maker in DAMAGE for _ in range(40)]
    mutants = [(name, data) for name, data in mutants if data not in GOOD]

    found = compare(reader, mutants)

    assert (found.differ, dict(found.other_class), dict(found.passed_over)) == ([], {}, {})


def respelled(random: Random, value: Any) -> str:
    """The same value as JSON, as freely as RFC 8259 allows."""

    def space() -> str:
        return random.choice(("", "", "", " ", "\n", "\t\r\n "))

    if isinstance(value, dict):
        items = list(value.items())
        random.shuffle(items)
        rows = [f"{respelled(random, key)}{space()}:{respelled(random, v)}" for key, v in items]
        found = "{" + space() + ",".join(rows) + "}"
    elif isinstance(value, list):
        found = "[" + space() + ",".join(respelled(random, item) for item in value) + "]"
    elif isinstance(value, str):
        found = '"' + "".join(respelled_letter(random, letter) for letter in value) + '"'
    else:
        found = "-0" if value == 0 and isinstance(value, int) else json.dumps(value)
    return space() + found + space()


def respelled_letter(random: Random, letter: str) -> str:
    if letter in '"\\/' or letter < " ":
        return json.dumps(letter)[1:-1] if letter != "/" else random.choice(("/", r"\/"))
    if random.random() < 0.9:
        return letter
    units = letter.encode("utf-16-be")
    form = random.choice(("\\u%04x", "\\u%04X"))
    return "".join(form % int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))


STRICT: Final = (
    ('"licence":"', '"licence":"","licence":"'),
    ('"format":1', '"format":1,"format":1'),
    ('"target":"any"', '"target":"any","target":"any"'),
    ('"size_bytes":6}', '"size_bytes":6,"size_bytes":6}'),
    ('"inference_precision":"f32"', '"inference_precision":"f32","inference_precision":"f32"'),
    ('"size_bytes":6}', '"size_bytes":06}'),
    ('"size_bytes":6}', '"size_bytes":6.0}'),
    ('"size_bytes":6}', '"size_bytes":6e0}'),
    ('"size_bytes":6}', '"size_bytes":18446744073709551622}'),  # 2^64 + 6
    ('"size_bytes":0}', '"size_bytes":-}'),
    ('"size_bytes":6}', '"size_bytes":6,}'),
    ('"security_counter":3', '"security_counter":-3'),
    ('"name":"golden.msgpack"', '"name":"golden.msgpack\\u0000"'),
    ('"name":"golden.msgpack"', '"name":"golden.msgpack/"'),
    ('"name":"golden.msgpack"', '"nam\\u0000":"golden.msgpack"'),
    ('"name":"golden.msgpack"', '"name\\u0000":"golden.msgpack"'),
    ('"target":"any"', '"target":"a/b"'),
    ('"minimum_runtime":"0.1.0"', '"minimum_runtime":"0.1.00000"'),
    (
        '"engine":"onnxruntime","inference_precision":"f32","parts":["onnxruntime/model.onnx"]',
        '"engine":"","inference_precision":"f32","parts":["golden.msgpack"]',
    ),
    ('"minimum_runtime":"0.1.0"', '"minimum_runtime":"0.1.0\\u0000"'),
    ('"engine":""', '"engine":"\\u0000"'),
    ('"parts":["onnxruntime/model.onnx"]', '"parts":["onnxruntime/model.onnx",]'),
    ('"parts":["onnxruntime/model.onnx"]', '"parts":[,"onnxruntime/model.onnx"]'),
    ('"parts":["onnxruntime/model.onnx"]', '"parts":["onnxruntime/model.onnx""a"]'),
    ('"seed":"7"', '"seed":"7""a":"b"'),
    ('"seed":"7"', '"seed" "7"'),
    ('"seed":"7"', '"seed":"\\ud83d"'),
    ('"seed":"7"', '"seed":"\\ud83d\\ud83d"'),
    ('"seed":"7"', '"seed":"\\ud83dx"'),
    ('"seed":"7"', '"seed":"\\udc00\\udc00"'),
    ('"seed":"7"', '"seed":"\\u12g4"'),
    ('"seed":"7"', '"seed":"\\x41"'),
    ('"seed":"7"', '"seed":"\x1f"'),
    ('"ok_limit":0.2', '"ok_limit":00.2'),
    ('"ok_limit":0.2', '"ok_limit":.2'),
    ('"ok_limit":0.2', '"ok_limit":2.'),
    ('"ok_limit":0.2', '"ok_limit":2e'),
    ('"ok_limit":0.2', '"ok_limit":+2'),
    ('"memory":null', '"memory":nul'),
    ('"memory":null', '"memory":nulll'),
    ('"proposed_rule":null', '"proposed_rule":None'),
)


@pytest.mark.parametrize(("sound", "faulty"), STRICT)
def test_what_is_no_json_or_doubled_is_refused_by_both(
    reader: CReader, sound: str, faulty: str
) -> None:
    text = GOOD[1][128 : manifest_end(GOOD[1])].decode()
    assert sound in text
    data = seal_text(text.replace(sound, faulty, 1).encode(), whole()[1])

    (said,) = reader.judge([data])

    assert (python_refusal(data), said.refusal) == ("format", "format")


def test_a_part_that_is_left_out_has_a_limit_as_well(reader: CReader) -> None:
    """Its size decides no place, so only the table can refuse it."""
    manifest, parts = whole()
    bundles = []
    for size_bytes in (2**40, 2**40 + 1):
        manifest["parts"][2]["size_bytes"] = size_bytes
        thin = bytearray(seal(manifest, parts[:2]))
        assert thin[96] == 0b0011
        bundles.append(mended(thin))

    told = reader.judge(bundles)

    assert [python_refusal(data) for data in bundles] == ["", "format"]
    assert [said.refusal for said in told] == ["", "format"]


def test_utf8_is_no_longer_than_it_needs(reader: CReader) -> None:
    text = GOOD[1][128 : manifest_end(GOOD[1])]
    letters = (b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xed\xa0\x80")
    letters += (
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xc3\xc3",
    )
    bundles = [seal_text(text.replace(b"led-joint", each), whole()[1]) for each in letters]

    told = reader.judge(bundles)

    assert {python_refusal(data) for data in bundles} == {"format"}
    assert {said.refusal for said in told} == {"format"}


@pytest.mark.parametrize(("levels", "refusal"), [(32, ""), (33, "format")])
def test_what_it_passes_over_may_be_as_deep_as_it_says(
    reader: CReader, levels: int, refusal: str
) -> None:
    manifest, parts = whole()
    inner: Any = 1
    for level in range(levels):
        inner = {"a": inner} if level % 2 else [inner]
    manifest["provenance"] = inner

    (said,) = reader.judge([seal(manifest, parts)])

    assert said.refusal == refusal


def test_it_takes_whatever_spelling_the_reader_in_python_takes(reader: CReader) -> None:
    random = Random(SEED)
    manifest, parts = whole()
    manifest["identity"]["product"] = 'Größe 😀 "7/8" \\ \x7f\x01'
    texts = [respelled(random, manifest).encode() for _ in range(150)]
    bundles = [seal_text(text, parts) for text in texts]
    assert {python_refusal(data) for data in bundles} == {""}

    told = reader.judge(bundles)

    assert {said.refusal for said in told} == {""}
    for text, data, said in zip(texts, bundles, told, strict=True):
        assert said.fields["hash"] == [hashlib.sha256(data[:32] + text).hexdigest()]
        # The tool writes what would break its lines as \xNN.
        assert said.fields["product"] == ['Größe 😀 "7/8" \\x5c \x7f\\x01']
        assert [row.split()[-1] for row in said.fields["part"]] == ["6", "4096", "4097", "0"]


def at_every_limit() -> dict[str, Any]:
    """As much of everything as the format allows."""
    manifest, _ = whole()
    letters = 64 - len("p00")
    manifest["parts"] = [
        {
            "engine": "",
            "name": f"p{index:02}" + "x" * letters,
            "sha256": hashlib.sha256(bytes([index])).hexdigest(),
            "size_bytes": 1,
        }
        for index in range(MAX_PARTS)
    ]
    names = [part["name"] for part in manifest["parts"]]
    model = manifest["models"][0]
    computed = {"batch": 4096, "inference_precision": "bf16"}
    manifest["models"] = [
        model | computed | {"parts": names, "precision": f"{index:x}" * 64} for index in range(16)
    ]
    manifest["identity"] |= {
        "product": "😀" * 200,
        "version": "é" * 200,
        "security_counter": 2**32 - 1,
        "target": "t" * 64,
    }
    manifest["evidence"]["agreements"] = []
    return manifest


def test_it_holds_as_much_as_the_format_allows(reader: CReader) -> None:
    manifest = at_every_limit()
    parts = [bytes([index]) for index in range(MAX_PARTS)]
    manifest["licence"] = ""
    room = MAX_MANIFEST_BYTES - (manifest_end(seal(manifest, [])) - 128)
    manifest["licence"] = "l" * room
    data = seal(manifest, parts)
    manifest["licence"] += "l"
    over = seal(manifest, parts)
    assert [python_refusal(data), python_refusal(over)] == ["", "format"]

    said, of_over = reader.judge([data, over])

    assert said.refusal == ""
    assert said.fields["product"] == ["😀" * 200]
    assert said.fields["version"] == ["é" * 200]
    assert said.fields["security_counter"] == [str(2**32 - 1)]
    assert len(said.spans) == MAX_PARTS
    assert said.fields["model"][15].split()[2:] == [manifest["parts"][0]["name"], "bf16", "4096"]
    assert of_over.refusal == "format"


def test_more_models_than_it_holds_are_its_own_refusal(reader: CReader) -> None:
    manifest, parts = whole()
    model = manifest["models"][0]
    manifest["models"] = [dict(model, precision=f"form-{index}") for index in range(17)]
    data = seal(manifest, parts)
    assert python_refusal(data) == ""

    (said,) = reader.judge([data])

    assert said.refusal == "reader"
    assert "more than this build holds" in said.fields["told"][0]


def needing(runtime: str) -> bytes:
    manifest, parts = whole()
    manifest["identity"]["minimum_runtime"] = runtime
    return seal(manifest, parts)


def test_it_stands_for_this_runtime(reader: CReader) -> None:
    major, minor, patch = (int(word) for word in re.findall(r"[0-9]+", lineside.__version__))

    told = reader.judge(
        needing(runtime)
        for runtime in (
            *("0.0.9999", f"{major}.{minor}.{patch}"),
            *(f"{major}.{minor}.{patch + 1}", f"{major}.{minor + 1}.0", f"{major + 1}.0.0"),
        )
    )

    assert [said.refusal for said in told] == ["", "", *["incompatible"] * 3]


def test_a_revoked_key_seals_nothing(reader: CReader) -> None:
    key_id = KEY.public.key_id.hex()

    (said,) = reader.judge([GOOD[0]], "--revoked", key_id)
    (of_other,) = reader.judge([GOOD[0]], "--revoked", "00" * 16)

    assert said.refusal == "untrusted"
    assert "revoked" in said.fields["told"][0]
    assert of_other.refusal == ""


def test_the_tool_tells_result_and_class_of_one_file(reader: CReader, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.lsb"
    damaged.write_bytes(GOOD[0][:-1])

    taken = reader.run(VECTORS / "minimal.bin")
    refused = reader.run(damaged)
    missing = reader.run(tmp_path / "nowhere.lsb")

    assert (taken.returncode, refused.returncode, missing.returncode) == (0, 1, 2)
    assert "hash 27034182b38a" in taken.stdout
    assert "class format\n" in refused.stdout
    assert "hash" not in refused.stdout


def test_what_it_passes_over_is_what_the_document_allows() -> None:
    text = (Path(__file__).parents[2] / "docs/bundle-format.md").read_text("utf-8")
    (sentence,) = re.findall(r"A reader that runs no model[^.]*\. *\n?[^.]*\.", text)[:1]
    for name in ("`format`", "`identity`", "`models[].parts`", "`parts`", "may pass over the rest"):
        assert name in " ".join(sentence.split())
    manifest, _ = whole()
    assert set(PASSED_OVER) == manifest.keys() - {"format", "identity", "models", "parts"}


def test_storage_that_fails_or_changes_and_fuzzing_by_make_test(build: Path) -> None:
    """C alone: every read fails once, bits turn over between reads, crypto fails at every call."""
    printed = run_make("test", build, "FUZZ_COUNT=3000")

    assert len(re.findall(r"^\d+ checks held$", printed, re.MULTILINE)) == 2
    assert "every check held" in printed
    assert "the manifest is not JSON" in printed


def test_cmake_builds_the_tool_here_and_the_library_alone_for_a_chip(tmp_path: Path) -> None:
    chip = ["-DCMAKE_SYSTEM_NAME=Generic", "-DCMAKE_SYSTEM_PROCESSOR=arm"]
    chip += ["-DCMAKE_C_COMPILER=arm-none-eabi-gcc", "-DCMAKE_C_FLAGS=-mcpu=cortex-m4 -mthumb -Os"]
    chip += ["-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY"]  # a bare chip links no program

    for build, options in ((tmp_path / "here", []), (tmp_path / "chip", chip)):
        for words in (["-S", str(SOURCE), "-B", str(build), *options], ["--build", str(build)]):
            run_cmake(*words)
        assert (build / "liblsb.a").exists()

    assert not (tmp_path / "chip/lsb-read").exists()
    key = tmp_path / "factory.raw"
    key.write_bytes(KEY.public.raw)
    command = [tmp_path / "here/lsb-read", VECTORS / "minimal.bin"]
    assert subprocess.run([*command, key], check=False, capture_output=True).returncode == 0
    key.write_text("-----BEGIN PUBLIC KEY-----")
    refused = subprocess.run([*command, key], check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "openssl pkey -pubin" in refused.stderr


def test_a_cortex_m4_has_room_for_it(build: Path) -> None:
    """What firmware_bridge/c/README.md promises; and it compiles where size_t has 32 bits."""
    command = [sys.executable, "cortex_m.py", "--json", "--build", str(build / "cortex-m")]
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["builds"]

    assert found["default"]["flash_bytes"] < 8 * 1024
    assert max(found["default"]["stack_bytes"].values()) < 768
    assert found["default"]["bundle_bytes"] < 10 * 1024
    assert found["8 parts, 2 models"]["bundle_bytes"] < 2 * 1024
    assert set(found["default"]["needs"]) <= {"memcpy", "memmove", "memset", "memcmp"}
    # Memory does not hang on the compiler's version, so what was recorded must still be so.
    recorded = json.loads(RECORDED.read_text())["builds"]
    assert {name: row["bundle_bytes"] for name, row in recorded.items()} == {
        name: row["bundle_bytes"] for name, row in found.items()
    }


def test_results_have_numbers_that_stay() -> None:
    """Firmware logs them, and a service desk reads the log years later."""
    text = (SOURCE / "include/lsb.h").read_text()
    (body,) = re.findall(r"enum lsb_result \{(.*?)\};", text, re.DOTALL)
    names = re.findall(r"^\s+(LSB_\w+)", body, re.MULTILINE)

    assert names == [
        *("LSB_OK", "LSB_STORAGE", "LSB_CRYPTO", "LSB_CHANGED", "LSB_NOT_A_BUNDLE", "LSB_DAMAGED"),
        *("LSB_OTHER_FORMAT", "LSB_HEADER", "LSB_CUT_SHORT", "LSB_KEY_UNKNOWN", "LSB_KEY_REVOKED"),
        *("LSB_SIGNATURE", "LSB_NOT_JSON", "LSB_OLD_RUNTIME", "LSB_FIELD", "LSB_PRESENT"),
        *("LSB_LAYOUT", "LSB_PART_HASH", "LSB_TOO_LARGE", "LSB_NO_PART", "LSB_OUT_OF_PART"),
    ]


def test_the_readmes_examples_compile(tmp_path: Path) -> None:
    text = (SOURCE / "README.md").read_text("utf-8")
    examples = re.findall(r"```c\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2

    for number, example in enumerate(examples):
        file = tmp_path / f"example_{number}.c"
        file.write_text(example)
        command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
        command += [f"-I{SOURCE}/include", "-fsyntax-only", str(file)]
        subprocess.run(command, check=True)


def test_a_part_that_another_sealed_bundle_has_is_no_part_of_this_one(reader: CReader) -> None:
    data = bytearray(GOOD[0])
    data[4096:4102] = b"GOLDEN"

    (said,) = reader.judge([bytes(data)])

    assert isinstance(said, Told)
    assert said.refusal == "part"
