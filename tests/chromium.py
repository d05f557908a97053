"""A real headless Chromium, driven over its DevTools protocol through a pair of pipes: no library, no port."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--headless=new",
    "--no-sandbox",  # tests run as root in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
PATIENCE_S = 60.0


def needed() -> str:
    """The browser's program; without one the test is skipped, or fails where tests run for everybody."""
    for name in PROGRAMS:
        if path := shutil.which(name):
            return path
    _cannot("no Chromium: apt-get install chromium")


def _cannot(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)


class Chromium:
    """One browser with one page; `events` holds everything that it told unasked."""

    def __init__(self, program: str, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, self._out = os.pipe()
        self._in, self._rest, self._last = ours_in, b"", 0
        self.events: list[dict[str, Any]] = []
        self._session = ""
        # The browser reads from file descriptor 3 and writes to 4.
        command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._log = (profile.parent / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", program, *SWITCHES, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        try:
            self._session = ""
            self._ask("Browser.close")
            self._process.wait(200)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        finally:
            os.close(self._in)
            os.close(self._out)
            self._log.close()

    def _ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params or {}}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        until_s = time.monotonic() + PATIENCE_S
        while True:
            answer = self._next(until_s)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self, until_s: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(until_s - time.monotonic(), 0))
            part = os.read(self._in, 1 << 20) if ready else b""
            if not part:
                raise RuntimeError("Chromium said nothing more")
            self._rest += part
        one, _, self._rest = self._rest.partition(b"\0")
        return json.loads(one)

    def window(self, width: int, height: int) -> None:
        """Set the size of what is seen."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", size)

    def open(self, path: Path) -> None:
        """Load a file and wait until all of it is there."""
        self._ask("Page.navigate", {"url": path.resolve().as_uri()})
        self.until("document.readyState === 'complete' && location.protocol === 'file:'")

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives; a promise is waited for."""
        told = self._ask("Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True})
        if "exceptionDetails" in told:
            raise RuntimeError(f"{expression}: {told['exceptionDetails']}")
        return told["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        until_s = time.monotonic() + PATIENCE_S
        while not self.value(expression):
            if time.monotonic() > until_s:
                raise RuntimeError(f"not so within {PATIENCE_S:g} s: {expression}")
            time.sleep(0.02)

    def middle(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """A point of an element in the window, which is scrolled there; `x` and `y` are shares of its size."""
        place = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'});"
            "const r = e.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; })()"
        )
        return place[0] + x * place[2], place[1] + y * place[3]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Move, press, release the mouse, or turn its wheel."""
        self._ask("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, **more})

    def click(self, selector: str) -> None:
        """Click on an element as a user does."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def key(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key; modifiers: 1 Alt, 2 Ctrl, 8 Shift."""
        for kind in ("keyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", {"type": kind, "key": key, "code": key, "modifiers": modifiers})

    def pdf(self) -> bytes:
        """The page on paper, A4."""
        told = self._ask("Page.printToPDF", {"preferCSSPageSize": True, "paperWidth": 8.27, "paperHeight": 11.69})
        return base64.b64decode(told["data"])

    def picture(self) -> bytes:
        """PNG of what the window shows."""
        told = self._ask("Page.captureScreenshot", {"format": "png"})
        return base64.b64decode(told["data"])

    def media(self, kind: str) -> None:
        """Look at the page as on another medium, such as print; "" for the screen again."""
        self._ask("Emulation.setEmulatedMedia", {"media": kind})

    def told(self, method: str) -> list[dict[str, Any]]:
        """What was told unasked, of one kind."""
        return [event["params"] for event in self.events if event.get("method") == method]
