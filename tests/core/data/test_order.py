"""A pass has every clip; a group has one size; the order depends on the seed and the item only."""

import math

import pytest

from i2v_core.data.order import Order, bucket_sizes, nearest_size

BUCKETS = [[0, 3, 4, 9, 10], [1, 2, 5], [6, 7, 8, 11, 12, 13]]


def test_a_pass_without_buckets_is_a_permutation_and_no_two_are_alike() -> None:
    order = Order([range(40)], 1, 0)
    passes = [[order.place(around * len(order) + i) for i in range(len(order))] for around in range(3)]
    assert all(sorted(once) == list(range(40)) for once in passes)
    assert len({tuple(once) for once in passes}) == 3


@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_groups_are_of_one_bucket_and_a_pass_has_every_clip(group: int) -> None:
    order = Order(BUCKETS, group, 3)
    bucket_of = {clip: number for number, bucket in enumerate(BUCKETS) for clip in bucket}
    for around in range(2):
        places = [order.place(around * len(order) + i) for i in range(len(order))]
        assert set(places) == bucket_of.keys()
        assert len(places) == group * sum(math.ceil(len(bucket) / group) for bucket in BUCKETS)
        for first in range(0, len(places), group):
            assert len({bucket_of[clip] for clip in places[first : first + group]}) == 1


def test_the_order_depends_on_the_seed_and_the_item_only() -> None:
    first, again, other = (Order(BUCKETS, 2, seed) for seed in (0, 0, 1))
    assert [first.place(i) for i in range(40)] == [again.place(i) for i in reversed(range(40))][::-1]
    assert [first.place(i) for i in range(40)] != [other.place(i) for i in range(40)]


def test_a_substitute_is_of_the_same_bucket() -> None:
    order = Order(BUCKETS, 2, 0)
    bucket = next(bucket for bucket in BUCKETS if order.place(5) in bucket)
    assert {order.instead(5, attempt) for attempt in range(60)} == set(bucket)


def test_buckets_keep_the_area_and_cover_the_ratios() -> None:
    sizes = bucket_sizes(256, 256, 64)
    assert (256, 256) in sizes
    for height, width in sizes:
        assert height % 64 == width % 64 == 0
        assert 0.5 * 256 * 256 < height * width <= 256 * 256
        assert (width, height) in sizes
    assert nearest_size(720, 1280, sizes) == (192, 320)
    assert nearest_size(1280, 720, sizes) == (320, 192)
    assert nearest_size(500, 500, sizes) == (256, 256)
    with pytest.raises(ValueError, match=r"lower data\.bucket_step"):
        bucket_sizes(32, 32, 64)
