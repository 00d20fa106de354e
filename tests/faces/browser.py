"""Headless Chromium, driven through chromedriver's own HTTP interface (W3C WebDriver) by the standard library.

with browser() as page:             one chromedriver, one Chromium, one empty profile
    page.go("http://...")
    page.wait("return document.title == 'x'")       asked again and again within the page, until it is so
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
MISSING = "chromium and chromedriver are not installed: apt-get install chromium chromium-driver"

# It is for pages of this machine: it looks nothing up, fetches nothing, and updates nothing.
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--lang=en",
)  # fmt: skip

KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014",
        "Down": "\ue015", "Shift": "\ue008", "Space": " "}  # fmt: skip

WAIT_S = 20.0


class Browser:
    """One window. What a script returns is whatever JSON makes of it."""

    def __init__(self, driver: str, session: str) -> None:
        self._session = f"{driver}/session/{session}"

    def go(self, url: str) -> None:
        self._post("/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        return self._post("/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: object, within_s: float = WAIT_S) -> Any:
        """What the script returns, as soon as that is true. The page looks each time it is about to be painted."""
        look = f"""
            const done = arguments[arguments.length - 1], until = performance.now() + {within_s * 1000};
            const look = () => (function() {{ {script} }}).apply(null, [...arguments].slice(0, -1));
            const again = () => {{
                let found; try {{ found = look(); }} catch (error) {{ found = null; }}
                if (found || performance.now() > until) done(found || null); else setTimeout(again, 10);
            }};
            again();
        """
        found = self._post("/execute/async", {"script": look, "args": list(arguments)})
        assert found, f"not within {within_s} s: {script}; the page says:\n{self.text[:1500]}"
        return found

    @property
    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def press(self, *keys: str) -> None:
        """One after the other; "Shift+Tab" holds the first."""
        actions = []
        for key in keys:
            chord = [KEYS.get(name, name) for name in key.split("+")]
            actions += [{"type": "keyDown", "value": name} for name in chord]
            actions += [{"type": "keyUp", "value": name} for name in reversed(chord)]
        self._post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def size(self, width: int, height: int, *, scale: float = 1, phone: bool = False) -> None:
        self.tell(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone},
        )

    def prefer(self, scheme: str) -> None:
        """What the system of who looks has: "light" or "dark"."""
        self.tell("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})

    def picture(self, path: Path, *, whole: bool = False) -> None:
        found = self.tell(
            "Page.captureScreenshot",
            {"format": "png", "captureBeyondViewport": whole, "clip": None} | self._clip(whole),
        )
        path.write_bytes(base64.b64decode(found["data"]))

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        width, height = self.run("return [document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        return {"clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}}

    def tell(self, command: str, parameters: Mapping[str, object]) -> Any:
        """A command of Chromium's own protocol."""
        known = {name: value for name, value in parameters.items() if value is not None}
        return self._post("/goog/cdp/execute", {"cmd": command, "params": known})

    def console(self) -> list[str]:
        """What has come to the console since last time, and is no mere remark."""
        entries = self._post("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[str]:
        """Every address that was asked for since last time."""
        entries = self._post("/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        return [told["params"]["request"]["url"] for told in messages if told["method"] == "Network.requestWillBeSent"]

    def close(self) -> None:
        _ask("DELETE", self._session)

    def _post(self, path: str, body: Mapping[str, object]) -> Any:
        return _ask("POST", self._session + path, body)


def _ask(method: str, url: str, body: Mapping[str, object] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(json.load(error)["value"]["message"]) from error


@contextmanager
def browser() -> Iterator[Browser]:
    """A window of its own, with nothing remembered."""
    assert CHROMIUM is not None, MISSING
    assert DRIVER is not None, MISSING
    with tempfile.TemporaryDirectory(prefix="gt-chromium-") as folder:
        # Its crash handler and its caches go where the profile goes.
        home = {"HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder}
        driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | home
        )
        with driver:
            try:
                address = f"http://127.0.0.1:{_port(driver)}"
                options = {"binary": CHROMIUM, "args": [*_FLAGS, f"--user-data-dir={folder}/profile"]}
                wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                          "timeouts": {"script": 60_000}}  # fmt: skip
                started = _ask("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
                page = Browser(address, started["sessionId"])
                # What the window it begins with has asked for is of no interest.
                page.go("about:blank")
                page.requests()
                try:
                    yield page
                finally:
                    page.close()
            finally:
                driver.terminate()
                driver.communicate(timeout=30)


def _port(driver: "subprocess.Popen[str]") -> int:
    assert driver.stdout is not None
    said = []
    for line in driver.stdout:
        said.append(line)
        if "started successfully on port" in line:
            return int(line.rstrip().rstrip(".").rpartition(" ")[2])
    raise AssertionError(f"chromedriver did not start: {said}")
