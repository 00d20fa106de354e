"""One place for the checks of arguments: who was asked, what was expected, what was met."""

import math

import pytest

from geartrain.errors import BadType, BadValue, GeartrainError
from geartrain.rules.checks import number, one_of, whole


@pytest.mark.parametrize("value", [0, 1, -1, 0.5, -2.5, 1e300, math.inf, -math.inf])
def test_any_number_that_is_not_nan_is_a_number(value: float) -> None:
    assert number("x", value) is value


@pytest.mark.parametrize(("least", "most", "good"), [(0, math.inf, [0, 0.0, 7, math.inf]), (0, 1, [0, 1, 0.5])])
def test_bounds_belong_to_what_is_allowed(least: float, most: float, good: list[float]) -> None:
    assert [number("x", value, least=least, most=most) for value in good] == good


@pytest.mark.parametrize(
    ("value", "least", "most", "said"),
    [
        (math.nan, -math.inf, math.inf, "delay must be a number that is not NaN, got nan"),
        (math.nan, 0, math.inf, "delay must be >= 0, got nan"),
        (-0.1, 0, math.inf, "delay must be >= 0, got -0.1"),
        (-math.inf, 0, math.inf, "delay must be >= 0, got -inf"),
        (1.5, 0, 1, "delay must be from 0 to 1, got 1.5"),
        (math.nan, 0, 1, "delay must be from 0 to 1, got nan"),
        (0.1, 0.25, math.inf, "delay must be >= 0.25, got 0.1"),
    ],
)
def test_a_number_out_of_bounds_is_refused_with_the_bounds(value: float, least: float, most: float, said: str) -> None:
    with pytest.raises(BadValue) as refusal:
        number("delay", value, least=least, most=most)
    assert str(refusal.value) == said


@pytest.mark.parametrize("value", [True, False, "1", None, 1j, [1]])
def test_what_is_no_number_is_refused_as_a_type_a_bool_too(value: object) -> None:
    with pytest.raises(BadType) as refusal:
        number("delay", value)
    assert str(refusal.value) == f"delay must be a number, got {value!r}"


def test_a_whole_number_is_given_back() -> None:
    assert [whole("workers", value, least=1) for value in (1, 2, 10**30)] == [1, 2, 10**30]


@pytest.mark.parametrize("value", [True, 1.0, "1", None, math.inf])
def test_what_is_no_whole_number_is_refused_as_a_type(value: object) -> None:
    with pytest.raises(BadType) as refusal:
        whole("workers", value, least=1)
    assert str(refusal.value) == f"workers must be a whole number, got {value!r}"


@pytest.mark.parametrize("value", [0, -1])
def test_too_small_a_whole_number_is_refused_with_the_least(value: int) -> None:
    with pytest.raises(BadValue) as refusal:
        whole("workers", value, least=1)
    assert str(refusal.value) == f"workers must be >= 1, got {value}"


def test_a_known_word_is_accepted() -> None:
    one_of("policy", "block", ("block", "latest"))


@pytest.mark.parametrize(("value", "kind"), [("blok", BadValue), ("", BadValue), (None, BadType), (1, BadType)])
def test_a_misspelt_word_is_refused_with_all_the_words_there_are(value: object, kind: type[Exception]) -> None:
    with pytest.raises(kind) as refusal:
        one_of("policy", value, ("block", "latest"))
    assert str(refusal.value) == f"policy must be one of 'block', 'latest', got {value!r}"


def test_refusals_are_also_the_errors_python_would_raise() -> None:
    assert issubclass(BadValue, ValueError)
    assert issubclass(BadType, TypeError)
    assert issubclass(BadValue, GeartrainError)
    assert issubclass(BadType, GeartrainError)
