"""Regions: one spelling each, and whether two of them meet, against sets of files."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geartrain.errors import BadType, BadValue
from geartrain.rules.regions import ALL, CASES, MOST_BYTES, Case, canonical, covers, key_of, meet


def do_meet(one: str, other: str, case: Case = "fold") -> bool:
    return meet(key_of(canonical(one), case), key_of(canonical(other), case))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("workcell/left", "workcell/left"),
        ("./workcell//left/", "workcell/left"),
        ("/workcell/right/../left/.", "workcell/left"),
        ("a/b/../../c", "c"),
        ("Cafe\u0301/x", "Caf\u00e9/x"),
        (".hidden/..a/...", ".hidden/..a/..."),
        ("my cell/left", "my cell/left"),
        ("src/ab*", "src/ab*"),
        ("src/ab?/x", "src/ab*"),
        ("src/[ab]/x", "src"),
        ("src/{a,b}", "src"),
        ("src/**/*.py", "src"),
        ("..*", "..*"),
        ("a/../b*", "b*"),
        ("/", ALL),
        (".", ALL),
        ("**", ALL),
        ("a/..", ALL),
        ("lock://gpu", "lock://gpu"),
        ("lock://gpu 0", "lock://gpu 0"),
        ("lock:/gpu", "lock:/gpu"),
    ],
)
def test_a_region_has_one_spelling_and_keeps_it(written: str, meant: str) -> None:
    assert canonical(written) == meant
    assert canonical(meant) == meant


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("", "empty"),
        (" a", "begins or ends with a space"),
        ("a ", "begins or ends with a space"),
        ("a /b", "begins or ends with a space"),
        ("..", "beyond the root"),
        ("a/../../b", "beyond the root"),
        ("a*/../b", "behind a pattern"),
        ("a\\b", "backslash"),
        ("http://a", "lock://NAME"),
        ("Lock://a", "lock://NAME"),
        ("a/lock://b", "lock://NAME"),
        ("lock://", "a lock has a name"),
        ("lock://a/b", "a lock has a name"),
        ("lock://a*", "a lock has a name"),
        ("lock:// a", "a lock has a name"),
        ("a" * (MOST_BYTES + 1), "longer than 1024 bytes"),
        ("\u00e9" * MOST_BYTES, "longer than 1024 bytes"),
    ],
)
def test_what_names_no_region_is_refused_by_name(written: str, said: str) -> None:
    with pytest.raises(BadValue, match=said) as caught:
        canonical(written)
    assert repr(written[:20])[1:-1] in str(caught.value)


@pytest.mark.parametrize(
    ("character", "said"),
    [
        ("\u2028", "U+2028, a line separator"),
        ("\u2029", "U+2029, a paragraph separator"),
        ("\u0085", "U+0085, a control character"),
        ("\n", "U+000A, a control character"),
        ("\r", "U+000D, a control character"),
        ("\0", "U+0000, a control character"),
        ("\x1c", "U+001C, a control character"),
        ("\x7f", "U+007F, a control character"),
        ("\u00a0", "U+00A0, a space other than"),
        ("\u200b", "U+200B, an invisible character"),
        ("\ufeff", "U+FEFF, an invisible character"),
        ("\ud800", "U+D800, half of a surrogate pair"),
        ("\u0378", "U+0378, no assigned character"),
    ],
)
@pytest.mark.parametrize("around", ["a{}b", "lock://a{}b", "{}", "a*{}"])
def test_a_separator_or_what_nobody_sees_is_refused_and_named(character: str, said: str, around: str) -> None:
    with pytest.raises(BadValue) as caught:
        canonical(around.format(character))
    assert said in str(caught.value)


@pytest.mark.parametrize("character", [chr(code) for code in range(0x3100) if len(f"a{chr(code)}b".splitlines()) > 1])
def test_no_character_that_ends_a_line_gets_through(character: str) -> None:
    with pytest.raises(BadValue):
        canonical(f"a{character}b")


def test_a_region_is_text() -> None:
    with pytest.raises(BadType, match="a region must be text, got 5"):
        canonical(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other", "they_do"),
    [
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "ab", False),
        ("a/b", "a/c", False),
        ("a*", "ab", True),
        ("a*", "a", True),
        ("ab*", "a", False),
        ("ab*", "a/b", False),
        ("a/b*", "a", True),
        ("a*", "ab*", True),
        ("ab*", "ac*", False),
        ("/", "a", True),
        ("/", "b*", True),
        ("/", "lock://a", False),
        ("lock://a", "lock://a", True),
        ("lock://a", "lock://ab", False),
        ("lock://a", "a", False),
        ("lock:", "lock://a", False),
        ("./a", "a", True),
        ("a//b", "a/b", True),
        ("x/../a", "a", True),
        ("/a", "a", True),
        ("\u00e9", "e\u0301", True),
        ("{a,b}", "a", True),
        ("a?c", "abc", True),
        ("[a]", "a", True),
    ],
)
def test_two_regions_meet_or_do_not_whoever_asks(one: str, other: str, they_do: bool) -> None:
    assert do_meet(one, other) is they_do
    assert do_meet(other, one) is they_do


def test_case_is_folded_unless_it_is_said_to_matter() -> None:
    assert do_meet("Work/Left", "work/LEFT")
    assert not do_meet("Work/Left", "work/LEFT", "keep")
    assert do_meet("Stra\u00dfe", "STRASSE")
    assert do_meet("lock://GPU", "lock://gpu")


# -- at random --------------------------------------------------------------------------------------------------------

names = st.text("abAB.\u00e9e\u0301*?[{ -", min_size=1, max_size=3)
written = st.lists(names | st.just("."), min_size=1, max_size=4).map("/".join)
FILES = [f"{a}/{b}" for a in ("a", "ab", "b", "e", "\u00e9") for b in ("a", "ab", "b")] + ["a", "ab", "b", "e"]


def known(text: str) -> str | None:
    try:
        return canonical(text)
    except BadValue:
        return None


@given(written | st.text(max_size=8))
def test_whatever_is_written_is_refused_or_has_one_spelling(text: str) -> None:
    region = known(text)
    if region is not None:
        assert canonical(region) == region
        assert known(unicodedata.normalize("NFD", text)) == region
        for case in CASES:
            assert do_meet(text, region, case)


@given(written)
def test_a_detour_leads_to_the_same_region(text: str) -> None:
    region = known(text)
    if region is not None and not text.startswith("/"):
        assert {known(f"./{text}"), known(f"/{text}"), known(f"x/../{text}"), known(f"x/.././/{text}")} == {region}


@given(written, written, st.sampled_from(CASES))
def test_two_regions_meet_if_there_is_a_file_that_lies_in_both(one: str, other: str, case: Case) -> None:
    """That they do not meet is what must be true; a region without any of these files may meet another."""
    first, second = known(one), known(other)
    if first is not None and second is not None:
        keys = key_of(first, case), key_of(second, case)
        both = [file for file in FILES if all(covers(key, key_of(file, case)) for key in keys)]
        assert meet(*keys) or not both
        assert meet(*keys) == meet(*reversed(keys))
        assert meet(*keys) == (covers(*keys) or covers(*reversed(keys)))


@given(st.text(min_size=1, max_size=6))
def test_folding_says_what_it_says_once_and_for_all(text: str) -> None:
    region = known(text)
    if region is not None and not region.startswith("lock:") and region != ALL:
        upper = known(region.upper())
        lower = known(region.lower())
        key = key_of(region)
        assert key_of(key.strip("/") or ALL) in (key, f"{key}/")
        for other in (upper, lower):
            if other is not None and unicodedata.normalize("NFC", other.casefold()) == region.casefold():
                assert key_of(other) == key
