"""A dashboard to measure: its server, sessions on its websocket as a browser has them, and a real browser."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import ClientConnection, connect

from fer.files import PROJECT_ROOT

PAGES = ("home", "data", "train", "runs", "compare", "evaluate", "predict")
_FAILURE = re.compile(r"Traceback|\bERROR\b|\b\w*(Error|Exception)\b")
_BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@dataclass(frozen=True)
class Server:
    """A running dashboard."""

    port: int
    process: psutil.Process

    def url(self, page: str, query: str = "") -> str:
        """A page's address."""
        return f"http://127.0.0.1:{self.port}/{'' if page == 'home' else page}{'?' + query if query else ''}"

    def memory_mb(self) -> float:
        """What the process holds now, MB."""
        return self.process.memory_info().rss / 1e6

    def cpu_seconds(self) -> float:
        """The processor time that it has used."""
        times = self.process.cpu_times()
        return times.user + times.system


@contextlib.contextmanager
def serve(log: Path, *, strict: bool = True) -> Iterator[Server]:
    """A dashboard on a free port, ready to answer; ended with the body. strict: what its log says of failures ends the benchmark.

    It keeps its compiled modules for the next one, as Python does wherever nobody forbids it.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command, cwd=PROJECT_ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    server = Server(port, psutil.Process(process.pid))
    try:
        deadline = time.monotonic() + 60
        while not _healthy(server):
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"The dashboard did not start: {log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)
    if strict and failures(log):
        raise SystemExit(f"A page failed while it was measured: {log.read_text()[-3000:]}")


def failures(log: Path) -> list[str]:
    """The lines of a server's log that tell of an exception."""
    return [line.strip() for line in log.read_text(errors="replace").splitlines() if _FAILURE.search(line)]


def _healthy(server: Server) -> bool:
    try:
        with urllib.request.urlopen(server.url("_stcore/health"), timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


# --- a session, as the browser has one -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Widget:
    """A control that can be set to one of its options, or to any text where `options` is None. fragment: '' outside one."""

    id: str
    kind: str
    label: str
    options: tuple[str, ...] | None
    fragment: str


@dataclass
class Session:
    """One visitor on one page. seconds: from the request to the script's end; timers: `{fragment: seconds}`.

    widgets: what of the page can be set, by id; exceptions: what pages have shown as such, since the session began.
    """

    connection: ClientConnection
    page: str
    query: str
    timers: dict[str, float] = field(default_factory=dict)
    widgets: dict[str, Widget] = field(default_factory=dict)
    exceptions: list[str] = field(default_factory=list)
    received: int = 0

    def run(self, fragment: str = "", *, timer: bool = False, states: Sequence[WidgetState] = ()) -> float:
        """Ask for the script, or for one fragment of it, and take in what it sends; returns the seconds."""
        request = BackMsg()
        request.rerun_script.query_string = self.query
        request.rerun_script.page_name = "" if self.page == "home" else self.page
        request.rerun_script.fragment_id = fragment
        request.rerun_script.is_auto_rerun = timer
        request.rerun_script.widget_states.widgets.extend(states)
        began = time.perf_counter()
        self.connection.send(request.SerializeToString())
        self.received = 0
        while not self._take(self.connection.recv(timeout=60)):
            pass
        return time.perf_counter() - began

    def go(self, page: str, query: str = "") -> float:
        """Open another page in the same session, as a link of the page does; returns the seconds of its script."""
        self.page, self.query = page, query
        return self.run()

    def set(self, widget: Widget, value: str) -> float:
        """Set a control and take in what the page makes of it; returns the seconds."""
        state = WidgetState(id=widget.id)
        if widget.kind == "button_group":
            state.string_array_value.data.append(value)
        else:
            state.string_value = value
        return self.run(widget.fragment, states=[state])

    def _take(self, content: bytes) -> bool:
        """One message of the server; returns whether it says that the script has finished."""
        self.received += len(content)
        message = ForwardMsg.FromString(content)
        if message.HasField("new_session") and not message.metadata.run.fragment_ids:
            self.timers.clear()  # the whole script runs, perhaps since a fragment asked for it
            self.widgets.clear()
        if message.HasField("auto_rerun"):
            self.timers[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        if message.HasField("page_info_changed"):
            self.query = message.page_info_changed.query_string  # the browser's address bar follows, too
        if message.HasField("delta") and message.delta.HasField("new_element"):
            self._see(message.delta.new_element, message.delta.fragment_id)
        ended = message.WhichOneof("type") == "script_finished"
        return ended and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN

    def _see(self, element: Element, fragment: str) -> None:
        kind = element.WhichOneof("type")
        if kind == "exception" and not element.exception.is_warning:
            self.exceptions.append(f"{self.page}: {element.exception.type}: {element.exception.message}")
        elif kind in ("selectbox", "button_group", "text_input"):
            found = getattr(element, kind)
            options = {
                "selectbox": lambda: tuple(found.options),
                "button_group": lambda: tuple(option.content for option in found.options),
                "text_input": lambda: None,
            }[kind]()
            if not found.disabled and (options is None or len(options) > 1):
                self.widgets[found.id] = Widget(found.id, kind, found.label, options, fragment)

    def settle(self) -> None:
        """Wait for what the page works out in the background, for which it asks several times a second."""
        while any(every < 1 for every in self.timers.values()):
            self.keep_open(1.0)

    def keep_open(self, seconds: float) -> list[float]:
        """Answer the page's timers for a while, as a browser does; returns the seconds that each answer took."""
        took, until = [], time.monotonic() + seconds
        due = {f: time.monotonic() + every for f, every in self.timers.items()}
        while due and min(due.values()) < until:
            fragment = min(due, key=due.__getitem__)
            time.sleep(max(0.0, due[fragment] - time.monotonic()))
            took.append(self.run(fragment, timer=True))
            now = time.monotonic()
            due = {f: due[f] if f in due and f != fragment else now + every for f, every in self.timers.items()}
        time.sleep(max(0.0, until - time.monotonic()))
        return took


@contextlib.contextmanager
def visit(server: Server, page: str, query: str = "") -> Iterator[Session]:
    """A session of its own on a page, before its first request."""
    address = f"ws://127.0.0.1:{server.port}/_stcore/stream"
    with connect(address, subprotocols=["streamlit"], max_size=None) as connection:
        yield Session(connection, page, query)


# --- the browser -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def open_browser(wanted: bool = True) -> Iterator[tuple[Any, str | None]]:
    """A browser, or None and why there is none."""
    path, reason = None, None if wanted else "left out with --no-browser"
    if not reason:
        try:
            from playwright.sync_api import sync_playwright

            from tests.e2e.install_browser import find_browser

            path = find_browser()
        except ImportError as error:
            reason = f"Playwright is not installed: {error}"
    if path is None:
        yield None, reason or "no Chromium was found; set FER_BROWSER to one"
        return
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=_BROWSER_FLAGS)
        yield chromium, None
        chromium.close()
