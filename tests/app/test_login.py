"""Who may do what on the pages: only looking, a login on every page, and a list of who may launch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.runtime.secrets import secrets_singleton

from fer import access, jobs
from fer.config import Config
from fer.runs import RunStore
from fer.ui.frame import PAGES
from tests.app.conftest import said

AUTH = {"redirect_uri": "http://127.0.0.1:8501/oauth2callback", "cookie_secret": "x" * 32, "client_id": "a"}
CHANGES = (
    "Stop",
    "Resume",
    "Delete",
    "Archive",
    "Run next",
    "Pause the queue",
    "Launch 1 run",
    "Import",
    "Pin to the top",
    "Rename",
    "Bring it back",
)


@pytest.fixture(autouse=True)
def no_worker(monkeypatch) -> None:
    monkeypatch.setattr(jobs, "ensure_worker", lambda _store: None)


@pytest.fixture
def a_store(add_run) -> None:
    add_run("waiting", [], state="queued")
    add_run("mine", [0.3, 0.4], state="stopped", epochs=5)
    add_run("failed", [0.3], state="failed", epochs=5)


class User(dict):
    """Stands for `st.user`."""


@pytest.fixture
def log_in(monkeypatch):
    """`log_in("a@b.c")`: secrets with `[auth]`, and this address logged in; None: nobody is."""

    def log(
        address: str | None,
        may_launch: list[str] | None = None,
        may_look: list[str] | None = None,
        runs_each: object = None,
        **more: object,
    ) -> None:
        lists = {"may_launch": may_launch, "may_look": may_look, "runs_each": runs_each}
        secrets = {"auth": AUTH, "fer": {name: listed for name, listed in lists.items() if listed is not None}}
        monkeypatch.setattr("fer.ui.login._secrets", lambda: secrets)
        monkeypatch.setattr(st, "user", User(is_logged_in=address is not None, email=address, **more))

    return log


@pytest.mark.parametrize("page", PAGES)
def test_read_only_hides_everything_that_changes(open_page, a_store, monkeypatch, page) -> None:
    monkeypatch.setenv("FER_READ_ONLY", "1")
    at = open_page(page, run="mine")
    assert not at.exception
    assert "Only looking." in " ".join(c.value for c in at.sidebar.caption)
    assert [b.label for b in at.button if b.label in CHANGES or b.label.startswith(("Launch", "Stop", "Make"))] == []
    assert not [t for t in at.text_input if t.label in ("Name", "Tags")]
    assert not [e for e in at.get("page_link") if "Clone" in e.proto.label]
    assert page != "data" or "Import a data set" not in said(at)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_wants_a_login_first_and_shows_nothing_else(open_page, a_store, log_in, page) -> None:
    log_in(None)
    at = open_page(page, run="mine")
    assert not at.exception
    assert "Log in to see this FER Lab." in said(at)
    assert [b.label for b in at.button] == ["Log in"]
    assert "mine" not in said(at)
    assert not at.dataframe
    assert not at.selectbox
    assert not at.get("page_link")


def test_who_is_listed_may_launch_and_who_is_not_may_look(open_page, a_store, log_in) -> None:
    log_in("Ana@Example.org", ["ana@example.org"])
    at = open_page("runs", run="mine")
    assert {"Resume", "Delete", "Log out"} <= {b.label for b in at.button}
    log_in("eve@example.org", ["ana@example.org"])
    at = open_page("runs", run="mine")
    assert not at.exception
    assert [b.label for b in at.button] == ["Log out"]
    assert "your address is not among those" in " ".join(c.value for c in at.sidebar.caption).replace("\\", "").lower()


def test_who_may_look_is_listed_by_address_or_domain(open_page, a_store, log_in) -> None:
    log_in("Ben@School.example", ["ana@example.org"], ["@school.example"])
    at = open_page("runs", run="mine")
    assert "mine" in said(at)
    assert [b.label for b in at.button] == ["Log out"]
    log_in("ana@example.org", ["ana@example.org"], ["@school.example"])  # who may launch may look
    assert "Resume" in {b.label for b in open_page("runs", run="mine").button}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("address", ["eve@not-school.example", "eve@school.example.org", ""])
def test_who_is_on_no_list_sees_nothing_and_may_change_nothing(open_page, a_store, log_in, page, address) -> None:
    log_in(address, ["ana@example.org"], ["@school.example"])
    at = open_page(page, run="mine")
    assert not at.exception
    assert [e.value for e in at.error] == [
        "Your address is not among those that may look at this FER Lab; ask whoever runs it."
    ]
    assert [b.label for b in at.button] == ["Log out"]
    assert "mine" not in said(at)
    assert not at.get("page_link")


@pytest.fixture
def secrets_file(tmp_path) -> Iterator[Path]:
    """A path at which Streamlit looks for its secrets, and nowhere else."""
    path = tmp_path / "secrets.toml"
    before = st.config.get_option("secrets.files")
    st.config.set_option("secrets.files", [str(path)])
    secrets_singleton._reset()  # it keeps what it has read, for the whole process
    yield path
    st.config.set_option("secrets.files", before)
    secrets_singleton._reset()


@pytest.mark.parametrize("page", ["home", "runs"])
def test_a_secrets_file_that_cannot_be_read_lets_nobody_in(open_page, a_store, secrets_file, page) -> None:
    secrets_file.write_text('[auth]\ncookie_secret = "x"\n[fer]\nmay_launch = [ana@example.org]\n')
    at = open_page(page, run="mine")
    assert not at.exception
    assert [e.value[:53] for e in at.error] == ["The secrets file of this FER Lab cannot be read, so n"]
    assert not at.button
    assert "mine" not in said(at)
    secrets_file.unlink()
    secrets_singleton._reset()
    assert "Resume" in [b.label for b in open_page("runs", run="mine").button]


def test_lists_without_a_login_let_nobody_in(open_page, a_store, secrets_file) -> None:
    secrets_file.write_text('[fer]\nmay_launch = ["ana@example.org"]\n')
    at = open_page("runs", run="mine")
    assert not at.exception
    assert ["no [auth] section" in e.value for e in at.error] == [True]
    assert not at.button
    assert "mine" not in said(at)


def test_each_provider_that_the_secrets_name_has_its_button(open_page, secrets_file) -> None:
    secrets_file.write_text(
        '[auth]\ncookie_secret = "x"\n[auth.google]\nclient_id = "a"\n[auth.school]\nclient_id = "b"\n'
    )
    at = open_page("home")
    assert [b.label for b in at.button] == ["Log in with google", "Log in with school"]


@pytest.mark.parametrize("more", [{"email_verified": False}, {"email_verified": "false"}])
def test_an_address_that_was_not_verified_counts_for_nothing(open_page, a_store, log_in, more) -> None:
    log_in("ana@example.org", ["ana@example.org"], **more)
    at = open_page("runs", run="mine")
    assert [b.label for b in at.button] == ["Log out"]


def test_without_a_list_everybody_who_is_logged_in_may(open_page, a_store, log_in) -> None:
    log_in("eve@example.org")
    assert "Resume" in [b.label for b in open_page("runs", run="mine").button]


def test_who_launched_a_run_is_shown_and_ones_own_can_be_seen_alone(open_page, a_store, log_in) -> None:
    log_in("ana@example.org")
    at = open_page("runs", run="mine")
    assert "Launched by" not in said(at)
    assert not at.toggle  # nobody's runs are told apart yet
    for run_id in ("mine", "waiting"):
        path = RunStore().folder(run_id) / "config.json"
        by = {"mine": "ana@example.org", "waiting": "eve_*x*@example.org"}[run_id]
        path.write_text(json.dumps({**json.loads(path.read_text()), "launched_by": by}))
    at = open_page("runs", run="waiting")
    assert "Launched by eve_*x*@example.org" in said(at).replace("\u2060", "")
    assert set(at.dataframe[1].value["by"]) == {"ana@example.org", ""}
    (only,) = at.toggle
    assert only.label == "Only mine"
    only.set_value(True).run()
    assert not at.exception
    assert [list(d.value["run"]) for d in at.dataframe if "run" in d.value] == [["mine"]]
    log_in("ben@example.org")
    assert not open_page("runs", run="mine").toggle


def launch(at) -> list[str]:
    next(b for b in at.button if b.label.startswith("Launch 1 run")).click().run()
    assert not at.exception
    return [e.value.replace("\\", "") for e in at.error]


def test_a_launch_beyond_ones_share_is_refused_with_the_reason(open_page, log_in) -> None:
    log_in("ana@example.org", runs_each=1)
    at = open_page("train", recipe="baseline")
    assert launch(at) == []
    (run,) = RunStore().runs()
    assert run.launched_by == "ana@example.org"
    at = open_page("train", recipe="baseline")
    assert [e[:24] for e in launch(at)] == ["1 of your runs wait or t"]
    log_in("ben@example.org", runs_each=1)
    assert launch(open_page("train", recipe="baseline")) == []


@pytest.mark.parametrize("each", [0, -1, 1.5, "many", True])
def test_a_share_that_is_no_number_launches_nothing_and_says_so(open_page, log_in, each) -> None:
    log_in("ana@example.org", runs_each=each)
    for page in ("runs", "train"):
        at = open_page(page)
        assert not at.exception
        assert f"The secrets of this FER Lab say runs_each = {each!r}, and only a whole" in " ".join(
            c.value for c in at.sidebar.caption
        ).replace("\\", "")
        assert not [b for b in at.button if b.label.startswith("Launch")]


def test_a_share_needs_an_address_to_count_by(open_page, a_store, log_in) -> None:
    log_in("ana@example.org", runs_each=2, email_verified=False)
    at = open_page("runs", run="mine")
    assert [b.label for b in at.button] == ["Log out"]
    assert "runs_each counts by address" in " ".join(c.value for c in at.sidebar.caption).replace("\\", "")


def test_the_core_refuses_a_button_that_was_drawn_before_the_right_was_taken(open_page, a_store, log_in) -> None:
    log_in("ana@example.org", ["ana@example.org"])
    at = open_page("runs", run="mine")
    log_in("ana@example.org", [])
    next(b for b in at.button if b.label == "Resume").click().run()
    assert not at.exception
    assert RunStore().get("mine").state == "stopped"


def test_a_process_without_a_page_is_not_asked_for_a_login(log_in, store) -> None:
    log_in("eve@example.org", [])
    assert access.may_change()
    store.create(Config(), recipe=None, data={})


def test_names_and_notes_are_never_markup(open_page, add_run) -> None:
    evil = "<script>alert(1)</script> [x](javascript:alert(1)) ![](http://x.y/z.png) $x$ :red[y] **b**"
    add_run("mine", [0.3])
    RunStore().annotate("mine", name=evil[:80])
    for page in ("home", "runs", "compare"):
        at = open_page(page, run="mine")
        assert not at.exception
        for kind in ("markdown", "caption", "subheader", "warning", "error", "success"):
            for element in getattr(at, kind):
                assert "<script>" not in element.value
                assert "](" not in element.value or "pages/" in element.value or "mine" not in element.value
