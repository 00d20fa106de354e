"""An observer that shows what it sees says why when it cannot, and where it is only declared it needs nothing."""

import sys
from pathlib import Path

import anyio
import pytest

from geartrain import Supervisor
from geartrain.engine.declare import signature_of
from geartrain.errors import BadValue, CannotServe, DaemonError
from geartrain.faces.gateway import WebObserver
from geartrain.faces.web_address import BIND, Bind, listening
from geartrain.rules.pipeline import DaemonSpec
from geartrain.rules.system import WEB_OBSERVER
from tests.faces.conftest import Told
from tests.faces.web_parts import Line
from tests.ports.written_runs import WrittenRun
from tests.rules import looks

PATIENCE_S = 20


@pytest.fixture
def run(tmp_path: Path) -> WrittenRun:
    made = WrittenRun(tmp_path, looks.pipeline("frames: camera -> sink"))
    for name in ("camera", "sink"):
        made.process(name)
    return made


async def why_it_does_not_start(observer: WebObserver) -> BaseException:
    with anyio.fail_after(PATIENCE_S), pytest.raises(ExceptionGroup) as failed:
        async with Supervisor() as supervisor:
            supervisor.add_factory(lambda: observer, name="observer")
    (error,) = failed.value.exceptions
    assert isinstance(error, DaemonError)
    assert error.__cause__ is not None
    return error.__cause__


async def test_it_shows_what_it_sees_and_leaves_nothing_behind(run: WrittenRun, tmp_path: Path) -> None:
    path = tmp_path / "shown"
    with anyio.fail_after(PATIENCE_S):
        async with Supervisor() as supervisor:
            supervisor.add_factory(lambda: WebObserver(run.memory(), bind=f"unix:{path}"), name="observer")
            await supervisor.wait_all_started()
            async with await anyio.connect_unix(path) as stream:
                line = Line(stream)
                while (answer := await line.ask("/api/v1/components")).status == 503:
                    await anyio.sleep(0.01)
                assert [entity["id"] for entity in answer.json()["items"]] == ["camera", "sink"]
                assert (await line.ask("/api/v1/graph")).json()["edges"][0]["source"] == "camera"
                assert (await line.ask("/api/v1/logs?process=camera")).json()["lines"] == []
                assert (await line.ask("/metrics")).status == 200
            await supervisor.stop()
    assert not path.exists()


async def test_a_port_that_is_taken_is_refused_at_the_start(run: WrittenRun) -> None:
    with listening(Bind("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = await why_it_does_not_start(WebObserver(run.memory(), bind=f"127.0.0.1:{port}"))
    assert isinstance(error, CannotServe)
    assert "is taken" in str(error)


async def test_without_the_extra_it_says_what_to_install(run: WrittenRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette", None)
    for name in [name for name in sys.modules if name.startswith(("geartrain.faces.web_", "starlette."))]:
        monkeypatch.delitem(sys.modules, name)
    error = await why_it_does_not_start(WebObserver(run.memory(), bind="127.0.0.1:0"))
    assert isinstance(error, CannotServe)
    assert "starlette is needed" in str(error)
    assert "pip install 'geartrain[web]'" in str(error)


@pytest.mark.parametrize(("bind", "token"), [("0.0.0.0:8080", None), ("nowhere", None), (BIND, "short")])
def test_what_may_not_be_served_is_refused_when_it_is_made(run: WrittenRun, bind: str, token: str | None) -> None:
    with pytest.raises((CannotServe, BadValue)):
        WebObserver(run.memory(), bind=bind, token=token)


def test_it_serves_the_others_and_is_none_of_them() -> None:
    assert DaemonSpec(name="observer", process="observer", run=WEB_OBSERVER).is_system
    module, _, name = WEB_OBSERVER.partition(":")
    assert (module, name) == (WebObserver.__module__, WebObserver.__name__)


def test_a_file_may_say_where_it_is_and_whom_it_lets_in() -> None:
    config = {field.name for field in signature_of(WebObserver).config}
    assert {"bind", "token", "allow_hosts", "poll", "hang"} <= config


async def test_who_only_declares_it_imports_nothing_of_the_web() -> None:
    code = (
        "import sys; import geartrain.faces.gateway; "
        "print({'starlette', 'anycorn', 'prometheus_client', 'h11', 'click', 'rich'} & set(sys.modules))"
    )
    result = await anyio.run_process([sys.executable, "-c", code])
    assert result.stdout == b"set()\n"


def test_a_run_that_cannot_be_shown_does_not_begin_and_says_why(told: Told) -> None:
    with listening(Bind("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        done = told("run", "tests/faces/counting.toml", f"--observe={bind}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"{bind} is taken by somebody else: stop that one, or say another address\n")
    assert "Traceback" not in done.stderr
