"""Who has claims that meet a region: against all of them, one by one."""

import random

import pytest

from geartrain.rules.lease_index import Index, Place, place_of
from geartrain.rules.lease_words import Claim, Mode
from geartrain.rules.regions import canonical, meet

REGIONS = ["/", "a", "a/b", "a/b/c", "a/bc", "a/b*", "a*", "ab", "ab/c", "b", "b/a*", "lock://a", "lock://b", "é/x"]


def place(region: str, mode: Mode = "x") -> Place:
    return place_of(Claim(canonical(region), mode), "fold")


@pytest.mark.parametrize(
    ("region", "key", "folders"),
    [
        ("a", "/a/", ("/",)),
        ("A/b/c", "/a/b/c/", ("/", "/a/", "/a/b/")),
        ("a/b*", "/a/b", ("/", "/a/")),
        ("a*", "/a", ("/",)),
        ("/", "/", ()),
        ("lock://A", "lock://a/", ()),
    ],
)
def test_a_place_knows_the_folders_on_its_way(region: str, key: str, folders: tuple[str, ...]) -> None:
    found = place(region)
    assert (found.key, found.folders) == (key, folders)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_found_is_what_one_would_find_by_looking_at_all(seed: int) -> None:
    chance = random.Random(seed)
    index = Index()
    there: dict[int, tuple[Place, ...]] = {}
    for who in range(300):
        if there and chance.random() < 0.45:
            gone = chance.choice(list(there))
            index.remove(gone, there.pop(gone))
        else:
            regions = chance.sample(REGIONS, chance.randint(1, 3))
            there[who] = tuple(place(region, chance.choice(("x", "s"))) for region in regions)
            index.add(who, there[who])
        wanted = place(chance.choice(REGIONS), chance.choice(("x", "s")))
        naive = {
            (other, its.key)
            for other, places in there.items()
            for its in places
            if meet(its.key, wanted.key) and "x" in (its.claim.mode, wanted.claim.mode)
        }
        found = [(other, its.key) for other, its in index.in_the_way((wanted,))]
        assert sorted(found) == sorted(naive)
        assert index.is_free((wanted,)) == (not naive)


def test_when_all_have_gone_nothing_is_left() -> None:
    index = Index()
    for who, region in enumerate(REGIONS):
        index.add(who, (place(region),))
    for who, region in enumerate(REGIONS):
        index.remove(who, (place(region),))
    tier = index._exclusive
    assert (tier._at, tier._below, tier._open_lengths) == ({}, {}, {})
