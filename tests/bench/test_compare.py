"""What became slower beyond noise: planted changes are found, and the machine's mood is not one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import call, refuse, succeed

from lineside.errors import InputDataError
from lineside_bench.compare import compare_documents

MODELS = ("vit_tiny", "sam_cnn", "memory")
ENGINES = ("openvino", "onnxruntime", "bare openvino", "bare onnxruntime")


def document(noise: float = 0.0, seed: int = 0, **factors: float) -> dict[str, Any]:
    """Latencies of twelve rows; a factor by the row's model and engine, or for ``all``."""
    draws = np.random.default_rng(seed)
    rows = []
    for model in MODELS:
        for place, engine in enumerate(ENGINES):
            factor = factors.get(f"{model}_{place}", 1.0) * factors.get("all", 1.0)
            rows.append(
                {
                    "model": model,
                    "engine": engine,
                    "threads": 1,
                    "p50_us": 1000.0 * (place + 1) * factor * np.exp(draws.normal(0, noise)),
                    "p99_us": 2000.0 * np.exp(draws.normal(0, 1)),
                }
            )
    return {"command": "lineside measure latency", "machine": "one", "rows": rows}


def test_the_same_result_has_no_changes() -> None:
    found = compare_documents(document(), document())

    assert (found.worse, found.better, found.drift, found.figures) == ([], [], 1.0, 12)


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_slowness_is_named_and_nothing_else(seed: int) -> None:
    found = compare_documents(document(0.02, 1), document(0.02, 10 + seed, sam_cnn_0=1.4))

    assert [change.name for change in found.worse] == ["rows sam_cnn openvino threads=1 p50_us"]
    assert found.worse[0].beside_drift == pytest.approx(1.4, rel=0.1)


def test_a_machine_that_is_slower_as_a_whole_is_drift() -> None:
    found = compare_documents(document(0.02, 1), document(0.02, 2, all=1.6))

    assert not found.worse
    assert found.drift == pytest.approx(1.6, rel=0.1)


def test_slowness_of_all_of_ours_shows_against_the_bare_engines() -> None:
    ours = {f"{model}_{place}": 1.5 for model in MODELS for place in (0, 1)}
    found = compare_documents(document(0.01, 1), document(0.01, 2, **ours))

    assert found.drift_of_bare
    assert found.drift == pytest.approx(1.0, abs=0.05)
    assert len(found.worse) == 6
    assert all("bare" not in change.name for change in found.worse)


def closeness(ours: float) -> dict[str, Any]:
    rows = [
        {"model": f"m{n}", "against": "bare", "inspect_p50_us": 1100.0 * ours, "bare_p50_us": 1e3}
        for n in range(9)
    ]
    return {"closeness": rows}


def test_ours_beside_the_bare_engine_in_one_row_is_not_taken_for_it() -> None:
    found = compare_documents(closeness(1.0), closeness(1.5))

    assert found.drift == pytest.approx(1.0)
    assert {change.name.split()[-1] for change in found.worse} == {"inspect_p50_us"}
    assert len(found.worse) == 9


def test_medians_of_several_loops_are_figures() -> None:
    def trained(speed: float) -> dict[str, Any]:
        speeds = {f"loop {n}": {"median": 100.0, "rounds": [100.0]} for n in range(9)}
        speeds["lineside"] = {"median": speed, "rounds": [speed]}
        return {"rows": [{"way": "mae", "images_per_s": speeds}]}

    found = compare_documents(trained(100.0), trained(50.0))

    assert [change.name for change in found.worse] == ["rows mae images_per_s lineside"]


def test_more_a_second_is_better() -> None:
    before = {"rows": [{"way": f"w{n}", "images_per_s": 100.0} for n in range(9)]}
    after = {"rows": [{"way": f"w{n}", "images_per_s": 100.0 - 50 * (n == 3)} for n in range(9)]}

    assert [change.name for change in compare_documents(before, after).worse] == [
        "rows w3 images_per_s"
    ]


def test_rows_are_known_by_their_words_not_by_their_place() -> None:
    before, after = document(), document()
    after["rows"].reverse()
    after["rows"].pop()

    found = compare_documents(before, after)

    assert found.worse == []
    assert len(found.missing) == 1


def test_tails_count_only_when_asked_for() -> None:
    figures = [compare_documents(document(), document(), tails=tails).figures for tails in (0, 1)]

    assert figures == [12, 24]


def test_strangers_share_nothing() -> None:
    with pytest.raises(InputDataError, match="share no figure"):
        compare_documents(document(), {"rows": [{"size_bytes": 3}]})


def test_the_verb_says_it_and_ends_with_one(tmp_path: Path) -> None:
    for name, made in {"a": document(), "b": document(vit_tiny_1=3.0)}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(made), "utf-8")

    worse = call("measure", "compare", tmp_path / "a.json", tmp_path / "b.json")
    better = succeed("measure", "compare", tmp_path / "b.json", tmp_path / "a.json", "--json")

    assert worse.exit_code == 1
    assert "vit_tiny onnxruntime threads=1 p50_us" in worse.stdout
    assert json.loads(better.stdout)["better"][0]["worse_by"] == pytest.approx(1 / 3, abs=1e-3)


def test_what_is_no_document_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]", "utf-8")

    for other in ("a.json", "none.json"):
        told = refuse(InputDataError, "measure", "compare", tmp_path / "a.json", tmp_path / other)
        assert "a.json" in told
