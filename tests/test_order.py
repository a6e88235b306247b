import numpy as np
import pytest

from data_pipelines.order import RecordOrder, interleave, quotas


def walk(order, count, start=0):
    return np.array([order(position) for position in range(start, start + count)])


def test_without_weights_each_record_of_every_part_comes_once_an_epoch():
    order = RecordOrder([7, 3], seed=1, shuffle=True)
    epochs = walk(order, 30).reshape(3, 10)
    assert np.array_equal(np.sort(epochs), np.tile(np.arange(10), (3, 1)))
    assert not np.array_equal(epochs[0], epochs[1])


def test_weights_give_exact_shares_of_an_epoch_and_every_part_its_own_passes():
    order = RecordOrder([50, 9, 41], seed=1, shuffle=True, weights=[1, 2, 1])
    assert order.quotas == (25, 50, 25)
    stream = walk(order, 300)  # three epochs
    part = np.searchsorted(order.offsets, stream, side="right") - 1
    for epoch in part.reshape(3, 100):
        assert np.bincount(epoch).tolist() == [25, 50, 25]
    for number, size in enumerate(order.sizes):
        own = stream[part == number]
        whole = own[: len(own) // size * size].reshape(-1, size)  # its passes
        assert len(whole)
        assert np.array_equal(
            np.sort(whole) - order.offsets[number], np.tile(range(size), (len(whole), 1))
        )
        rest = own[len(whole) * size :]
        assert len(set(rest)) == len(rest)


def test_parts_are_spread_evenly():
    part, rank = interleave((25, 50, 25))
    for start in range(0, 100, 4):
        assert np.bincount(part[start : start + 4], minlength=3).tolist() == [1, 2, 1]
    for number in range(3):
        assert np.array_equal(rank[part == number], np.arange((25, 50, 25)[number]))


@pytest.mark.parametrize(
    "sizes, weights, expected",
    [
        ([10, 20, 30], [10, 20, 30], (10, 20, 30)),
        ([5, 5], [2, 1], (7, 3)),  # 6.67 and 3.33
        ([1, 1, 1], [1, 1, 1], (1, 1, 1)),
        ([290_000, 10_030], [0.9, 0.1], (270_027, 30_003)),
    ],
)
def test_quotas_are_the_largest_remainders(sizes, weights, expected):
    assert quotas(sizes, weights) == expected


def test_unshuffled_parts_follow_each_other_whatever_their_weights():
    order = RecordOrder([2, 3], seed=0, shuffle=False, weights=[1, 9])
    assert walk(order, 10).tolist() == [*range(5), *range(5)]
