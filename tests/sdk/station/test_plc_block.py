"""The function block: its rules, in Python as `lineside listen --plc` runs it and as a PLC does.

The texts of docs/plc run here too, by a small compiler, on the same input: what a PLC is given and
what the simulator does cannot drift apart.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import plcopen_export
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scl_translation import translations
from structured_text import RANGES, Program

import lineside.plc.block as block_module
import lineside.plc.reading as reading_module
from lineside.errors import InputDataError
from lineside.mqtt import VerdictMessage, decode_verdict, encode_verdict
from lineside.mqtt.binary import pack_verdict, unpack_verdict
from lineside.mqtt.payload import wire_number
from lineside.mqtt.schema import PACKED
from lineside.mqtt.state import StateWord, encode_state, make_state
from lineside.plc import (
    BlockCode,
    BlockInput,
    BlockOutput,
    BlockSettings,
    PlcBlock,
    read_state,
    read_verdict,
)
from lineside.verdict import Evaluation

DOCUMENTS = Path(__file__).parents[3] / "docs"
FOLDER = DOCUMENTS / "plc"
ST_PROGRAM = Program(sorted(FOLDER.glob("F*.st")))
SCL_PROGRAM = Program(sorted(FOLDER.glob("F*.scl")), text_base=1)
T0 = 1_795_212_345_000


def verdict_of(
    *, origin: int = 1, seq: int = 1, part: str = "A", t: int = T0, life: int = 5000, ev: int = 1
) -> VerdictMessage:
    return VerdictMessage(
        seq=seq,
        id=f"{origin:08x}{seq:010x}",
        part=part,
        t=t,
        exp=t + life,
        ev=ev,
        score=0.25 if ev in (1, 2) else None,
        limit=0.5 if ev in (1, 2) else None,
        unit="K/W",
        reason={1: "within_limit", 2: "beyond_limit"}.get(ev, "engine"),
        code={1: 0, 2: 1}.get(ev, 20),
        model="9f86d081884c",
    )


def state_of(*, word: StateWord = StateWord.ONLINE, t: int = T0, beat_s: int = 10) -> bytes:
    return encode_state(replace_state(word, t, beat_s))


def replace_state(word: StateWord, t: int, beat_s: int) -> Any:
    import msgspec

    beat_s = 0 if word is StateWord.OFFLINE else beat_s
    return msgspec.structs.replace(make_state(word), t=t, beat_s=beat_s)


OK = encode_verdict(verdict_of())


def run(*cycles: BlockInput, timeout_ms: int = 1000) -> list[BlockOutput]:
    block = PlcBlock(BlockSettings(timeout_ms=timeout_ms))
    return [block.cycle(cycle) for cycle in cycles]


def presented(part: str = "A", **more: Any) -> BlockInput:
    return BlockInput(execute=True, part=part, cycle_ms=10, **more)


ALIVE = BlockInput(state=state_of())


def test_an_ok_of_this_part_in_time_is_ok() -> None:
    out = run(ALIVE, presented(), presented(verdict=OK), presented())[1:]
    assert (out[0].busy, out[0].evaluation) == (True, Evaluation.NOT_DECIDABLE)
    for held in out[1:]:
        assert (held.done, held.evaluation, held.code) == (True, Evaluation.OK, 0)
        assert held.verdict is not None and held.verdict.score == 0.25


@pytest.mark.parametrize("pack", [encode_verdict, pack_verdict])
def test_both_topics_say_the_same(pack: Any) -> None:
    for evaluation in (0, 1, 2, 3):
        data = pack(verdict_of(ev=evaluation))
        last = run(ALIVE, presented(), presented(verdict=data))[-1]
        assert last.evaluation == (evaluation or 3)
        assert last.done


CASES = {
    "R1 no part stands there": ([ALIVE, BlockInput(verdict=OK)], BlockCode.WAITING),
    "R2 malformed": ([ALIVE, presented(), presented(verdict=OK[:-1])], BlockCode.WAITING),
    "R3 repeated": (
        [ALIVE, BlockInput(verdict=OK), presented(), presented(verdict=OK)],
        BlockCode.WAITING,
    ),
    "R4 an old outbox comes back": (
        [
            *(ALIVE, BlockInput(verdict=encode_verdict(verdict_of(origin=2, t=T0 + 1)))),
            *(presented(), presented(verdict=OK)),
        ],
        BlockCode.WAITING,
    ),
    "R6 no state": ([presented(), presented(verdict=OK)], BlockCode.STATION),
    "R6 offline": (
        [
            BlockInput(state=state_of(word=StateWord.OFFLINE)),
            *(presented(), presented(verdict=OK)),
        ],
        BlockCode.STATION,
    ),
    "R6 three beats": (
        [
            BlockInput(state=state_of(beat_s=1)),
            *(BlockInput(cycle_ms=2990), presented(), presented(verdict=OK)),
        ],
        BlockCode.STATION,
    ),
    "R7 it came with the trigger": ([ALIVE, presented(verdict=OK)], BlockCode.WAITING),
    "R8 another part": ([ALIVE, presented("B"), presented("B", verdict=OK)], BlockCode.WAITING),
    "R8 an earlier turn": (
        [ALIVE, presented(unix_ms=T0 + 500), presented(unix_ms=T0 + 510, verdict=OK)],
        BlockCode.WAITING,
    ),
    "R9 expired": (
        [
            *(ALIVE, presented(unix_ms=T0)),
            presented(unix_ms=T0 + 10, verdict=encode_verdict(verdict_of(life=10))),
        ],
        BlockCode.WAITING,
    ),
    "R9 expired without a clock": (
        [ALIVE, presented(), presented(verdict=encode_verdict(verdict_of(life=10)))],
        BlockCode.WAITING,
    ),
    "R9 the clocks disagree": (
        [ALIVE, presented(unix_ms=T0 - 500), presented(unix_ms=T0 - 490, verdict=OK)],
        BlockCode.WAITING,
    ),
    "R11 too late": (
        [ALIVE, presented(), replace(presented(verdict=OK), cycle_ms=1000)],
        BlockCode.TIMEOUT,
    ),
    "R12 it expires on the output": (
        [ALIVE, presented(), presented(verdict=OK), replace(presented(), cycle_ms=5000)],
        BlockCode.EXPIRED,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_rule_keeps_an_ok_from_the_output(name: str) -> None:
    cycles, code = CASES[name]
    last = run(*cycles)[-1]
    assert (last.evaluation, last.code) == (Evaluation.NOT_DECIDABLE, code)


def test_the_first_counts_and_a_gap_is_told() -> None:
    later = encode_verdict(verdict_of(seq=5, ev=2))
    out = run(ALIVE, presented(), presented(verdict=OK), presented(verdict=later))
    assert out[-1].evaluation is Evaluation.OK  # R10
    assert out[-1].missing == 3  # R5


def test_a_fault_of_the_station_lets_through_what_it_still_judges() -> None:
    fault = BlockInput(state=state_of(word=StateWord.FAULT))
    assert run(fault, presented(), presented(verdict=OK))[-1].evaluation is Evaluation.OK


# --- any input at all

BASES = [
    *(encode_verdict(verdict_of(ev=ev)) for ev in range(4)),
    *(pack_verdict(verdict_of(ev=ev)) for ev in range(4)),
]
messages = st.builds(
    verdict_of,
    origin=st.sampled_from([1, 2]),
    seq=st.integers(1, 6),
    part=st.sampled_from(["A", "B", ""]),
    t=st.integers(-300, 900).map(lambda ms: T0 + ms),
    life=st.sampled_from([1, 50, 400, 5000]),
    ev=st.sampled_from([0, 1, 1, 1, 2, 3]),
)
payloads = st.tuples(messages, st.sampled_from([encode_verdict, pack_verdict])).map(
    lambda pair: pair[1](pair[0])
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(BASES)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        how = draw(st.sampled_from(["set", "cut", "add"]))
        if how == "set":
            data[at] = draw(st.integers(0, 255) | st.sampled_from(list(b'{}",:.-e0123456789')))
        elif how == "cut":
            del data[at : at + draw(st.integers(1, 4))]
        else:
            data[at:at] = draw(st.sampled_from([b"0", b"}", b",", b'"', b" ", b"-1", b"9" * 20]))
        data = data or bytearray(b"{")
    return bytes(data)


states = st.builds(
    state_of,
    word=st.sampled_from([StateWord.ONLINE, StateWord.ONLINE, StateWord.FAULT, StateWord.OFFLINE]),
    t=st.integers(-3000, 300).map(lambda ms: T0 + ms),
    beat_s=st.sampled_from([1, 10]),
)


@st.composite
def lives(draw: st.DrawFn) -> list[BlockInput]:
    has_clock = draw(st.booleans())
    now, cycles, execute, part = T0 - 100, [ALIVE], False, "A"
    for _ in range(draw(st.integers(3, 12))):
        step = draw(st.sampled_from([0, 10, 10, 10, 200, 1500, 4000]))
        now += step
        if draw(st.integers(0, 2)) == 0:
            execute = not execute
            part = draw(st.sampled_from(["A", "A", "B", ""]))
        cycles.append(
            BlockInput(
                execute=execute,
                part=part,
                cycle_ms=step,
                unix_ms=now if has_clock else 0,
                verdict=draw(st.just(b"") | payloads | payloads | damaged()),
                state=draw(st.just(b"") | st.just(b"") | states | damaged()),
            )
        )
    return cycles


def witness(data: bytes) -> VerdictMessage | None:
    """Another reader than the block's: the one of gateways and of `lineside listen`."""
    decode = decode_verdict if data[:1] == b"{" else unpack_verdict
    try:
        return decode(data, source="witness")
    except InputDataError:
        return None


@settings(max_examples=250)
@given(lives())
def test_no_ok_from_what_is_stale_repeated_malformed_or_late(cycles: list[BlockInput]) -> None:
    block = PlcBlock(BlockSettings())
    heard: set[tuple[int, int]] = set()
    clock_ms = started_ms = 0
    before, wanted = BlockInput(), ""
    accepted: VerdictMessage | None = None
    for cycle in cycles:
        out = block.cycle(cycle)
        clock_ms += cycle.cycle_ms
        if out.evaluation is not Evaluation.OK:
            accepted = None
        else:
            if accepted is None:
                accepted = witness(cycle.verdict)
                assert accepted is not None
                assert (accepted.v, accepted.ev, accepted.code) == (1, 1, 0)
                assert (int(accepted.id[:8], 16), accepted.seq) not in heard
                assert wanted in ("", accepted.part)
                assert clock_ms < started_ms + 1000
                assert out.alive
            assert cycle.execute and before.execute and out.done
            assert clock_ms - started_ms < accepted.exp - accepted.t
            assert not cycle.unix_ms or cycle.unix_ms < accepted.exp
        if cycle.execute and not before.execute:
            started_ms, wanted = clock_ms, cycle.part
        before = cycle
        found = read_verdict(cycle.verdict)
        if found is not None:
            heard.add((found.origin, found.seq))


def plc_cycle(block: Any, cycle: BlockInput) -> dict[str, Any]:
    block(
        xExecute=cycle.execute,
        sPart=cycle.part,
        nCycleMs=cycle.cycle_ms,
        nUnixMs=cycle.unix_ms,
        nVerdictBytes=len(cycle.verdict),
        nStateBytes=len(cycle.state),
        aVerdict=list(cycle.verdict[:256].ljust(256, b"\xaa")),
        aState=list(cycle.state[:256].ljust(256, b"\xaa")),
    )
    return {
        "evaluation": block.nEvaluation,
        "code": block.nCode,
        "busy": block.xBusy,
        "done": block.xDone,
        "alive": block.xAlive,
        "refused": block.nRefused,
        "missing": block.nMissing,
        "dropped": block.nDropped,
        "seq": block.nSeq,
        "score": round(block.fScore, 9) if block.xScore else None,
        "limit": round(block.fLimit, 9) if block.xLimit else None,
    }


def python_cycle(block: PlcBlock, cycle: BlockInput) -> dict[str, Any]:
    out = block.cycle(cycle)
    names = ("evaluation", "code", "busy", "done", "alive", "refused", "missing", "dropped")
    heard = out.verdict
    return {
        **{name: getattr(out, name) for name in names},
        "seq": 0 if heard is None else heard.seq,
        "score": None if heard is None else heard.score,
        "limit": None if heard is None else heard.limit,
    }


@settings(max_examples=150)
@given(lives())
def test_the_texts_for_plcs_do_what_the_simulator_does(cycles: list[BlockInput]) -> None:
    block = PlcBlock(BlockSettings())
    others = [program.block("FB_LinesideVerdict") for program in (ST_PROGRAM, SCL_PROGRAM)]
    for cycle in cycles:
        expected = python_cycle(block, cycle)
        for other in others:
            assert plc_cycle(other, cycle) == expected


@pytest.mark.parametrize("name", CASES)
def test_the_texts_for_plcs_keep_each_rule(name: str) -> None:
    block = PlcBlock(BlockSettings())
    others = [program.block("FB_LinesideVerdict") for program in (ST_PROGRAM, SCL_PROGRAM)]
    for cycle in CASES[name][0]:
        expected = python_cycle(block, cycle)
        assert [plc_cycle(other, cycle) for other in others] == [expected, expected]


def plc_read(data: bytes) -> tuple[Any, ...] | None:
    reader = ST_PROGRAM.block("FB_LinesideRead")
    reader(nBytes=len(data), aData=list(data[:256].ljust(256, b"}")))
    if not reader.xOk:
        return None
    part = bytes(reader.aPart[: reader.nPart]).decode("latin-1")
    times = (reader.nTakenMs, reader.nExpiresMs)
    return (reader.nOrigin, reader.nSeq, part, *times, reader.nEvaluation, reader.nCode)


@settings(max_examples=250)
@given(damaged() | payloads | st.binary(min_size=1, max_size=140))
@example(encode_verdict(verdict_of())[:-1] + b',"new":{"a":[1]}}')
@example(encode_verdict(verdict_of()).ljust(256, b" "))
@example(encode_verdict(verdict_of()).replace(b"0.25", b"-1.23457e-98"))
@example(encode_verdict(verdict_of()).replace(b"0.25", b"25"))
@example(encode_verdict(verdict_of()).replace(b'"A"', b'"\\u0041"'))
@example(encode_verdict(verdict_of()).replace(b'"A"', b'"\xc3\xa4"'))
@example(pack_verdict(verdict_of()) + b"\0")
@example(b"\1\x6c" + pack_verdict(verdict_of())[2:] + b"\0\0\0\0")
@example(
    pack_verdict(verdict_of())[:32] + b"\0\0\0\0\0\0\xf0\x7f" + pack_verdict(verdict_of())[40:]
)
def test_a_plc_reads_what_the_simulator_reads(data: bytes) -> None:
    heard = read_verdict(data)
    expected = None
    if heard is not None:
        times = (heard.taken_ms, heard.expires_ms)
        known = (heard.origin, heard.seq, heard.part, *times)
        expected = (*known, int(heard.evaluation), heard.code)
    assert plc_read(data) == expected


@settings(max_examples=60)
@given(
    (st.floats(1e-99, 9e99) | st.floats(-9e99, -1e-99) | st.floats(-1e3, 1e3)).map(wire_number),
    st.sampled_from([encode_verdict, pack_verdict]),
)
def test_a_plc_reads_numbers_as_they_are(score: float, pack: Any) -> None:
    import msgspec

    data = pack(msgspec.structs.replace(verdict_of(), score=score))
    reader = ST_PROGRAM.block("FB_LinesideRead")
    reader(nBytes=len(data), aData=list(data.ljust(256, b"\0")))
    heard = read_verdict(data)
    assert heard is not None and heard.score is not None and reader.xOk
    # A power of ten is reached by steps; each may round once.
    assert math.isclose(reader.fScore, heard.score, rel_tol=1e-13, abs_tol=1e-99)


@given(st.binary(max_size=300) | damaged())
def test_no_bytes_make_the_readers_raise(data: bytes) -> None:
    read_verdict(data)
    read_state(data)


def test_every_message_of_a_station_is_read() -> None:
    for word, beat_s in itertools.product(StateWord, (1, 3600)):
        heard = read_state(state_of(word=word, beat_s=beat_s))
        assert heard is not None and heard.state == word.number
    worst = encode_verdict(verdict_of(part="W" * 32, seq=10**12 - 1))
    assert read_verdict(worst) is not None
    assert read_state(b'{"v":1,"st":1}') is None


# --- the texts and the document

RULES = [f"R{number}" for number in range(1, 13)]


def test_every_rule_stands_in_the_text_in_the_simulator_and_in_the_document() -> None:
    python = "".join(
        Path(str(module.__file__)).read_text("utf-8") for module in (block_module, reading_module)
    )
    text = "".join(file.read_text("utf-8") for file in FOLDER.glob("FB_*.st"))
    scl = "".join(file.read_text("utf-8") for file in FOLDER.glob("FB_*.scl"))
    document = (DOCUMENTS / "plc.md").read_text("utf-8")
    for source in (python, text, scl, document):
        assert set(re.findall(r"\bR\d+\b", source)) == set(RULES)


def test_the_scl_is_the_translation_of_the_st() -> None:
    found = translations()
    assert len(found) == len(list(FOLDER.glob("*.scl"))) == 6
    for file, text in found.items():
        assert file.read_text("utf-8") == text, "python tests/plugins/scl_translation.py"


def test_the_file_for_import_holds_the_same_blocks() -> None:
    assert plcopen_export.FILE.read_text("utf-8") == plcopen_export.export(), (
        "python tests/plugins/plcopen_export.py"
    )
    space = {"p": plcopen_export.SPACE, "h": "http://www.w3.org/1999/xhtml"}
    found = ElementTree.parse(plcopen_export.FILE).getroot().findall(".//p:pou", space)
    assert {unit.get("name") for unit in found} == {file.stem for file in FOLDER.glob("*.st")}
    for unit in found:
        text = (FOLDER / f"{unit.get('name')}.st").read_text("utf-8")
        body = unit.findtext("p:body/p:ST/h:xhtml", namespaces=space)
        assert body and f"END_VAR\n\n{body}END_FUNCTION" in text
        declared = re.findall(r"^    (\w+) : ", text.split("END_VAR\n\n")[0], re.MULTILINE)
        names = [one.get("name") for one in unit.findall("p:interface/*/p:variable", space)]
        assert names == declared
        kinds = {one.tag.split("}")[1] for one in unit.findall(".//p:variable/p:type/*", space)}
        assert kinds <= {*RANGES, "BOOL", "LREAL", "string", "array", "derived"}


def test_the_codes_of_the_block_are_those_of_the_text_and_the_document() -> None:
    text = (FOLDER / "FB_LinesideVerdict.st").read_text("utf-8")
    used = {int(code) for code in re.findall(r"(?:nWhy|nRefused|nCode)\b[^;]*:= (1\d\d);", text)}
    assert used == set(BlockCode)
    document = (DOCUMENTS / "plc.md").read_text("utf-8").split("### Codes of the block", 1)[1]
    rows = re.findall(r"^\| (1\d\d) \| `(\w+)` \|", document, re.MULTILINE)
    assert {name: int(code) for code, name in rows} == {
        code.name.lower(): int(code) for code in BlockCode
    }


def test_the_text_knows_the_size_of_the_packed_verdict() -> None:
    text = (FOLDER / "FB_LinesideRead.st").read_text("utf-8")
    assert f"nBytes >= {PACKED.size} AND" in text
