"""Raw outputs to scores."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from lineside import contract
from lineside.contract import RegressionHead
from lineside.heads import score_outputs
from lineside.heads._registry import _SCORES


def test_every_head_of_the_contract_can_be_scored() -> None:
    heads = get_args(contract.HeadSpec) or (contract.HeadSpec,)
    assert set(_SCORES) == set(heads)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=1, min_side=0)))
def test_regression_hands_the_values_on_in_double_precision(values: np.ndarray) -> None:
    head = RegressionHead(output="v", target="t")
    for shaped in (values, values[:, np.newaxis]):
        scores = score_outputs({"v": shaped, "other": np.zeros((1, 9), np.float32)}, head)
        assert scores.dtype == np.float64
        np.testing.assert_array_equal(scores, values)


def test_more_than_one_value_an_image_is_no_score() -> None:
    with pytest.raises(ValueError, match="reshape"):
        score_outputs({"v": np.zeros((2, 3), np.float32)}, RegressionHead(output="v", target="t"))
