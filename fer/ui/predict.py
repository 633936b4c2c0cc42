"""The parts of the Predict page: which run, which pictures, and the answer about each.

Photos stay in the memory of the session that sent them: what was worked out lies in its session state, never in a cache
that sessions share, and nothing is written to disk. Only networks are shared.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

from fer.data.dataset import CLASSES, prepared
from fer.data.sample import draw_face
from fer.errors import ImageError
from fer.images import MAX_PHOTO_BYTES, read_image
from fer.plots.predictions import bars_alt, boxed, enlarged, looks, probability_bars
from fer.runs import Run, RunStore, by_merit
from fer.ui.frame import dark, plain
from fer.ui.loaders import load_dataset, shown
from fer.ui.parts import chart, data_notes, harmless, percent, pick_run

if TYPE_CHECKING:  # these two import torch, which takes seconds: only once there is a picture to ask about
    from fer.predict import FacePrediction, Predictor

SOURCES = ("Photos", "Camera", "Example faces")
MAX_PHOTOS = 20
_TYPES = ["jpg", "jpeg", "jfif", "png", "webp", "bmp", "tif", "tiff", "gif"]
_MOST_CARDS = 12  # faces of one photo shown in full; all of them are in the table
_VIEW_WIDTH, _VIEW_HEIGHT = 640, 560  # pixels on the screen, at most
_ANSWERS = "predict-answers"


@dataclass(frozen=True)
class Answer:
    """What is shown of one photo: its boxed picture as JPEG and its faces, or why there is none."""

    name: str
    width: int = 0
    height: int = 0
    view: bytes = b""
    faces: tuple[FacePrediction, ...] = ()
    error: str = ""


# --- the run


def choose_run(everything: Sequence[Run]) -> Run | None:
    """The run to ask, the best one trained on photographs first; None where no run has weights."""
    runs = [r for r in shown(everything) if r.has_weights]
    best = next((r.id for r in by_merit(runs)), None)
    ordered = sorted(runs, key=lambda r: r.id != best)
    return pick_run(
        "Network", ordered, default=best, help="A run with saved weights; those of its best epoch are asked."
    )


def what_it_learned(run: Run) -> None:
    """On what the run was trained and how good it is, before it judges anybody."""
    if run.synthetic:
        st.warning(
            "**Trained on synthetic faces.** This network has only seen faces drawn by FER Lab, never a photograph. Its answers about a photo mean little.",
            icon=":material/draw:",
        )
    if run.best:
        st.caption(
            f":material/target: Right for {percent(run.best['val_top1'], 1)} of the validation pictures of {plain(run.data_name)}, in its best epoch."
        )
    if not run.synthetic:
        data_notes([run])


def load_predictor(store: RunStore, run: Run) -> Predictor:
    """The run's network, shared by all sessions and read again when its weights change. Raises CheckpointError."""
    path = run.path / "best.safetensors"
    stat = path.stat() if path.is_file() else None
    identity = (stat.st_ino, stat.st_mtime_ns, stat.st_size) if stat else None
    return _load_predictor(run.id, str(store.root), identity)


@st.cache_resource(max_entries=8, show_spinner="Loading the network")
def _load_predictor(run_id: str, root: str, identity: tuple[int, ...] | None) -> Predictor:
    from fer.predict import Predictor

    return Predictor(run_id, RunStore(Path(root)))


# --- pictures in


def choose_source() -> str:
    """Where the pictures come from, kept in the URL; one of `SOURCES`."""
    return st.segmented_control(
        "Pictures from",
        SOURCES,
        default=SOURCES[0],
        required=True,
        key="from",
        bind="query-params",
        label_visibility="collapsed",
    )


def receive(source: str) -> list[UploadedFile]:
    """The photos that were uploaded, at most 20, or taken with the camera, which is opened only when it was chosen."""
    if source == "Camera":
        photo = st.camera_input(
            "Take a photo", key="camera", width=640, help="The photo goes to this program only and stays in memory."
        )
        return [photo] if photo else []
    photos = st.file_uploader(
        "One or more photos",
        type=_TYPES,
        accept_multiple_files=True,
        max_upload_size=MAX_PHOTO_BYTES // 2**20,
        key="photos",
    )
    if len(photos) > MAX_PHOTOS:
        st.warning(
            f"You chose {len(photos)} photos; the first {MAX_PHOTOS} are judged. Remove some to see the others.",
            icon=":material/info:",
        )
    return photos[:MAX_PHOTOS]


def invite(source: str) -> None:
    """What to do while there is no photo yet."""
    with st.container(border=True):
        if source == "Camera":
            st.markdown("**Take a photo above.** Faces that look at the camera in even light are found best.")
        else:
            st.markdown(
                "**Nothing uploaded yet.** Drop a photo with one or more faces above. Each face found gets a box, a label and a probability for each of the seven expressions."
            )
        st.button("Try it on example faces", icon=":material/face:", on_click=_choose_examples)


def _choose_examples() -> None:
    st.session_state["from"] = "Example faces"


# --- answers


def judge(predictor: Predictor | None, photos: Sequence[UploadedFile]) -> list[Answer]:
    """An answer for each photo. What this session has had answered is not worked out again, and forgotten with its photo."""
    known = st.session_state.get(_ANSWERS, {})
    keys = [(predictor, p.file_id, bool(st.session_state.get(_whole_key(p)))) for p in photos]
    missing = sum(key not in known for key in keys)
    bar = st.progress(0.0, text="Looking for faces") if missing else None
    current: dict[Any, Answer] = {}
    for done, (key, photo) in enumerate(zip(keys, photos, strict=True)):
        if bar and missing > 1:
            bar.progress(done / len(photos), text=f"Looking for faces in photo {done + 1} of {len(photos)}")
        current[key] = known.get(key) or answer(predictor, photo.getvalue(), photo.name, whole=key[2])
    if bar:
        bar.empty()
    st.session_state[_ANSWERS] = current
    return [current[key] for key in keys]


def answer(predictor: Predictor, content: bytes, name: str, *, whole: bool = False) -> Answer:
    """The answer about one file; a file that cannot be read gets its sentence."""
    try:
        photo = np.asarray(read_image(content, name=name, max_bytes=MAX_PHOTO_BYTES))
    except ImageError as error:
        return Answer(name, error=str(error))
    faces = predictor.predict_photo(photo, whole=whole)
    view = io.BytesIO()
    boxed(photo, [face.box for face in faces]).save(view, "JPEG", quality=90)
    return Answer(name, photo.shape[1], photo.shape[0], view.getvalue(), tuple(faces))


def show(photo: UploadedFile, found: Answer, number: int) -> None:
    """One photo with its boxes beside what is said about each face."""
    st.subheader(plain(found.name), anchor=False)
    if found.error:
        st.error(plain(found.error), icon=":material/broken_image:")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        st.image(found.view, width=_view_width(found), alt=_photo_alt(found))
        st.caption(f"{found.width:,} x {found.height:,} pixels. {_count(found)}.")
    with right:
        _offer_whole(photo, found)
        for i, face in enumerate(found.faces[:_MOST_CARDS], start=1):
            face_card(face, f"Face {i}" if len(found.faces) > 1 else "The face", key=f"{number}-{i}")
        if len(found.faces) > _MOST_CARDS:
            st.caption(f"The {len(found.faces) - _MOST_CARDS} smaller faces are in the table below.")


def face_card(face: FacePrediction, who: str, *, key: str, note: str = "") -> None:
    """A face: what it looks like, how probable that is, the crop that the network saw and all probabilities."""
    with st.container(border=True):
        st.markdown(f"**{who} {plain(looks(face.label))}** with {percent(face.confidence, 1)} probability")
        if note:
            st.caption(note)
        small, wide = st.columns([1, 3], vertical_alignment="center")
        small.image(enlarged(face.crop), width=112, alt="The 48 by 48 grey pixels that the network saw")
        with wide:
            chart(probability_bars(face.probs, dark=dark()), key=f"bars-{key}", alt=bars_alt(face.probs))


def _offer_whole(photo: UploadedFile, found: Answer) -> None:
    key = _whole_key(photo)
    if not found.faces:
        st.info(
            "**No face found.** Faces must look roughly at the camera, stand upright and be wider than about 4 % of the photo. If the picture is a single face, judge it whole.",
            icon=":material/search_off:",
        )
    if not found.faces or st.session_state.get(key):
        st.toggle("Use the whole picture as a face", key=key)


def _whole_key(photo: UploadedFile) -> str:
    return f"whole-{photo.file_id}"


def _count(found: Answer) -> str:
    faces = len(found.faces)
    if faces == 1 and found.faces[0].box == (0, 0, found.width, found.height):
        return "Judged whole, as one face"
    return {0: "No face found", 1: "1 face"}.get(faces, f"{faces} faces, the biggest first")


def _photo_alt(found: Answer) -> str:
    if not found.faces:
        return "The photo; no face was found in it"
    return "The photo. " + "; ".join(
        f"face {i} {looks(f.label)}" for i, f in enumerate(found.faces[:_MOST_CARDS], start=1)
    )


def _view_width(found: Answer) -> int:
    """Pixels on the screen: neither wider nor taller than its place, and a tiny picture enlarged."""
    fits = min(found.width, _VIEW_WIDTH, round(_VIEW_HEIGHT * found.width / found.height))
    return max(fits, min(192, round(_VIEW_HEIGHT * found.width / found.height)), 24)


# --- examples


def examples(predictor: Predictor) -> None:
    """One face of each class with its label and the network's answer."""
    run = predictor.run
    turn = st.session_state.get("examples-turn", 0)
    own = run.data_name in prepared()
    faces, labels = _own_faces(run, turn) if own else _drawn_faces(turn)
    if own and not run.synthetic:
        st.markdown(f"A picture of each class from the validation pictures of {plain(run.data_name)}.")
    elif run.synthetic:
        st.markdown(
            "One face of each expression, drawn by FER Lab: **synthetic**, like the faces that this network was trained on."
        )
    else:
        st.markdown(
            f"One face of each expression, drawn by FER Lab: **synthetic**. This network was trained on photographs, and its data set {plain(run.data_name)} is not prepared here, so expect mistakes."
        )
    probs = predictor.predict(np.stack(faces))
    columns = st.columns(2)
    for i, (crop, label, row) in enumerate(zip(faces, labels, probs, strict=True)):
        with columns[i % 2]:
            _example_card(predictor, crop, label, row, key=f"example-{turn}-{i}")
    columns[len(faces) % 2].button("Show other faces", icon=":material/refresh:", on_click=_next_examples)


def _example_card(predictor: Predictor, crop: np.ndarray, label: str, probs: np.ndarray, *, key: str) -> None:
    from fer.predict import FacePrediction

    face = FacePrediction((0, 0, 48, 48), crop, dict(zip(predictor.classes, map(float, probs), strict=True)))
    agrees = ":material/check: As labelled" if face.label == label else f":material/close: Labelled {plain(label)}"
    face_card(face, "This face", key=key, note=agrees)


def _own_faces(run: Run, turn: int) -> tuple[list[np.ndarray], list[str]]:
    """A held-out face of each class that has one, from the data set that the run was trained on."""
    data = load_dataset(run.data_name).with_val_fraction(run.config.data.val_fraction if run.config else None)
    images, labels = data.subset("val")
    rng = np.random.default_rng(turn)
    present = np.unique(labels)
    chosen = [int(rng.choice(np.flatnonzero(labels == k))) for k in present]
    return [images[i] for i in chosen], [data.classes[k] for k in present]


def _drawn_faces(turn: int) -> tuple[list[np.ndarray], list[str]]:
    faces = [draw_face(name, np.random.default_rng((turn, i)), intensity=1.0) for i, name in enumerate(CLASSES)]
    return faces, list(CLASSES)


def _next_examples() -> None:
    st.session_state["examples-turn"] = st.session_state.get("examples-turn", 0) + 1


# --- all answers as a table


def results(answers: Sequence[Answer], classes: Sequence[str], run: Run) -> None:
    """All faces of all photos in one table, and as CSV. The table is harmless too: its own menu saves it as CSV."""
    rows = result_rows(answers, classes)
    if not rows:
        return
    st.subheader("All results", anchor=False)
    shown = pd.DataFrame(_harmless_rows(rows)).drop(
        columns=["run", "width", "height", "x", "y", "box_width", "box_height"], errors="ignore"
    )
    numbers = [c for c in ("confidence", *classes) if c in shown]
    shown[numbers] = shown[numbers].apply(pd.to_numeric, errors="coerce") * 100
    formats = {c: st.column_config.NumberColumn(c.capitalize(), format="%.1f %%") for c in numbers}
    words = {c: c.capitalize() for c in ("photo", "face", "label", "problem")}
    st.dataframe(shown.dropna(axis=1, how="all"), hide_index=True, placeholder="", column_config={**words, **formats})
    st.download_button(
        "Download results (CSV)",
        as_csv([{"run": run.id, **row} for row in rows]),
        file_name="predictions.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def result_rows(answers: Sequence[Answer], classes: Sequence[str]) -> list[dict[str, Any]]:
    """One row a face: photo, size, face, box in pixels, label, confidence, a fraction for each class; or the problem."""
    rows: list[dict[str, Any]] = []
    for found in answers:
        head = {"photo": found.name, "width": found.width or None, "height": found.height or None}
        if not found.faces:
            rows.append({**head, "problem": found.error or "no face found"})
        for i, face in enumerate(found.faces, start=1):
            box = dict(zip(("x", "y", "box_width", "box_height"), face.box, strict=True))
            rows.append({**head, "face": i, **box, "label": face.label, "confidence": face.confidence, **face.probs})
    order = (
        "photo",
        "width",
        "height",
        "face",
        "x",
        "y",
        "box_width",
        "box_height",
        "label",
        "confidence",
        *classes,
        "problem",
    )
    return [{key: row.get(key) for key in order} for row in rows]


def as_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """CSV in UTF-8; text that a spreadsheet would take for a formula begins with an apostrophe."""
    frame = pd.DataFrame(_harmless_rows(rows))
    for column in ("width", "height", "face", "x", "y", "box_width", "box_height"):
        if column in frame:
            frame[column] = frame[column].astype("Int64")
    return frame.to_csv(index=False).encode()


def _harmless_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: harmless(value) for key, value in row.items()} for row in rows]


# --- responsibility


def responsible_use() -> None:
    """What the page is for, what it must not be used for, and what becomes of a photo."""
    with st.expander("What this is for, and what not", icon=":material/policy:"):
        st.markdown(
            "- **What it says.** What a face *looks like* to a small network, not what a person feels. Faces show feelings only loosely, and people differ.\n"
            "- **How far to trust it.** The labels of FER2013 are noisy: people who labelled some again agreed with about 65 % (Goodfellow et al., 2013). A high probability is not a high chance of being right.\n"
            "- **What it is for.** Learning how such networks work, and where they fail.\n"
            "- **What it is not for.** Judging people. Inferring emotions at work and in schools has been banned in the European Union since February 2025 (AI Act, Article 5(1)(f)), except for medical and safety reasons.\n"
            "- **Your photos.** They stay in memory for this session, are written nowhere, and no other session can see them."
        )
