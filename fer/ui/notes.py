"""What a person can say of a run and do with its folder: name, tags, note, pin, archive, delete. For Runs and Compare."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from fer.errors import FerError
from fer.runs import ACTIVE, Run, RunStore, lost_ensembles
from fer.ui.frame import plain


def edit(store: RunStore, run: Run) -> None:
    """The fields and buttons of one run; each change is written at once and the page is run again."""
    if run.shipped:
        st.caption("This run came with FER Lab: it can be pinned and archived, not renamed or deleted.")
    else:
        _fields(store, run)
    _button(
        run,
        "Unpin" if run.notes.pinned else "Pin to the top",
        ":material/keep:",
        lambda: store.annotate(run.id, pinned=not run.notes.pinned),
    )
    _button(
        run,
        "Bring back" if run.notes.archived else "Archive",
        ":material/archive:",
        lambda: store.annotate(run.id, archived=not run.notes.archived),
        help="Take it out of the usual view; nothing is lost. Not while it waits or trains.",
        disabled=run.state in ACTIVE,
    )
    if not run.shipped and run.state not in ("running", "stopping"):
        sure = st.checkbox("Delete, with all its files; it can be brought back from the trash", key=f"sure-{run.id}")
        if sure and (lost := lost_ensembles(run.id, store.runs(archived=True))):
            st.warning(plain(lost), icon=":material/groups:")
        _button(run, "Delete", ":material/delete:", lambda: _delete(store, run.id), disabled=not sure)


def _delete(store: RunStore, run_id: str) -> None:
    """Delete it, and take it out of the address, which would ask for it in vain."""
    store.delete(run_id)
    asked = st.query_params.get_all("run")
    if run_id in asked:
        st.query_params["run"] = [i for i in asked if i != run_id]


def _fields(store: RunStore, run: Run) -> None:
    def save(what: str, read: Callable[[str], object]) -> Callable[[], None]:
        return lambda: _try(lambda: store.annotate(run.id, **{what: read(st.session_state[f"{what}-{run.id}"])}))

    st.text_input(
        "Name",
        value=run.notes.name,
        placeholder=run.id,
        max_chars=80,
        key=f"name-{run.id}",
        on_change=save("name", str),
    )
    st.text_input(
        "Tags",
        value=", ".join(run.notes.tags),
        placeholder="separated by commas",
        key=f"tags-{run.id}",
        on_change=save("tags", lambda text: [t.strip() for t in text.split(",") if t.strip()]),
    )
    st.text_area(
        "Note",
        value=run.notes.note,
        max_chars=4000,
        height=80,
        key=f"note-{run.id}",
        on_change=save("note", str),
    )


def _try(do: Callable[[], object]) -> bool:
    """Whether it could be done; if not, says why."""
    try:
        do()
    except FerError as error:
        st.toast(plain(str(error)), icon=":material/error:")
        return False
    return True


def _button(
    run: Run, label: str, icon: str, do: Callable[[], object], *, help: str | None = None, disabled: bool = False
) -> None:
    if st.button(label, icon=icon, help=help, disabled=disabled, key=f"{label}-{run.id}") and _try(do):
        st.toast(f"{label}: {plain(run.name)}", icon=icon)
        st.rerun()
