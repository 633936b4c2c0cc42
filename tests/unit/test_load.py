"""The load benchmark: what a page shows as an exception is seen, so is one in the log, and what does not hold is said."""

from __future__ import annotations

from typing import Any

import pytest
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from benchmarks.dashboard import Session, failures
from benchmarks.load import growth, quantile, shortcomings

HOLDS = {
    "exceptions": [],
    "left": [],
    "log": [],
    "script_p95_seconds": 1.9,
    "memory_steady": True,
    "memory_growth_mb": 3.0,
    "training_state": "running",
    "training_steps": 40,
}


class Connection:
    """Answers each request with these messages."""

    def __init__(self, *messages: ForwardMsg) -> None:
        self.messages, self.sent = [m.SerializeToString() for m in messages], []

    def send(self, content: bytes) -> None:
        self.sent.append(content)
        self.left = list(self.messages)

    def recv(self, timeout: float) -> bytes:
        return self.left.pop(0)


def element(kind: str, fragment: str = "", **fields: Any) -> ForwardMsg:
    message = ForwardMsg()
    message.delta.fragment_id = fragment
    getattr(message.delta.new_element, kind).MergeFrom(type(getattr(message.delta.new_element, kind))(**fields))
    return message


FINISHED = ForwardMsg(script_finished=ForwardMsg.FINISHED_SUCCESSFULLY)
AGAIN = ForwardMsg(script_finished=ForwardMsg.FINISHED_EARLY_FOR_RERUN)


def test_a_page_that_shows_an_exception_is_seen_and_a_warning_is_none() -> None:
    shown = element("exception", type="KeyError", message="'top1'")
    session = Session(Connection(element("exception", is_warning=True), shown, AGAIN, FINISHED), "runs", "")
    session.run()
    session.run()
    assert session.exceptions == ["runs: KeyError: 'top1'"] * 2


def test_controls_that_can_be_set_are_kept_until_the_page_runs_again() -> None:
    box = element("selectbox", "f1", id="a", label="Run", options=["x", "y"])
    only = element("selectbox", id="b", label="One", options=["x"])
    off = element("text_input", id="c", label="Off", disabled=True)
    session = Session(Connection(ForwardMsg(new_session={}), box, only, off, FINISHED), "runs", "run=x")
    session.run()
    session.run()
    (widget,) = session.widgets.values()
    assert (widget.label, widget.options, widget.fragment) == ("Run", ("x", "y"), "f1")
    session.set(widget, "y")
    request = session.connection.sent[-1]
    assert b"run=x" in request and b"f1" in request and b"y" in request


def test_a_page_that_changes_its_address_is_asked_for_by_the_new_one() -> None:
    changed = ForwardMsg()
    changed.page_info_changed.query_string = "run=b"
    session = Session(Connection(changed, FINISHED), "runs", "run=a")
    session.run()
    session.run()
    assert [b"run=a" in s for s in session.connection.sent] == [True, False]
    assert b"run=b" in session.connection.sent[1]


def test_an_exception_in_the_log_is_seen(tmp_path) -> None:
    log = tmp_path / "log"
    log.write_text("  URL: http://127.0.0.1:8501\n2026 INFO: connection open\n")
    assert failures(log) == []
    log.write_text("Traceback (most recent call last):\n  File x\nValueError: no\n")
    assert failures(log) == ["Traceback (most recent call last):", "ValueError: no"]


def test_memory_is_steady_where_the_last_half_hardly_rises() -> None:
    loaded = [100.0] * 10 + [500.0] * 50
    assert growth(loaded)["memory_steady"]
    assert growth(loaded)["memory_most_mb"] == 500
    leak = growth([100.0 + 5 * i for i in range(60)])
    assert not leak["memory_steady"]
    assert leak["memory_growth_mb"] == pytest.approx(150)


def test_the_quantile_is_of_all_values() -> None:
    assert quantile([float(i) for i in range(101)], 0.95) == 95.0
    assert quantile([], 0.95) == 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"exceptions": ["x"]}, "1 exceptions on pages"),
        ({"left": ["x", "y"]}, "2 visitors that did not come"),
        ({"log": ["x"]}, "1 lines of the server's log"),
        ({"script_p95_seconds": 2.5}, "is 2.50 s, not under 2 s"),
        ({"memory_steady": False, "memory_growth_mb": 90.0}, "grew by 90 MB"),
        ({"training_steps": 0}, "the training did not go on"),
    ],
)
def test_what_does_not_hold_is_said(change, said) -> None:
    wrong = shortcomings({**HOLDS, **change})
    assert (len(wrong), said in "".join(wrong)) == (bool(change), True)
