"""What is written as TOML is read back as the same."""

import math
import tomllib
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geartrain.errors import BadValue
from geartrain.faces.toml import toml_text

# TOML text is of Unicode scalar values.
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
PLAIN = TEXT | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans()
DEEP = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=8
)


@settings(max_examples=50)
@given(st.dictionaries(TEXT, st.dictionaries(TEXT, DEEP, max_size=3), max_size=3))
def test_any_tables_of_tables_come_back_the_same(tables: dict[str, dict[str, object]]) -> None:
    present = {name: table for name, table in tables.items() if table}
    assert tomllib.loads(toml_text(tables)) == present


def test_numbers_that_are_none_and_times_come_back_too() -> None:
    read = tomllib.loads(toml_text({"a": {"x": math.nan, "y": [math.inf, -math.inf], "z": datetime(2026, 1, 2)}}))["a"]
    assert math.isnan(read["x"])
    assert (read["y"], read["z"]) == ([math.inf, -math.inf], datetime(2026, 1, 2))


def test_nothing_cannot_be_said_in_toml() -> None:
    with pytest.raises(BadValue, match="TOML has no word for nothing"):
        toml_text({"a": {"x": None}})
