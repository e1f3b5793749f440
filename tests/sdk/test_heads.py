"""Raw outputs to scores."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from lineside import contract
from lineside.contract import ClassificationHead, LimitRule, RegressionHead
from lineside.decide import decide
from lineside.heads import find_outputs, score_outputs
from lineside.heads._registry import _READERS
from lineside.verdict import Evaluation, Finding

NAMES = ("crack", "good", "spare", "void")


def test_every_head_of_the_contract_can_be_read() -> None:
    assert set(_READERS) == set(get_args(contract.HeadSpec))


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=1, min_side=0)))
def test_regression_hands_the_values_on_in_double_precision(values: np.ndarray) -> None:
    head = RegressionHead(output="v", target="t")
    for shaped in (values, values[:, np.newaxis]):
        scores = score_outputs({"v": shaped, "other": np.zeros((1, 9), np.float32)}, head)
        assert scores.dtype == np.float64
        np.testing.assert_array_equal(scores, values)
        assert find_outputs({"v": shaped}, head, (32, 32)) == [()] * len(values)


def test_more_than_one_value_an_image_is_no_score() -> None:
    with pytest.raises(ValueError, match="reshape"):
        score_outputs({"v": np.zeros((2, 3), np.float32)}, RegressionHead(output="v", target="t"))


@st.composite
def heads(draw: st.DrawFn) -> ClassificationHead:
    classes = NAMES[: draw(st.integers(2, len(NAMES)))]
    good = draw(st.lists(st.sampled_from(classes), min_size=1, max_size=len(classes) - 1))
    return ClassificationHead(target="class", classes=classes, good=tuple(dict.fromkeys(good)))


@st.composite
def classified(draw: st.DrawFn) -> tuple[ClassificationHead, NDArray[np.float32]]:
    """A head with a softmax's output in float32."""
    head = draw(heads())
    shape = (draw(st.integers(1, 4)), len(head.classes))
    logits = draw(hnp.arrays(np.float32, shape, elements=st.floats(-60, 60, width=32)))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return head, powers / powers.sum(axis=1, keepdims=True)


def score(head: ClassificationHead, values: NDArray[np.float32]) -> NDArray[np.float64]:
    return score_outputs({"probability": values}, head)


@given(classified())
def test_the_score_is_the_probability_of_any_defect(
    sample: tuple[ClassificationHead, NDArray[np.float32]],
) -> None:
    head, values = sample
    bad = [name not in head.good for name in head.classes]
    scores = score(head, values)
    assert scores.dtype == np.float64
    assert ((scores >= 0.0) & (scores <= 1.0)).all()
    # float32 probabilities sum to 1 within some units of 6e-8.
    np.testing.assert_allclose(scores, values[:, bad].sum(axis=1), atol=1e-6)


@given(classified(), st.permutations(range(len(NAMES))))
def test_the_order_of_classes_does_not_matter(
    sample: tuple[ClassificationHead, NDArray[np.float32]], order: list[int]
) -> None:
    head, values = sample
    kept = [index for index in order if index < len(head.classes)]
    turned = ClassificationHead(
        target="class", classes=tuple(head.classes[i] for i in kept), good=head.good
    )
    np.testing.assert_allclose(score(turned, values[:, kept]), score(head, values), atol=1e-12)


@given(classified())
def test_the_finding_is_the_likeliest_defect(
    sample: tuple[ClassificationHead, NDArray[np.float32]],
) -> None:
    head, values = sample
    for (finding,), row in zip(
        find_outputs({"probability": values}, head, (32, 32)), values, strict=True
    ):
        assert finding.name not in head.good
        assert finding.probability == row[head.classes.index(finding.name)]
        bad = [float(p) for name, p in zip(head.classes, row, strict=True) if name not in head.good]
        assert finding.probability == max(bad)


@given(heads(), st.data())
def test_what_is_no_distribution_is_never_ok(head: ClassificationHead, data: st.DataObject) -> None:
    """A fault of the engine, or a graph without softmax, gives no verdict of OK."""
    anything = st.floats(width=32) | st.sampled_from([0.0, 1.0, 0.5])
    values = data.draw(hnp.arrays(np.float32, (1, len(head.classes)), elements=anything))
    with np.errstate(invalid="ignore", over="ignore"):
        total = float(values.astype(np.float64).sum())
    (scored,) = score(head, values)
    sound = bool((values >= -1e-3).all()) and abs(total - 1.0) <= 1e-3
    assert np.isfinite(scored) == sound
    evaluation, _, _ = decide(float(scored), LimitRule(ok_limit=0.5, not_ok_limit=0.5))
    if not sound:
        assert evaluation is Evaluation.NOT_DECIDABLE


def test_by_hand() -> None:
    head = ClassificationHead(target="class", classes=NAMES, good=("good", "spare"))
    values = np.float32([[0.25, 0.5, 0.125, 0.125], [0.0, 0.0, 0.0, 1.0]])
    assert score(head, values).tolist() == [0.375, 1.0]
    assert find_outputs({"probability": values}, head, (32, 32)) == [
        (Finding(name="crack", probability=0.25),),
        (Finding(name="void", probability=1.0),),
    ]
