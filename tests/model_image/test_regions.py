"""Runs of places: never two owners for one place, and nothing lost."""

from hypothesis import given
from hypothesis import strategies as st

from model_image.batching.regions import Region, Regions

orders = st.lists(st.tuples(st.sampled_from(["take", "give", "extend"]), st.integers(1, 40)), max_size=60)


@given(orders)
def test_no_place_has_two_owners_and_none_is_lost(wanted: list[tuple[str, int]]) -> None:
    regions, held = Regions(200), list[Region]()
    for order, number in wanted:
        if order == "take":
            taken = regions.take(number)
            assert taken is None or taken.size == number
            held += [taken] if taken else []
        elif held and order == "give":
            regions.give_back(held.pop(number % len(held)))
        elif held:
            place = number % len(held)
            longer = regions.extend(held[place], held[place].size + number)
            if longer is not None:
                assert (longer.start, longer.size) == (held[place].start, held[place].size + number)
                held[place] = longer
        owners = [place for region in held for place in range(region.start, region.end)]
        assert len(set(owners)) == len(owners)
        assert all(0 <= place < 200 for place in owners)
        assert regions.would_fit(200, held)
        assert not regions.would_fit(201, held)
        assert not regions.would_fit(201 - len(owners), [])

    for region in held:
        regions.give_back(region)
    assert regions.take(200) == Region(0, 200)


def test_what_is_given_back_joins_its_neighbours() -> None:
    regions = Regions(30)
    first, second, third = (regions.take(10) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None
    assert regions.take(1) is None

    regions.give_back(first)
    regions.give_back(third)
    assert regions.take(11) is None
    regions.give_back(second)

    assert regions.take(30) == Region(0, 30)
