"""How fast the dashboard's pages are over a big store, what its server holds, and what a run that trains costs it.

    python benchmarks/dashboard_speed.py --runs 1000 --epochs 100

A real server over a generated store. A page's seconds are those from the request on its websocket, which a small client
sends as the browser does, to the message that the script has finished: cold is the first request of a fresh server (the
median of three servers), the page's imports included, whose bytecode an earlier one has left; warm is that of a new
session; rerun is one more request of the same session. The operating system has the files in its cache throughout.
Paint is what Chromium says of a warm server with nothing in its own cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.dashboard import PAGES, Server, open_browser, serve, visit
from benchmarks.generated_store import DATA_SETS, epoch_row, random_pictures, write_live_run, write_store
from fer.data import dataset
from fer.runs import RunStore, hold

LIVE_PAGES = ("runs", "home", "compare")
_COMPARED = 12
_LIVE_RUN = "live-run"
_EPOCH_SECONDS = 5.0
_SETTLE_SECONDS = 4.0


def main() -> None:
    """Make the store, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--turns", type=int, default=7, help="new sessions, and as many re-runs, for each warm figure")
    parser.add_argument("--cold-turns", type=int, default=3, help="fresh servers for each cold figure")
    parser.add_argument("--live-seconds", type=float, default=30.0, help="how long each page is open on a moving run")
    parser.add_argument("--no-browser", action="store_true", help="leave the paint out; timers are kept by the client")
    parser.add_argument("--move", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.move:
        _move(RunStore(arguments.move))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(_measure(arguments, Path(folder)), indent=1))


def _measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    store, data = folder / "runs", folder / "data"
    os.environ |= {"FER_RUNS_DIR": str(store), "FER_DATA_DIR": str(data)}
    _say(f"writing {arguments.runs:,} runs of {arguments.epochs:,} epochs")
    ids = write_store(store, arguments.runs, arguments.epochs)
    for name in DATA_SETS[:-1]:
        dataset.save(random_pictures(name, train=28_709, val=3_589))
    dataset.load(dataset.SAMPLE)  # drawn once, for whoever opens the page first; not a page's speed
    views = {page: (page, "") for page in PAGES}
    chosen = random.Random(0).sample(ids, min(_COMPARED, len(ids)))
    views["compare_12"] = ("compare", urlencode([("run", i) for i in chosen]))
    figures: dict[str, Any] = {}
    for view, request in views.items():
        figures |= {f"{view}_cold_seconds": _cold(folder / "server.log", *request, arguments.cold_turns)}
        _say(f"{view}: cold {figures[f'{view}_cold_seconds']:.2f} s")
    with serve(folder / "server.log") as server:
        for view, request in views.items():
            figures |= {f"{view}_{key}": value for key, value in _warm(server, *request, arguments.turns).items()}
            _say(f"{view}: warm {figures[f'{view}_warm_seconds']:.3f} s")
        figures["server_memory_mb"] = server.memory_mb()
        figures |= _paint(server, views, arguments)
    with serve(folder / "server.log") as server:
        figures |= _live(server, RunStore(store), chosen, arguments)
    from benchmarks import machine  # imports torch, which the measured processes shall not have to share a core with

    cold = [figures[f"{view}_cold_seconds"] for view in views]
    warm = [figures[f"{view}_{key}_seconds"] for view in views for key in ("warm", "rerun")]
    return {
        "benchmark": "dashboard_speed",
        "runs": arguments.runs,
        "epochs": arguments.epochs,
        "turns": arguments.turns,
        "cold_turns": arguments.cold_turns,
        "slowest_cold_seconds": max(cold),
        "slowest_warm_seconds": max(warm),
        **figures,
        **machine.describe(),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _cold(log: Path, page: str, query: str, turns: int) -> float:
    """The median over servers of their first request."""
    seconds = []
    for _ in range(turns):
        with serve(log) as server, visit(server, page, query) as session:
            seconds.append(session.run())
    return statistics.median(seconds)


def _warm(server: Server, page: str, query: str, turns: int) -> dict[str, float]:
    """Medians of new sessions and of re-runs, after a first visit, and what a session is sent."""
    new, again = [], []
    with visit(server, page, query) as session:
        session.run()
        session.settle()
    for _ in range(turns):
        with visit(server, page, query) as session:
            new.append(session.run())
            sent = session.received
            again.append(session.run())
    return {
        "warm_seconds": statistics.median(new),
        "rerun_seconds": statistics.median(again),
        "sent_kb": sent / 1e3,
    }


# --- the browser -----------------------------------------------------------------------------------------------------


def _paint(server: Server, views: dict[str, tuple[str, str]], arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from the address to the first paint, and to the page's title and its finished script."""
    figures: dict[str, Any] = {}
    with open_browser(not arguments.no_browser) as (browser, reason):
        figures["no_browser_reason"] = reason
        for view, (page, query) in views.items():
            kinds = ("first_paint_ms", "title_ms", "finished_ms")
            figures |= {
                f"{view}_{k}": v for k, v in zip(kinds, _painted(browser, server.url(page, query)), strict=True)
            }
    return figures


def _painted(browser: Any, url: str) -> tuple[float | None, float | None, float | None]:
    if browser is None:
        return None, None, None
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    tab = context.new_page()
    began = time.perf_counter()
    tab.goto(url)
    tab.wait_for_selector("h1", timeout=60_000)
    title = 1000 * (time.perf_counter() - began)
    tab.wait_for_selector('.stApp[data-test-script-state="notRunning"]', timeout=60_000)
    finished = 1000 * (time.perf_counter() - began)
    first = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null")
    context.close()
    return first, title, finished


# --- a run that trains -----------------------------------------------------------------------------------------------


def _move(store: RunStore) -> None:
    """Hold a run's lock and write what a trainer writes: its status each second, an epoch every few."""
    rng, epoch = random.Random(0), 0
    with hold(store.folder(_LIVE_RUN) / "run.lock"):
        began = time.monotonic()
        while True:
            elapsed = time.monotonic() - began
            if elapsed > (epoch + 1) * _EPOCH_SECONDS:
                epoch += 1
                store.append_metrics(_LIVE_RUN, epoch_row(rng, epoch, 0))
            step = int(449 * (elapsed / _EPOCH_SECONDS - epoch))
            moving = {"epoch": epoch, "step": step, "steps_per_epoch": 449, "images_per_sec": 2000.0}
            moving |= {"running_loss": 1.2 + rng.gauss(0, 0.01), "running_top1": 0.5, "updated": time.time()}
            store.write_status(_LIVE_RUN, {"state": "running", **moving})
            time.sleep(1.0)


def _live(server: Server, store: RunStore, chosen: list[str], arguments: argparse.Namespace) -> dict[str, Any]:
    """The server's share of one core while a page is open on a store in which one run moves, per cent."""
    write_live_run(store, _LIVE_RUN, arguments.epochs)
    command = [sys.executable, __file__, "--move", str(store.root)]
    mover = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    query = {"runs": f"run={_LIVE_RUN}", "compare": urlencode([("run", i) for i in (_LIVE_RUN, *chosen[:3])])}
    figures = {}
    try:
        while store.get(_LIVE_RUN).state != "running":
            time.sleep(0.1)
        with open_browser(not arguments.no_browser) as (browser, _):
            for page in LIVE_PAGES:
                share = _share(server, browser, page, query.get(page, ""), arguments.live_seconds)
                figures[f"{page}_live_core_percent"] = share
                _say(f"{page}: {share:.1f} % of a core with a run that trains")
    finally:
        mover.terminate()
        mover.wait(timeout=10)
    return {"live_core_percent": max(figures.values()), "live_seconds": arguments.live_seconds, **figures}


def _share(server: Server, browser: Any, page: str, query: str, seconds: float) -> float:
    with contextlib.ExitStack() as stack:
        if browser is None:
            session = stack.enter_context(visit(server, page, query))
            session.run()
            wait = session.keep_open
        else:
            context = stack.enter_context(contextlib.closing(browser.new_context()))
            tab = context.new_page()
            tab.goto(server.url(page, query))
            tab.wait_for_selector("h1", timeout=60_000)
            wait = lambda s: tab.wait_for_timeout(1000 * s)  # noqa: E731
        wait(min(_SETTLE_SECONDS, seconds))
        used, began = server.cpu_seconds(), time.perf_counter()
        wait(seconds)
        return 100 * (server.cpu_seconds() - used) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
