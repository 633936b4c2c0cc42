"""Who may change what: a dashboard and a command line that only look, visitors who may only look, and how much each may launch.

Everything that changes a store or starts a process asks here first, in the core, so that no page and no command can forget it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from fer.errors import NotAllowed


@dataclass(frozen=True)
class Visitor:
    """Who acts in this thread.

    address: theirs, in small letters; '' at a command line, and where nobody logs in. runs_each: how many runs of theirs may
    wait or train at once; None: any number.
    """

    address: str = ""
    runs_each: int | None = None


_GATES: list[Callable[[], str]] = []
_ASKED: list[Callable[[], Visitor]] = [Visitor]


def read_only() -> bool:
    """Whether `FER_READ_ONLY` is set for this process: any value but '', '0', 'false' and 'no'."""
    return os.environ.get("FER_READ_ONLY", "").strip().lower() not in ("", "0", "false", "no")


def add_gate(reason: Callable[[], str]) -> None:
    """Ask this too from now on; it says why whoever acts in this thread may change nothing, or ''."""
    _GATES[:] = [g for g in _GATES if (g.__module__, g.__qualname__) != (reason.__module__, reason.__qualname__)]
    _GATES.append(reason)


def add_visitor(who: Callable[[], Visitor]) -> None:
    """Ask this from now on who acts in a thread."""
    _ASKED[:] = [who]


def visitor() -> Visitor:
    """Who acts in this thread."""
    return _ASKED[0]()


def why_not() -> str:
    """Why nothing may be changed or started here and now; '' where it may."""
    if read_only():
        return "FER_READ_ONLY is set, so this FER Lab only shows what is there."
    return next((said for gate in _GATES if (said := gate())), "")


def may_change() -> bool:
    """Whether something may be changed or started here and now."""
    return not why_not()


def require(what: str) -> None:
    """Raises NotAllowed, which says `what` was refused and why, where nothing may be changed or started."""
    reason = why_not()
    if reason:
        raise NotAllowed(f"{what[0].upper()}{what[1:]} is refused: {reason}")
