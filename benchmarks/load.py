"""Whether the dashboard holds with many visitors at once, on a store in which a network trains.

    python benchmarks/load.py --sessions 20 --browsers 2 --seconds 120

A real server over the shipped runs and generated ones, while a real training on the sample faces is the worker's. Most
sessions are clients of Streamlit's websocket that ask as the browser does: they open pages from the menu and by links, set
controls, answer the pages' timers, sometimes close the tab, and wait 2 to 5 s between clicks. The others are
Chromium, each in a process of its own. Everything runs on this machine: server, training, clients and browsers share its cores.

Seconds are those from a request on the websocket to the message that the script has finished. A timer's fragments are counted
apart. Before the clock starts, one visitor opens each page once, so that modules are imported; `dashboard_speed.py`
measures that first visit. Memory is the server process's, looked at each second; it is steady where a straight line
through the last half of it rises by less than a tenth of what is held.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.dashboard import PAGES, Server, Session, failures, open_browser, serve, visit
from benchmarks.generated_store import write_store
from fer import jobs
from fer.config import Config, with_settings
from fer.data import dataset
from fer.files import PROJECT_ROOT
from fer.runs import Run, RunStore

PAUSE_SECONDS = (2.0, 5.0)  # between two clicks of a visitor
P95_SECONDS = 2.0
GROWTH_SHARE = 0.1
_ARRIVE_SECONDS = 5.0  # within which the visitors come
_LEAVE_SHARE = 0.05  # of the clicks: the tab is closed and another one opened
_LINKS = ("compare", "evaluate", "runs", "predict", "train")
_TRAINING = {"data.name": dataset.SAMPLE, "train.epochs": 2000}  # longer than any measurement


def main() -> None:
    """Measure, and print one JSON document last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=20, help="visitors at a time, browsers included")
    parser.add_argument("--browsers", type=int, default=2, help="how many of them are real browsers")
    parser.add_argument("--seconds", type=float, default=120.0, help="how long they stay")
    parser.add_argument("--runs", type=int, default=200, help="generated runs beside the shipped ones")
    parser.add_argument("--seed", type=int, default=0, help="decides who clicks what")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.sessions, options.browsers, options.seconds, options.runs, options.seed)
    from benchmarks import machine  # imports torch, which the clients do not need

    wrong = shortcomings(figures)
    print(json.dumps({"benchmark": "load", **figures, "wrong": wrong, "machine": machine.describe()}, indent=1))
    if wrong:
        raise SystemExit(f"The dashboard does not hold: {'; '.join(wrong)}.")


def measure(folder: Path, sessions: int, browsers: int, seconds: float, runs: int, seed: int = 0) -> dict[str, Any]:
    """The figures of that many visitors for so long; store, data and the server's log lie in `folder`."""
    os.environ |= {"FER_RUNS_DIR": str(folder / "runs"), "FER_DATA_DIR": str(folder / "data")}
    store, log = _store(folder, runs), folder / "server.log"
    dataset.load(dataset.SAMPLE)  # drawn once, for whoever opens the page first; not a page's speed
    seen = Seen()
    with _training(store) as run, serve(log, strict=False) as server:
        first_visits = _warm(server)
        before = _steps(store.get(run.id))
        until = time.monotonic() + seconds
        visitors = [(_websocket, f"client {i}") for i in range(sessions - browsers)]
        visitors += [(_browser, f"browser {i}") for i in range(browsers)]
        ids = [r.id for r in store.runs()]
        threads = [
            threading.Thread(target=seen.keep, args=(visitor, name, server, ids, f"{seed}-{name}", until))
            for visitor, name in visitors
        ]
        for thread in threads:
            thread.start()
        memory = _watch(server, until)
        for thread in threads:
            thread.join()
        trained, state = _steps(store.get(run.id)) - before, store.get(run.id).state
    return {
        "sessions": sessions,
        "browsers": browsers,
        "seconds": seconds,
        "runs": len(ids),
        "seed": seed,
        "first_visits_seconds": first_visits,
        **seen.figures(),
        **growth(memory),
        "log": failures(log),
        "training_state": state,
        "training_steps": trained,
        "cores_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def shortcomings(figures: dict[str, Any]) -> list[str]:
    """What of the promise is not held, in words; empty where all is."""
    wrong = [f"{len(figures[kind])} {said}" for kind, said in _FAILED.items() if figures[kind]]
    if figures["script_p95_seconds"] >= P95_SECONDS:
        wrong.append(f"p95 of a page's script is {figures['script_p95_seconds']:.2f} s, not under {P95_SECONDS:g} s")
    if not figures["memory_steady"]:
        wrong.append(f"memory grew by {figures['memory_growth_mb']:.0f} MB in the last half")
    if figures["training_state"] != "running" or not figures["training_steps"]:
        wrong.append("the training did not go on")
    return wrong


_FAILED = {
    "exceptions": "exceptions on pages",
    "left": "visitors that did not come to the end",
    "log": "lines of the server's log that tell of an exception",
}


def growth(memory: Sequence[float]) -> dict[str, Any]:
    """What a server held each second, MB: at its first look, most, last, and how much a line through the last half rises."""
    late = np.array(memory[len(memory) // 2 :])
    rise = float(np.polyfit(np.arange(len(late)), late, 1)[0]) * len(late) if len(late) > 1 else 0.0
    return {
        "memory_first_mb": round(memory[0]),
        "memory_most_mb": round(max(memory)),
        "memory_last_mb": round(memory[-1]),
        "memory_growth_mb": round(rise, 1),
        "memory_steady": rise < GROWTH_SHARE * float(late.mean()),
        "memory_mb": [round(m) for m in memory[:: max(1, len(memory) // 24)]],
    }


# --- the store and its training --------------------------------------------------------------------------------------


def _store(folder: Path, runs: int) -> RunStore:
    shipped = PROJECT_ROOT / "checkpoints"
    store = RunStore(folder / "runs")
    write_store(store.root, runs, 25)
    for name in json.loads((shipped / "shipped.json").read_text()):
        shutil.copytree(shipped / name, store.root / name, ignore=shutil.ignore_patterns("*.lock", "notes.json"))
    shutil.copy(shipped / "shipped.json", store.root)
    return store


@contextlib.contextmanager
def _training(store: RunStore) -> Iterator[Run]:
    """A run that trains in a worker's process, beyond its first steps; stopped, and waited for, with the body."""
    (run,) = jobs.submit(store, [("baseline", with_settings(Config(), _TRAINING))])
    try:
        _wait(lambda: _steps(store.get(run.id)) > 0, 120, "The training did not begin")
        yield run
    finally:
        with contextlib.suppress(Exception):  # it has ended by itself, which the figures say
            store.request_stop(run.id)
        ended = lambda: not jobs.worker_alive(store) and all(w.poll() is not None for w in jobs._STARTED)  # noqa: E731
        _wait(ended, 120, "The training did not end")


def _steps(run: Run) -> int:
    """Steps and ended epochs, so that it grows with each."""
    return int(run.status.get("epoch", 0)) * int(run.status.get("steps_per_epoch", 0)) + int(run.status.get("step", 0))


def _wait(condition: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{otherwise} within {seconds:.0f} s.")
        time.sleep(0.2)


def _warm(server: Server) -> float:
    """Open each page once, and let an example face be judged, which imports torch; the seconds of all."""
    with visit(server, "home") as session:
        return round(session.run() + sum(session.go(p, "from=Example+faces" * (p == "predict")) for p in PAGES[1:]), 1)


def _watch(server: Server, until: float) -> list[float]:
    memory = [server.memory_mb()]
    while time.monotonic() < until:
        time.sleep(1.0)
        memory.append(server.memory_mb())
    return memory


# --- the visitors ----------------------------------------------------------------------------------------------------


@dataclass
class Seen:
    """What all visitors have met, each in a thread of its own."""

    scripts: dict[str, list[float]] = field(default_factory=lambda: {page: [] for page in PAGES})
    timers: list[float] = field(default_factory=list)
    browser: list[float] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    opened: int = 0

    def keep(self, visitor: Callable[..., None], name: str, *arguments: Any) -> None:
        """Let a visitor come and click; one that cannot go on is kept by name with its reason."""
        try:
            visitor(self, *arguments)
        except Exception as error:  # whatever it is, the dashboard did not hold
            self.left.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")

    def figures(self) -> dict[str, Any]:
        """Medians and 95th percentiles in seconds, and everything that went wrong."""
        return {
            "opened_sessions": self.opened,
            "scripts": sum(map(len, self.scripts.values())),
            "script_p95_seconds": quantile([s for page in self.scripts.values() for s in page], 0.95),
            "script_median_seconds": quantile([s for page in self.scripts.values() for s in page], 0.5),
            "by_page": {
                page: {"n": len(s), "median": quantile(s, 0.5), "p95": quantile(s, 0.95), "most": quantile(s, 1.0)}
                for page, s in self.scripts.items()
            },
            "timers": len(self.timers),
            "timer_p95_seconds": quantile(self.timers, 0.95),
            "browser_clicks": len(self.browser),
            "browser_p95_seconds": quantile(self.browser, 0.95),
            "exceptions": self.exceptions,
            "left": self.left,
        }


def quantile(values: Sequence[float], share: float) -> float:
    """That quantile in seconds, rounded; 0 of nothing."""
    return round(float(np.quantile(values, share)), 3) if values else 0.0


def _websocket(seen: Seen, server: Server, ids: Sequence[str], seed: str, until: float) -> None:
    rng = random.Random(seed)
    time.sleep(rng.uniform(0, _ARRIVE_SECONDS))
    while time.monotonic() < until:
        page, query = _link(rng, ids) if rng.random() < 0.5 else (rng.choice(PAGES), "")
        with visit(server, page, query) as session:
            seen.opened += 1
            try:
                seen.scripts[page].append(session.run())
                while _rest(seen, session, rng, until) and rng.random() > _LEAVE_SHARE:
                    seconds = _click(session, rng, ids)
                    seen.scripts[session.page].append(seconds)
            finally:
                seen.exceptions += session.exceptions


def _rest(seen: Seen, session: Session, rng: random.Random, until: float) -> bool:
    """Look at the page for some seconds; whether there is time for another click."""
    seen.timers += session.keep_open(min(rng.uniform(*PAUSE_SECONDS), max(0.0, until - time.monotonic())))
    return time.monotonic() < until


def _click(session: Session, rng: random.Random, ids: Sequence[str]) -> float:
    """A page of the menu, a link, or a control of this page; the seconds of the script."""
    choice = rng.random()
    if choice < 0.4 and session.widgets:
        widget = session.widgets[rng.choice(sorted(session.widgets))]
        return session.set(widget, rng.choice(widget.options) if widget.options else rng.choice(("cosine", "s1", "")))
    if choice < 0.7:
        return session.go(rng.choice(PAGES))
    return session.go(*_link(rng, ids))


def _link(rng: random.Random, ids: Sequence[str]) -> tuple[str, str]:
    """A page and its query, as one page links to another or a visitor sends to a colleague."""
    page, run = rng.choice(_LINKS), rng.choice(ids)
    query: dict[str, Any] = {"run": run}
    if page == "compare":
        part = rng.choice(("Figures", "Is it real?", "What the curves say", "Settings", "Other runs"))
        query = {"run": rng.sample(list(ids), rng.randint(2, 6)), "part": part}
    elif page == "evaluate":
        query["tab"] = rng.choice(("Confusion matrix", "Surest mistakes", "Calibration"))
    elif page == "predict":
        query["from"] = rng.choice(("Photos", "Example faces"))
    elif page == "train":
        query = {"clone": run}
    return page, urlencode(query, doseq=True)


def _browser(seen: Seen, server: Server, ids: Sequence[str], seed: str, until: float) -> None:
    rng = random.Random(seed)
    with open_browser() as (browser, reason):
        if browser is None:
            raise RuntimeError(reason)
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        page, query = _link(rng, ids)
        _open(seen, tab, page, lambda: tab.goto(server.url(page, query)))
        while time.monotonic() < until:
            tab.wait_for_timeout(1000 * rng.uniform(*PAUSE_SECONDS))
            if rng.random() < 0.7:
                page = rng.choice([p for p in PAGES if p != page])
                menu = tab.get_by_test_id("stSidebar").get_by_role("link", name=page.capitalize(), exact=True)
                _open(seen, tab, page, menu.click)
            elif count := tab.get_by_role("tab").count():
                _open(seen, tab, page, tab.get_by_role("tab").nth(rng.randrange(count)).click)


def _open(seen: Seen, tab: Any, page: str, click: Callable[[], Any]) -> None:
    """Click, and wait for the page's title and the end of its script."""
    began = time.perf_counter()
    click()
    title = "FER Lab" if page == "home" else page.capitalize()
    tab.locator("h1", has_text=title).wait_for(timeout=60_000)
    tab.wait_for_selector('.stApp[data-test-script-state="notRunning"]', timeout=60_000)
    seen.browser.append(time.perf_counter() - began)
    seen.exceptions += [
        f"browser, {page}: {text[:300]}" for text in tab.get_by_test_id("stException").all_inner_texts()
    ]


if __name__ == "__main__":
    main()
