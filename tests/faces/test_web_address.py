"""Where the gateway may be reached is said in words that are checked before anything listens."""

import os
import socket
import stat
from pathlib import Path

import pytest

from geartrain.errors import BadValue, CannotServe
from geartrain.faces import web_address
from geartrain.faces.web_address import Bind, cannot_be_shown, listening, understood, url_of
from geartrain.rules.pipeline import DaemonSpec, PipelineSpec
from geartrain.rules.system import WEB_OBSERVER

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("said", "bind"),
    [
        ("127.0.0.1:8080", Bind("127.0.0.1", 8080)),
        ("localhost:0", Bind("localhost", 0)),
        ("[::1]:80", Bind("::1", 80)),
        ("unix:/run/me/vision", Bind(path="/run/me/vision")),
    ],
)
def test_an_address_on_this_machine_is_taken(said: str, bind: Bind) -> None:
    assert understood(said, None) == bind
    assert str(bind) == said


@pytest.mark.parametrize("said", ["", "8080", ":8080", "localhost", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536",
                                  "127.0.0.1:-1", "unix:", "unix:run/me"])  # fmt: skip
def test_what_is_no_address_is_refused_with_an_example(said: str) -> None:
    with pytest.raises(BadValue, match=r"HOST:PORT|unix:/"):
        understood(said, None)


@pytest.mark.parametrize("said", ["0.0.0.0:8080", "[::]:80", "10.0.0.1:80", "robot.local:80"])
def test_an_address_for_other_machines_needs_a_token(said: str) -> None:
    with pytest.raises(CannotServe, match="say token"):
        understood(said, None)
    assert not understood(said, TOKEN).is_loopback


@pytest.mark.parametrize("token", ["", "short", "with\nnewline-123456", "ümläute-ümläute-ü"])
def test_a_token_that_can_be_guessed_or_not_be_sent_is_refused(token: str) -> None:
    with pytest.raises(BadValue, match="at least 16"):
        understood("127.0.0.1:0", token)


def test_a_port_that_is_taken_is_said_to_be() -> None:
    with listening(Bind("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        with pytest.raises(CannotServe, match=f"127.0.0.1:{port} is taken"), listening(Bind("127.0.0.1", port)):
            pass


def test_a_host_that_there_is_not_is_said_to_be() -> None:
    with pytest.raises(CannotServe, match="cannot be served"), listening(Bind("203.0.113.7", 1)):
        pass


def test_port_0_becomes_one_that_can_be_typed() -> None:
    with listening(Bind("127.0.0.1", 0)) as opened:
        assert url_of(Bind("127.0.0.1", 0), opened) == f"http://127.0.0.1:{opened.getsockname()[1]}"


def test_a_socket_in_a_folder_is_this_users_and_goes_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "vision"
    with listening(Bind(path=str(path))):
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
        with pytest.raises(CannotServe, match="is taken"), listening(Bind(path=str(path))):
            pass
    assert not path.exists()


def test_a_socket_that_a_killed_gateway_has_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "vision"
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(path))
    dead.close()
    with listening(Bind(path=str(path))) as opened, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        opened.accept()[0].close()


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("mine")
    with pytest.raises(CannotServe), listening(Bind(path=str(path))):
        pass
    assert path.read_text() == "mine"


def shown(**config: str) -> PipelineSpec:
    daemon = DaemonSpec(name="observer", process="observer", run=WEB_OBSERVER, config=config)
    return PipelineSpec(name="vision", daemons=(daemon,), file="vision.toml")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"bind": "0.0.0.0:8080"}, "say token"),
        ({"bind": "nowhere"}, "HOST:PORT"),
        ({"bind": "127.0.0.1:0", "token": "short"}, "at least 16"),
    ],
)
def test_what_cannot_be_shown_is_a_fault_of_its_daemon_before_anything_starts(
    config: dict[str, str], said: str
) -> None:
    (fault,) = cannot_be_shown(shown(**config))
    assert str(fault).startswith("vision.toml: daemons.observer.config: ")
    assert said in fault.said


def test_a_port_that_is_taken_is_a_fault_and_one_that_is_free_stays_free() -> None:
    with listening(Bind("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        (fault,) = cannot_be_shown(shown(bind=bind))
        assert "is taken" in fault.said
    assert list(cannot_be_shown(shown(bind=bind))) == []
    assert list(cannot_be_shown(shown(bind=bind))) == []


def test_without_the_extra_the_fault_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_address, "NEEDED", ("geartrain_not_installed",))
    (fault,) = cannot_be_shown(shown(bind="127.0.0.1:0"))
    assert "pip install 'geartrain[web]'" in fault.said
