"""What `faulthandler` writes is understood, of every Python."""

import pytest

from geartrain.rules.stacks import StackPlace, ThreadStack, threads_in

TEXT = """\
Thread 0x00007fe8534166c0 (most recent call first):
  File "/x/lifeline.py", line 58 in _watch

Current thread 0x00007fe854dc0b80 (most recent call first):
  File "a "strange" name, line 3 in it.py", line 20 in run
  File "<string>", line ??? in <module>
"""


def test_the_interrupted_thread_comes_first_and_its_last_call_on_top() -> None:
    assert threads_in(TEXT) == (
        ThreadStack(
            "0x00007fe854dc0b80",
            True,
            (StackPlace('a "strange" name, line 3 in it.py', 20, "run"), StackPlace("<string>", 0, "<module>")),
        ),
        ThreadStack("0x00007fe8534166c0", False, (StackPlace("/x/lifeline.py", 58, "_watch"),)),
    )


def test_a_thread_has_a_name_where_python_tells_it() -> None:
    (thread,) = threads_in("Thread 0x1f [geartrain lifeli] (most recent call first):\n  <no Python frame>\n")
    assert thread == ThreadStack("0x1f", False, (), "geartrain lifeli")


@pytest.mark.parametrize("text", ["", "\n", "nothing of the kind\n", '  File "x", line 1 in f\n'])
def test_what_is_no_stack_is_none(text: str) -> None:
    assert threads_in(text) == ()
