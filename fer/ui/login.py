"""Logging in, where Streamlit's secrets ask for it, and who may launch.

With an `[auth]` section in the secrets every page shows a login and nothing else before somebody is logged in. With

    [fer]
    may_look = ["@example.org"]
    may_launch = ["ana@example.org"]
    runs_each = 4

only who has an address at example.org may look, and Ana alone may change and start things. Without a list nobody who is logged in
is kept from it; who may launch may look, and with `runs_each` nobody has more runs than that which wait or train. docs/class.md
shows the whole file.
A secrets file that cannot be read may have asked for a login, so it lets nobody in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from fer.access import Visitor, add_gate, add_visitor

_UNREADABLE = (
    "the secrets file of this FER Lab cannot be read, so nobody can log in; its server's log says where it is wrong."
)

_NO_LOGIN = "the secrets file of this FER Lab lists who may look or launch, but has no [auth] section to log in with; docs/class.md shows it."
_NO_ADDRESS = (
    "your provider vouches for no address of yours, and runs_each counts by address; ask whoever runs this FER Lab."
)
_NOT_LISTED = "your address is not among those that may {} this FER Lab; ask whoever runs it."


def required() -> bool:
    """Whether the secrets ask for a login, list who may do what, or cannot be read and so may."""
    secrets = _secrets()
    return secrets is None or "auth" in secrets or "fer" in secrets


def address() -> str:
    """The address of whoever is logged in, in small letters; '' where nobody is or the provider says that it is not theirs."""
    is_verified = str(st.user.get("email_verified", True)).lower() != "false"  # some providers send it as text
    if not st.user.get("is_logged_in") or not is_verified:
        return ""
    return str(st.user.get("email") or "").strip().lower()


def gate() -> None:
    """Show a login, and end the page's run, where one is asked for and nobody is logged in."""
    if not required():
        return
    secrets = _secrets()
    if secrets is None or "auth" not in secrets:
        _refuse(_UNREADABLE if secrets is None else _NO_LOGIN)
    if not st.user.get("is_logged_in"):
        st.title("FER Lab", anchor=False)
        st.markdown("Log in to see this FER Lab.")
        auth = secrets["auth"]
        if "client_id" in auth:
            st.button("Log in", icon=":material/login:", type="primary", on_click=st.login)
        for provider in (key for key, value in auth.items() if isinstance(value, Mapping)):
            st.button(f"Log in with {provider}", icon=":material/login:", on_click=st.login, args=(provider,))
        st.stop()
    with st.sidebar:
        st.caption(f":material/person: Logged in{' as' if address() else ''}")
        if address():
            st.text(address())
        st.button("Log out", icon=":material/logout:", on_click=st.logout, key="logout")
    if not _may_look(secrets):
        _refuse(_NOT_LISTED.format("look at"))


def why_not() -> str:
    """Why the visitor whose page runs in this thread may change nothing; '' where they may, or where it is no page."""
    if get_script_run_ctx(suppress_warning=True) is None or not required():
        return ""
    secrets = _secrets()
    if secrets is None or "auth" not in secrets:
        return _UNREADABLE if secrets is None else _NO_LOGIN
    if not st.user.get("is_logged_in"):
        return "nobody is logged in."
    if not _may_look(secrets):
        return _NOT_LISTED.format("look at")
    if _is_listed(secrets, "may_launch") is False:
        return _NOT_LISTED.format("launch on")
    each = secrets.get("fer", {}).get("runs_each")
    if each is not None and (isinstance(each, bool) or not isinstance(each, int) or each < 1):
        return f"the secrets of this FER Lab say runs_each = {each!r}, and only a whole number from 1 is allowed; ask whoever runs it."
    return _NO_ADDRESS if each is not None and not address() else ""


def visitor() -> Visitor:
    """Who has opened the page that runs in this thread; nobody where it is no page or no login is asked for."""
    if get_script_run_ctx(suppress_warning=True) is None or not required():
        return Visitor()
    return Visitor(address(), (_secrets() or {}).get("fer", {}).get("runs_each"))


def _refuse(why: str) -> NoReturn:
    st.title("FER Lab", anchor=False)
    st.error(f"{why[0].upper()}{why[1:]}", icon=":material/lock:")
    st.stop()


def _may_look(secrets: Mapping[str, Any]) -> bool:
    return _is_listed(secrets, "may_look") is not False or _is_listed(secrets, "may_launch") is True


def _is_listed(secrets: Mapping[str, Any], name: str) -> bool | None:
    """Whether the visitor's address, or '@' and its domain, stands in this list of `[fer]`; None where there is no such list."""
    allowed = secrets.get("fer", {}).get(name)
    if allowed is None:
        return None
    listed = {str(a).strip().lower() for a in ([allowed] if isinstance(allowed, str) else allowed)}
    return bool(address()) and not listed.isdisjoint({address(), "@" + address().rpartition("@")[2]})


def _secrets() -> Mapping[str, Any] | None:
    """The secrets, empty where there are none; None where there are some that cannot be read."""
    if st.secrets.load_if_toml_exists():
        return st.secrets
    return None if any(Path(path).exists() for path in st.config.get_option("secrets.files")) else {}


add_gate(why_not)
add_visitor(visitor)
