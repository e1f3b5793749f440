"""The contract file: what is written is read, and what is wrong is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside.contract import (
    ClassificationHead,
    Contract,
    FrameSpec,
    HeadSpec,
    InputSpec,
    LimitRule,
    OutputSpec,
    RegressionHead,
    decode_contract,
    encode_contract,
)
from lineside.errors import ConfigurationError

pixels = st.integers(1, 16384)
sizes = st.tuples(pixels, pixels)
words = st.text(min_size=1, max_size=20)


@st.composite
def heads(draw: st.DrawFn, output: str) -> tuple[HeadSpec, tuple[int, ...]]:
    """A head and the shape of the output it reads."""
    if draw(st.booleans()):
        ones = st.lists(st.just(1), max_size=2).map(tuple)
        return RegressionHead(output=output, target=draw(words)), draw(ones)
    classes = tuple(draw(st.lists(words, min_size=2, max_size=5, unique=True)))
    good = classes[: draw(st.integers(1, len(classes) - 1))]
    head = ClassificationHead(output=output, target=draw(words), classes=classes, good=good)
    return head, (len(classes),)


@st.composite
def contracts(draw: st.DrawFn) -> Contract:
    names = draw(st.lists(words, min_size=1, max_size=4, unique=True))
    scored = draw(st.sampled_from(names))
    head, shape = draw(heads(scored))
    shapes = st.lists(pixels, max_size=3).map(tuple)
    outputs = [
        OutputSpec(name=name, shape=shape if name == scored else draw(shapes), unit=draw(words))
        for name in names
    ]
    frame = FrameSpec(
        size_hw=draw(st.none() | sizes),
        channels=draw(st.sampled_from([1, 3])),
        bit_depth=draw(st.sampled_from([8, 16])),
        window=(draw(st.integers(0, 100)), draw(st.integers(101, 65535))),
    )
    rule = LimitRule(ok_limit=draw(st.floats(0, 1)), not_ok_limit=draw(st.floats(1, 2)))
    return Contract(
        product=draw(words),
        frame=frame,
        input=InputSpec(name=draw(words), size_hw=draw(sizes), channels=1),
        outputs=tuple(outputs),
        head=head,
        proposed_rule=draw(st.sampled_from([None, rule])),
    )


def as_document(contract: Contract) -> dict[str, object]:
    document: dict[str, object] = json.loads(encode_contract(contract))
    return document


EXAMPLE = Contract(
    product="led-joint",
    frame=FrameSpec(size_hw=(64, 64), channels=1),
    input=InputSpec(size_hw=(64, 64), channels=1),
    outputs=(OutputSpec(name="value", unit="K/W"),),
    head=RegressionHead(target="delta_b_max"),
)


CLASSES = Contract(
    product="led-joint",
    frame=FrameSpec(size_hw=(64, 64), channels=1),
    input=InputSpec(size_hw=(64, 64), channels=1),
    outputs=(OutputSpec(name="probability", shape=(3,)),),
    head=ClassificationHead(target="class", classes=("crack", "good", "void"), good=("good",)),
)


@given(contracts())
def test_what_is_written_is_read(contract: Contract) -> None:
    data = encode_contract(contract)
    assert decode_contract(data, source="contract.json") == contract
    assert encode_contract(decode_contract(data, source="x")) == data


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        (None, "colour", 1, "colour"),
        ("frame", "gain", 2, "gain"),
        ("frame", "channels", 4, r"\$\.frame\.channels"),
        ("frame", "bit_depth", 12, r"\$\.frame\.bit_depth"),
        ("frame", "window", [5, 5], "black must lie below white"),
        ("frame", "size_hw", [0, 64], r"\$\.frame\.size_hw"),
        ("input", "size_hw", [64, 20000], r"\$\.input\.size_hw"),
        ("head", "kind", "horoscope", r"\$\.head"),
        ("head", "output", "values", "head.output 'values' is not among the outputs: value"),
        (None, "outputs", [], "head.output 'value' is not among the outputs"),
        (None, "outputs", [{"name": "value", "shape": [3]}], r"shape \[3\]; this head takes one"),
        (None, "outputs", [{"name": "value"}, {"name": "value"}], "stands there twice"),
        (None, "version", 2, r"\$\.version"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_path(
    section: str | None, key: str, value: object, told: str
) -> None:
    document = as_document(EXAMPLE)
    place = document if section is None else document[section]
    assert isinstance(place, dict)
    place[key] = value
    with pytest.raises(ConfigurationError, match=told) as caught:
        decode_contract(json.dumps(document).encode(), source="candidate/contract.json")
    assert "candidate/contract.json" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("classes", ["good"], "at least two are needed"),
        ("classes", [], "at least two are needed"),
        ("classes", ["crack", "good", "good"], "stand there once"),
        ("classes", ["crack", "good", ""], "each must be a name"),
        ("good", ["fine"], r"'fine' is none of the classes: crack, good, void"),
        ("good", [], "at least one class must be good"),
        ("good", ["crack", "good", "void"], "at least one class must be good and one a defect"),
        ("good", ["good", "good"], "stand there once"),
        ("classes", ["crack", "good"], r"shape \[3\]; this head takes a probability .*: \[2\]"),
        ("colours", 1, "colours"),
    ],
)
def test_classes_that_cannot_be_are_refused(key: str, value: object, told: str) -> None:
    document = as_document(CLASSES)
    head = document["head"]
    assert isinstance(head, dict)
    head[key] = value
    with pytest.raises(ConfigurationError, match=told):
        decode_contract(json.dumps(document).encode(), source="contract.json")


@pytest.mark.parametrize("key", ["product", "frame", "input", "outputs", "head"])
def test_a_missing_key_is_named(key: str) -> None:
    document = as_document(EXAMPLE)
    del document[key]
    with pytest.raises(ConfigurationError, match=key):
        decode_contract(json.dumps(document).encode(), source="contract.json")


@given(st.binary(max_size=60))
def test_noise_is_a_configuration_error(data: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"contract\.json"):
        decode_contract(data, source="contract.json")
