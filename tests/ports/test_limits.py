"""The limit on descriptors: raised as far as it goes, and a word at the start when that is too little."""

import os
import resource
from collections.abc import Iterator

import pytest

from geartrain.errors import LimitTooLow
from geartrain.ports.limits import need_descriptors, raise_descriptor_limit


@pytest.fixture(autouse=True)
def limit() -> Iterator[int]:
    """The hard limit; the soft one is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_soft_limit_is_raised_to_the_hard_one(limit: int) -> None:
    assert raise_descriptor_limit() == limit
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit, limit)
    assert raise_descriptor_limit() == limit


def test_what_fits_is_let_through(limit: int) -> None:
    need_descriptors(limit - len(os.listdir("/proc/self/fd")) - 10)


def test_what_does_not_fit_is_refused_in_words_at_the_start(limit: int) -> None:
    with pytest.raises(LimitTooLow, match=rf"needs about {limit} descriptors more than .* the limit is {limit}; raise"):
        need_descriptors(limit)
