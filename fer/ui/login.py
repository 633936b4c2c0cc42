"""Logging in, where Streamlit's secrets ask for it, and who may launch.

With an `[auth]` section in the secrets every page shows a login and nothing else before somebody is logged in. With

    [fer]
    may_launch = ["ana@example.org"]

these may change and start things, and everybody else who is logged in may look. Without that list nobody is kept from it.
A secrets file that cannot be read may have asked for a login, so it lets nobody in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from fer.access import add_gate

_UNREADABLE = (
    "the secrets file of this FER Lab cannot be read, so nobody can log in; its server's log says where it is wrong."
)


def required() -> bool:
    """Whether the secrets ask for a login, or cannot be read and so may."""
    secrets = _secrets()
    return secrets is None or "auth" in secrets


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
    if secrets is None:
        st.title("FER Lab", anchor=False)
        st.error(f"{_UNREADABLE[0].upper()}{_UNREADABLE[1:]}", icon=":material/lock:")
        st.stop()
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


def why_not() -> str:
    """Why the visitor whose page runs in this thread may change nothing; '' where they may, or where it is no page."""
    if get_script_run_ctx(suppress_warning=True) is None or not required():
        return ""
    secrets = _secrets()
    if secrets is None:
        return _UNREADABLE
    if not st.user.get("is_logged_in"):
        return "nobody is logged in."
    allowed = secrets.get("fer", {}).get("may_launch")
    if allowed is None:
        return ""
    listed = [allowed] if isinstance(allowed, str) else list(allowed)
    if address() and address() in {str(a).strip().lower() for a in listed}:
        return ""
    return "your address is not among those that may launch here; ask whoever runs this FER Lab."


def _secrets() -> Mapping[str, Any] | None:
    """The secrets, empty where there are none; None where there are some that cannot be read."""
    if st.secrets.load_if_toml_exists():
        return st.secrets
    return None if any(Path(path).exists() for path in st.config.get_option("secrets.files")) else {}


add_gate(why_not)
