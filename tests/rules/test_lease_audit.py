"""Lines of the audit come back as they were, and others are passed over."""

from geartrain.rules.lease_audit import Audited, audited_in, line_of
from geartrain.rules.lease_words import Claim, Note, Noted, Refusal, Refused

NOTED = Audited(1, Noted(2, Note(3, "halt", "stop \u2028 \u0085 \n it")))
REFUSED = Audited(4, Refused(5, (Claim("left"),), Refusal(6, 7, "conflict", "it is taken")))


def test_lines_come_back_whatever_separators_stand_in_them() -> None:
    assert audited_in(line_of(NOTED) + line_of(REFUSED)) == (NOTED, REFUSED)


def test_a_line_that_was_not_finished_and_one_that_is_none_are_passed_over() -> None:
    text = line_of(NOTED) + b"{}\n" + b"\xff\n" + b"[" * 10_000 + b"\n" + line_of(REFUSED) + line_of(NOTED)[:-9]
    assert audited_in(text) == (NOTED, REFUSED)
