"""A headless Chromium, spoken to over pipes (its DevTools protocol); no package is needed."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--mute-audio",
         "--disable-dev-shm-usage", "--disable-background-networking", "--disable-extensions",
         "--hide-scrollbars", "--remote-debugging-pipe")  # fmt: skip


class Browser:
    """One page. ``requests`` are the addresses that it asked for, ``errors`` those of its scripts.

    ``flags`` are Chromium's own, beside those of a headless browser.
    """

    def __init__(self, profile: Path, *flags: str) -> None:
        assert CHROMIUM is not None
        theirs, ours = os.pipe()
        mine, others = os.pipe()
        line = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, "about:blank"]
        shell = f'exec "$0" "$@" 3<&{theirs} 4>&{others}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, *line], pass_fds=(theirs, others),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(theirs)
        os.close(others)
        self._to, self._from, self._left, self._count = ours, mine, b"", 0
        self.requests: list[str] = []
        self.errors: list[str] = []
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for part in ("Page", "Network", "Runtime", "DOM"):
            self.call(f"{part}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=30)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, timeout: float = 120, **values: object) -> dict:
        """The result of a command."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + timeout
        while True:
            answer = self._read(end, method)
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self, end: float, method: str) -> dict:
        while b"\0" not in self._left:
            ready, _, _ = select.select([self._from], [], [], max(end - time.monotonic(), 0))
            assert ready, f"no answer to {method}"
            self._left += os.read(self._from, 1 << 20)
        message, _, self._left = self._left.partition(b"\0")
        found = json.loads(message)
        if found.get("method") == "Network.requestWillBeSent":
            self.requests.append(found["params"]["request"]["url"])
        if found.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(found["params"]["exceptionDetails"]))
        return found

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def ask(self, expression: str) -> object:
        """The value of an expression of the page's."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True,
                          awaitPromise=True)  # fmt: skip
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression: str, seconds: float = 120) -> object:
        """The value of an expression once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.ask(expression)):
            assert time.monotonic() < end, (
                expression,
                self.errors,
                self.ask("document.body.innerText"),
            )
            time.sleep(0.1)
        return value

    def choose(self, selector: str, *files: Path) -> None:
        """Give files, or a folder, to an input of the page."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def drop(self, selector: str, *files: Path) -> None:
        """Drag files, or folders, from elsewhere onto an element, and drop them."""
        place = self.ask(
            f"{{ const at = document.querySelector({selector!r}); at.scrollIntoView(); "
            "const { x, y } = at.getBoundingClientRect(); [x + 9, y + 9] }"
        )
        assert isinstance(place, list)
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=place[0], y=place[1], data=data)

    def resize(self, width: int, height: int) -> None:
        """Give the window a size; a narrow one is that of a phone."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)  # fmt: skip

    def picture(self, file: Path, width: int, height: int, dark: bool = False) -> None:
        """Write a PNG of the page as a window of that size shows it."""
        self.resize(width, height)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        found = self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(found["data"]))
