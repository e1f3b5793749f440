"""The order of images is a function of seed and epoch: resumable, shardable, whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lineside_trainer.data import Batches, ImageStore
from lineside_trainer.errors import DataError

STORED = 60


def make_store(count: int = STORED) -> ImageStore:
    """Image k holds the value k everywhere."""
    values = torch.arange(count, dtype=torch.uint8)
    return ImageStore(images_nhwc=values[:, None, None, None].expand(count, 4, 3, 1).contiguous())


def make(
    indices: list[int],
    *,
    batch_size: int = 8,
    seed: int = 1,
    shuffle: bool = True,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    targets: np.ndarray | None = None,
) -> Batches:
    return Batches(
        make_store(),
        np.array(indices, dtype=np.int64),
        targets,
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        drop_last=drop_last,
        rank=rank,
        world_size=world_size,
    )


def positions(batches: Batches) -> list[list[int]]:
    return [batch.positions.tolist() for batch in batches]


row_sets = st.lists(st.integers(0, STORED - 1), min_size=1, max_size=STORED, unique=True)


@settings(max_examples=60, deadline=None)
@given(row_sets, st.integers(1, 70), st.booleans(), st.integers(0, 2**31))
def test_an_epoch_shows_every_image_once(
    rows: list[int], batch_size: int, shuffle: bool, seed: int
) -> None:
    batches = make(rows, batch_size=batch_size, shuffle=shuffle, seed=seed)
    for _ in range(2):
        seen = positions(batches)
        assert len(seen) == len(batches)
        assert sorted(itertools.chain(*seen)) == sorted(rows)
        assert all(len(batch) == min(batch_size, len(rows)) for batch in seen[:-1])
        if not shuffle:
            assert list(itertools.chain(*seen)) == rows


def test_a_batch_holds_images_targets_and_positions_of_the_same_rows() -> None:
    targets = np.arange(STORED) / 10
    for batch in make(list(range(5, 50)), targets=targets):
        assert batch.images_nhwc.dtype == torch.uint8
        assert batch.images_nhwc.shape[1:] == (4, 3, 1)
        assert torch.equal(batch.images_nhwc[:, 0, 0, 0].long(), batch.positions)
        assert batch.targets.dtype == torch.float32
        assert np.allclose(batch.targets.numpy() * 10, batch.positions.numpy(), atol=1e-5)
        assert batch.positions.dtype == torch.int64


def test_without_targets_they_are_nan() -> None:
    assert all(batch.targets.isnan().all() for batch in make([1, 2, 3]))


def test_epochs_differ_and_seeds_differ() -> None:
    batches = make(list(range(STORED)))
    first, second = positions(batches), positions(batches)
    assert first != second
    assert positions(make(list(range(STORED)))) == first
    assert positions(make(list(range(STORED)), seed=2)) != first


@pytest.mark.parametrize("stop", range(17))
@pytest.mark.parametrize("drop_last", [True, False])
def test_resumed_anywhere_it_goes_on_alike(stop: int, drop_last: bool) -> None:
    """Two epochs and a half of 7 or 8 batches, stopped after every single one."""

    def endless(batches: Batches):  # type: ignore[no-untyped-def]
        while True:
            yield from batches

    whole = endless(make(list(range(STORED)), drop_last=drop_last))
    expected = [next(whole).positions.tolist() for _ in range(20)]
    first = make(list(range(STORED)), drop_last=drop_last)
    going = endless(first)
    seen = [next(going).positions.tolist() for _ in range(stop)]
    state = first.state_dict()
    second = make(list(range(STORED)), drop_last=drop_last)
    second.load_state_dict(state)
    resumed = endless(second)
    seen += [next(resumed).positions.tolist() for _ in range(20 - stop)]
    assert seen == expected


def test_an_epoch_that_was_left_early_is_not_gone_on_with() -> None:
    """A sanity check that looks at two batches must not shorten the next pass."""
    batches = make(list(range(STORED)), shuffle=False)
    going = iter(batches)
    next(going)
    assert len(positions(batches)) == len(batches)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "seed 1, now it is 2"),
        ({"batch_size": 4}, "batch_size 8, now it is 4"),
        ({"shuffle": False}, "shuffle 1, now it is 0"),
        ({"drop_last": True}, "drop_last 0, now it is 1"),
        ({"indices": [1, 2, 3] * 4}, "images 60, now it is 12"),
    ],
)
def test_a_state_of_other_settings_is_refused(change: dict[str, object], message: str) -> None:
    state = make(list(range(STORED))).state_dict()
    other = make(**{"indices": list(range(STORED)), **change})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        other.load_state_dict(state)


@settings(max_examples=60, deadline=None)
@given(row_sets, st.integers(1, 5), st.integers(1, 8), st.booleans())
def test_processes_share_what_one_would_see(
    rows: list[int], world_size: int, share: int, drop_last: bool
) -> None:
    settings_ = {"batch_size": share * world_size, "drop_last": drop_last}
    alone = positions(make(rows, **settings_))  # type: ignore[arg-type]
    ranks = [
        positions(make(rows, rank=rank, world_size=world_size, **settings_))  # type: ignore[arg-type]
        for rank in range(world_size)
    ]
    assert {len(seen) for seen in ranks} == {len(alone)}
    for step, batch in enumerate(alone):
        shared = [seen[step] for seen in ranks]
        assert len({len(slice_) for slice_ in shared}) == 1, "a process would wait for ever"
        union = list(itertools.chain(*shared))
        assert union[: len(batch)] == batch
        assert len(union) - len(batch) < world_size


def test_the_short_last_batch() -> None:
    rows = list(range(20))
    assert [len(batch) for batch in positions(make(rows, drop_last=False))] == [8, 8, 4]
    assert [len(batch) for batch in positions(make(rows, drop_last=True))] == [8, 8]
    # Fewer images than a batch: dropping them would train on nothing.
    assert [len(batch) for batch in positions(make(rows[:5], drop_last=True))] == [5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": []}, "no images"),
        ({"indices": [STORED]}, "rows 60..60 of a store with 60"),
        ({"indices": [-1]}, "rows -1"),
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": 9, "world_size": 2}, "must be a multiple"),
        ({"world_size": 2, "rank": 2}, "rank 2"),
        ({"targets": np.zeros(3)}, "3 targets for 60 images"),
        ({"targets": np.full(STORED, np.nan)}, "3 of 3 images have no target"),
    ],
)
def test_what_cannot_be_iterated_is_refused_at_once(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        make(**{"indices": [0, 1, 2], **change})  # type: ignore[arg-type]
