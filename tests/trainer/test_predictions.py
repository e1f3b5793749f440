"""`predictions.csv`: what is written is read, and what is none is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineside_trainer.errors import TrainerError
from lineside_trainer.runs.predictions import Prediction, Said, read_predictions, write_predictions

# Surrogates cannot be written as UTF-8; tables refuse such names before.
words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8)
shares = st.floats(0.0, 1.0)


@st.composite
def tables(draw: st.DrawFn) -> list[Prediction]:
    classes = draw(st.lists(words, max_size=3, unique=True))
    count = draw(st.integers(0, 4))
    return [
        Prediction(
            file=draw(words),
            part=draw(words),
            set=draw(st.sampled_from(["validation", "test"])),
            said=Said(
                target=draw(words),
                predicted=draw(words),
                scores={name: draw(shares) for name in classes},
            ),
        )
        for _ in range(count)
    ]


@given(tables())
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Prediction]
) -> None:
    path = tmp_path_factory.mktemp("run") / "predictions.csv"
    write_predictions(path, rows)
    assert read_predictions(path) == rows


def test_what_the_model_disputes_is_told_in_one_number() -> None:
    number = Said(target="1.5", predicted="-0.5")
    named = Said(target="crack", predicted="good", scores={"crack": 0.25, "good": 0.75})
    rows = [Prediction(file="a", part="a", set="test", said=said) for said in (number, named)]
    assert [row.dispute for row in rows] == [2.0, 0.75]


@pytest.mark.parametrize(
    "content",
    [b"file,part\na,b\n", b"\xff\xfe", b"file,part,set,target,predicted,score:x\na,b,c,d,e,f\n"],
)
def test_another_table_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_bytes(content)
    with pytest.raises(TrainerError, match=r"predictions\.csv"):
        read_predictions(path)


def test_a_missing_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="was the run finished"):
        read_predictions(tmp_path / "predictions.csv")
