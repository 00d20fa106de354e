"""What can be seen of a process from outside."""

import os
import subprocess
import sys

from geartrain.ports.process_table import command_of, has_ended, has_in_environment

NOBODY = 2**22 - 1


def test_the_environment_and_the_words_that_a_process_was_started_with_are_seen() -> None:
    words = [sys.executable, "-c", "import sys; print('here', flush=True); sys.stdin.read()"]
    environment = os.environ | {"MARK": "a7"}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert has_in_environment(process.pid, "MARK", "a7")
        assert not has_in_environment(process.pid, "MARK", "a")
        assert command_of(process.pid) == " ".join(words)
        assert not has_ended(process.pid, within_s=0)
        process.kill()
        assert has_ended(process.pid, within_s=10)
    assert not has_in_environment(NOBODY, "MARK", "a7")
    assert (command_of(NOBODY), has_ended(NOBODY, within_s=0)) == ("", True)
