"""The drift reference in a bundle: copies carry it, verify shows it, old bundles do without."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import succeed as lineside
from tiny_bundle import TinyBundle

from lineside.bundle import PartData, make_thin_copy, open_bundle, reseal_bundle
from lineside.contract import FrameSpec
from lineside.drift import (
    DRIFT_PART,
    EMBEDDING_OUTPUT,
    DriftReference,
    DriftSettings,
    FormSpreads,
    PartStatistics,
    Spread,
    decode_reference,
    encode_reference,
    measure_picture,
)
from lineside.engines import EngineSettings, open_engine
from lineside.errors import BundleFormatError
from lineside.mqtt.health import GROUP_LIMITS
from lineside.station.drift import (
    DriftWatch,
    drift_figures,
    open_drift_watch,
    part_statistics,
)

ENGINES = ("onnxruntime", "openvino")


def reference() -> DriftReference:
    values = np.linspace(0.0, 1.0, 60)
    return DriftReference(
        of="all",
        parts=60.0,
        light=Spread.from_values(values, "light"),
        clipping=Spread.from_values(values * 0.0, "clipping"),
        focus=Spread.from_values(values - 3.0, "focus"),
        forms=tuple(
            FormSpreads(
                engine=engine,
                precision="fp32",
                score=Spread.from_values(values * 2.0, "score"),
                embedding=Spread.from_values(values + 0.5, "embedding"),
            )
            for engine in ENGINES
        ),
    )


def with_part(tiny: TinyBundle, path: Path, data: bytes) -> Path:
    return tiny.reseal(path, changed=[PartData(name=DRIFT_PART, data=data)])


def watch(path: Path, tiny: TinyBundle, settings: DriftSettings | None = None) -> DriftWatch:
    with open_bundle(path, trust=tiny.public_key_path) as bundle:
        model = bundle.manifest.models[0]
        engine = open_engine(model, bundle.part, bundle.manifest.contract, EngineSettings())
        try:
            return open_drift_watch(bundle, engine, settings or DriftSettings())
        finally:
            engine.close()


def test_thin_copies_and_other_seals_carry_it(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    whole = with_part(tiny_bundle, tmp_path / "whole.lsb", encode_reference(reference()))
    with open_bundle(whole, trust=tiny_bundle.public_key_path) as bundle:
        make_thin_copy(bundle, tmp_path / "thin.lsb", engine="openvino")
        reseal_bundle(bundle, tmp_path / "again.lsb", key=tiny_bundle.key())
    for name in ("whole", "thin", "again"):
        with open_bundle(tmp_path / f"{name}.lsb", trust=tiny_bundle.public_key_path) as bundle:
            assert decode_reference(bundle.part(DRIFT_PART), source=name) == reference()


def test_explain_shows_every_statistic(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    path = with_part(tiny_bundle, tmp_path / "a.lsb", encode_reference(reference()))
    words = ("verify", path, "--trust", tiny_bundle.public_key_path, "--engine", "none")

    told = lineside(*words, "--explain").stdout
    section = told.split("Drift reference\n")[1].split("\n\nProvenance")[0]
    assert "all validation samples, too few being known to be good" in section
    rows = [line.split() for line in section.splitlines() if "all  " in line or "fp32" in line]
    assert ["score", "openvino", "fp32", "60", "0.1", "1", "1.9"] in rows
    assert ["embedding", "onnxruntime", "fp32", "60", "0.55", "1", "1.45"] in rows
    assert ["light", "all", "60", "0.05", "0.5", "0.95"] in rows

    document = json.loads(lineside(*words, "--explain", "--json").stdout)["drift_reference"]
    assert (document["of"], document["parts"]) == ("all", 60.0)
    assert [row["statistic"] for row in document["statistics"]] == [
        *("score", "embedding", "score", "embedding", "light", "clipping", "focus")
    ]


def test_a_bundle_of_before_is_not_watched_and_says_why(tiny_bundle: TinyBundle) -> None:
    found = watch(tiny_bundle.path, tiny_bundle)
    assert (found.monitor, found.why_not) == (None, "no reference")
    told = lineside(
        *("verify", tiny_bundle.path, "--trust", tiny_bundle.public_key_path),
        *("--engine", "none", "--explain"),
    ).stdout
    assert "a station cannot watch for drift with this bundle" in told


def test_a_station_watches_the_form_that_it_runs(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    path = with_part(tiny_bundle, tmp_path / "a.lsb", encode_reference(reference()))
    found = watch(path, tiny_bundle)
    assert found.monitor is not None
    assert found.why_not == ""
    names = [statistic.name for statistic in found.monitor.state.statistics]
    assert names == ["score", "embedding", "light", "clipping", "focus"]

    off = watch(path, tiny_bundle, DriftSettings(enabled=False))
    assert (off.monitor, off.why_not) == (None, "disabled")


def test_health_hears_of_drift_in_ten_figures(tiny_bundle: TinyBundle, tmp_path: Path) -> None:
    path = with_part(tiny_bundle, tmp_path / "a.lsb", encode_reference(reference()))
    quick = DriftSettings(parts_per_false_alarm=1_000, block=4)
    found = watch(path, tiny_bundle, quick)
    before = drift_figures(found)
    assert before["watch"] == "on"
    assert (before["alarm"], before["since"], before["score_level"]) == ("", 0, 0.0)

    assert found.monitor is not None
    for _ in range(200):
        found.monitor.add(PartStatistics(score=9.0, embedding=1.0))
    after = drift_figures(found)
    assert len(after) == len(before) <= GROUP_LIMITS["drift"]
    assert (after["alarm"], after["since"], after["score_level"]) == ("score", 1, 1.0)
    assert (after["recent"], after["usual"]) == (9.0, pytest.approx(1.0))
    assert after["embedding_level"] < 1.0
    assert drift_figures(watch(tiny_bundle.path, tiny_bundle)) == {"watch": "no reference"}


@pytest.mark.parametrize("data", [b"", b"noise", encode_reference(reference())[:-1]])
def test_a_damaged_reference_is_refused(
    data: bytes, tiny_bundle: TinyBundle, tmp_path: Path
) -> None:
    path = with_part(tiny_bundle, tmp_path / "a.lsb", data)
    with pytest.raises(BundleFormatError, match=r"a\.lsb: drift\.msgpack: no drift reference"):
        watch(path, tiny_bundle)


def test_a_regions_statistics_are_gathered_from_its_inspection() -> None:
    spec = FrameSpec(size_hw=None, channels=1)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 1), np.uint8)
    outputs = {EMBEDDING_OUTPUT: np.asarray(2.5, np.float32), "value": np.zeros(3, np.float32)}

    found = part_statistics(pixels, spec, score=0.25, outputs=outputs)
    picture = measure_picture(pixels, spec)
    assert found == PartStatistics(score=0.25, embedding=2.5, picture=picture)
    lost = {EMBEDDING_OUTPUT: np.asarray(np.nan, np.float32)}
    assert part_statistics(pixels, spec, score=None, outputs=lost).embedding is None
    assert part_statistics(pixels, spec, score=None, outputs={}).embedding is None


def test_of_a_frame_that_is_none_only_the_picture_is_missing() -> None:
    spec = FrameSpec(size_hw=None, channels=3)
    gray = np.zeros((8, 8, 1), np.uint8)
    assert part_statistics(gray, spec, score=None, outputs={}) == PartStatistics()
