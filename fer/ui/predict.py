"""The parts of the Predict page: which networks, which pictures, and the answer about each.

Photos stay in the memory of the session that sent them: what was worked out lies in its session state, never in a cache
that sessions share, and nothing is written to disk. Only networks are shared.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.uploaded_file_manager import UploadedFile

from fer.card import FOR, MUST_NOT, SAYS, labels_note
from fer.data.dataset import CLASSES, Dataset, prepared
from fer.data.sample import draw_face
from fer.errors import ImageError
from fer.images import EXTENSIONS, read_photo
from fer.photos import MAX_ZIP_BYTES, Photo, is_zip, unzip
from fer.plots.predictions import annotated, board, boxed, says
from fer.results import as_csv, harmless_rows, result_rows
from fer.runs import TTA, Run, RunStore, by_merit, precision_of, whole_report
from fer.ui.frame import plain
from fer.ui.loaders import shown
from fer.ui.parts import data_notes, percent, pick_run
from fer.ui.predict_face import Opinion, face_card, own_data

if TYPE_CHECKING:  # these import torch, which takes seconds: only once there is a picture to ask about
    from fer.predict import FacePrediction, Predictor

SOURCES = ("Photos", "Camera", "Example faces")
MAX_PHOTOS = 200
MOST_NETWORKS = 3
_TYPES = [ending[1:] for ending in EXTENSIONS]  # without HEIC, which Safari then makes a JPEG of before it sends it
_MOST_CARDS = 12  # faces of one photo shown in full; all of them are in the table
_PHOTOS_A_PAGE = 5
_VIEW_WIDTH, _VIEW_HEIGHT = 640, 560  # pixels on the screen, at most
_PROBLEM_WIDTH = 720  # pixels in the table: a sentence of 110 letters
_BOARD_WIDTH = 470  # what a column of a wide page has: a figure that must shrink keeps its height, and leaves a gap
_ANSWERS, _ZIPS, _STOPPED = "predict-answers", "predict-zips", "predict-stopped"
_FOUND = "predict-found"  # by photo whose box is set by hand: the faces that were found, the biggest first

HandBox = tuple[int, int, int, float]  # left, top and side in pixels, and the angle of the face that was found there


@dataclass(frozen=True)
class Sent:
    """A picture that a visitor sent: a key that is its own in this session, its name, and its bytes or why it has none."""

    key: str
    name: str
    file: UploadedFile | None = None
    packed: Photo | None = None

    @property
    def error(self) -> str:
        return self.packed.error if self.packed else ""

    @property
    def content(self) -> bytes:
        return self.packed.content if self.packed else self.file.getvalue() if self.file else b""


@dataclass(frozen=True)
class Answer:
    """What is shown of one photo: its boxed picture as JPEG, its faces, what other networks say of each, or why there is none."""

    name: str
    width: int = 0
    height: int = 0
    view: bytes = b""
    faces: tuple[FacePrediction, ...] = ()
    others: Mapping[str, tuple[FacePrediction, ...]] = field(default_factory=dict)
    whole: bool = False  # judged as one face, by the square in its middle
    by_hand: bool = False  # the first face's box is set by hand
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `predict --json` has it."""
        if self.error:
            return {"image": self.name, "error": self.error}
        faces = [face.to_json() for face in self.faces]
        for run_id, theirs in self.others.items():
            for mine, other in zip(faces, theirs, strict=True):
                mine.setdefault("others", {})[run_id] = {k: v for k, v in other.to_json().items() if k != "box"}
        return {"image": self.name, "width": self.width, "height": self.height, "faces": faces}


# --- the networks


def choose_runs(everything: Sequence[Run]) -> tuple[list[Run], bool]:
    """The runs to ask, the main one first and the best one by default, and whether to average over ten views; no run where
    none has weights."""
    runs = [r for r in shown(everything) if r.has_weights]
    if not runs:
        return [], False
    best = next((r.id for r in by_merit(runs)), None)
    wide, narrow = st.columns([4, 1], vertical_alignment="bottom")
    with wide:
        main = pick_run(
            "Network",
            sorted(runs, key=lambda r: r.id != best),
            default=best,
            help="A run with saved weights; those of its best epoch are asked.",
        )
    with narrow, st.popover("Options", icon=":material/tune:", width="stretch"):
        others = st.multiselect(
            "Ask other networks too",
            [r.id for r in runs if main and r.id != main.id],
            max_selections=MOST_NETWORKS - 1,
            format_func=lambda i: next(r.name for r in runs if r.id == i),
            key="predict-others",
            help="They judge the same faces, side by side with the first.",
        )
        tta = st.toggle(
            "Average over ten views",
            key="predict-tta",
            help="Each face is shown ten times, mirrored and moved a little. Somewhat more often right, ten times the work.",
        )
    for run in shown(everything):
        if run.members and not run.has_weights and (missing := run.missing_members()):
            st.caption(f":material/info: {plain(missing)}")
    by_id = {r.id: r for r in runs}
    return ([main] if main else []) + [by_id[i] for i in others if i in by_id], bool(tta)


def what_it_learned(run: Run, *, tta: bool = False) -> None:
    """On what the run was trained and how good it is, with ten views where it is asked so, before it judges anybody."""
    if run.synthetic:
        st.warning(
            "**Trained on synthetic faces.** This network has only seen faces drawn by FER Lab, never a photograph. Its answers about a photo mean little.",
            icon=":material/draw:",
        )
    if run.best:
        with_views = run.report("val" + TTA) if tta else None
        whole = whole_report(with_views)
        top1 = with_views["top1"] if whole else run.best["val_top1"]
        epoch = "" if run.members else ", in its best epoch"
        looks = (", with ten views" if whole else ", with one look at each") if tta else ""
        st.caption(
            f":material/target: Right for {percent(top1, 1)} of the validation pictures of {plain(run.data_name)}{epoch}{looks}."
        )
    if not run.synthetic:
        data_notes([run])


def load_predictors(store: RunStore, runs: Sequence[Run], *, tta: bool = False) -> list[Predictor]:
    """The runs' networks, shared by all sessions and read again when weights, reports or their name change. Raises
    CheckpointError."""
    return [_load_predictor(run.id, str(store.root), tta, _identity(store, run)) for run in runs]


def _identity(store: RunStore, run: Run) -> tuple[Any, ...]:
    names = ("best.safetensors", "report.json", "report-local.json", "logits-val.npz", "logits-val+tta.npz")
    folders = [run.path, *(store.root / member for member in run.members)]
    found = [path.stat() for folder in folders for name in names if (path := folder / name).is_file()]
    return run.name, *((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in found)


@st.cache_resource(max_entries=8, show_spinner="Loading the network")
def _load_predictor(run_id: str, root: str, tta: bool, identity: tuple[Any, ...]) -> Predictor:
    from fer.predict import Predictor

    return Predictor(run_id, RunStore(Path(root)), tta=tta)


def price(predictor: Predictor) -> None:
    """Which answers the network gives, and what keeping back the others costs."""
    found = predictor.rule
    once = f" The threshold and these figures are of one look at each face: it was not evaluated with ten views. Evaluate does that, and so does `python -m fer evaluate {predictor.run.id} --tta`."
    also = "" if predictor.rule_fits else once
    if found is None:
        st.caption(
            ":material/help: It was not evaluated on val here, so it never says *unsure*, and its probabilities are not calibrated."
        )
    elif found.least > 1 or found.top1 is None:
        st.caption(
            f":material/help: It is always *unsure*: on val no part of its answers was right for {percent(found.target, 0)}.{also}"
        )
    else:
        st.caption(
            f":material/help: It is *unsure* where an answer's chance of being right, by its label and the probability, is below {percent(found.least, 0)}. On val {percent(found.coverage, 0)} of the faces got an answer then, and {percent(found.top1, 0)} of these answers were right.{also}"
        )


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


def receive(source: str) -> list[Sent]:
    """The photos that were uploaded, those of zips too, at most 200, or the one taken with the camera, which is opened only
    when it was chosen."""
    if source == "Camera":
        photo = st.camera_input(
            "Take a photo", key="camera", width=640, help="The photo goes to this program only and stays in memory."
        )
        return [Sent(photo.file_id, photo.name, photo)] if photo else []
    files = st.file_uploader(
        "Photos, or a zip of photos",
        type=[*_TYPES, "zip"],
        accept_multiple_files=True,
        max_upload_size=MAX_ZIP_BYTES // 2**20,
        key="photos",
    )
    kept = st.session_state.get(_ZIPS, {})
    st.session_state[_ZIPS] = {f.file_id: kept[f.file_id] for f in files if f.file_id in kept}
    sent = [one for file in files for one in _sent(file)]
    if len(sent) > MAX_PHOTOS:
        st.warning(
            f"You chose {len(sent)} photos; the first {MAX_PHOTOS} are judged. Remove some to see the others.",
            icon=":material/info:",
        )
    return sent[:MAX_PHOTOS]


def _sent(file: UploadedFile) -> list[Sent]:
    """The file itself, or the pictures in it. What a zip holds is unpacked once a session and forgotten with its file."""
    if not is_zip(file.name, b""):
        return [Sent(file.file_id, file.name, file)]
    zips = st.session_state[_ZIPS]
    if file.file_id not in zips:
        zips[file.file_id] = _unzipped(file)
    return [Sent(f"{file.file_id}-{i}", photo.name, packed=photo) for i, photo in enumerate(zips[file.file_id])]


def _unzipped(file: UploadedFile) -> list[Photo]:
    try:
        return unzip(file.getvalue(), file.name)
    except ImageError as error:
        return [Photo(file.name, error=str(error))]


def invite(source: str) -> None:
    """What to do while there is no photo yet."""
    with st.container(border=True):
        if source == "Camera":
            st.markdown("**Take a photo above.** Faces that look at the camera in even light are found best.")
        else:
            st.markdown(
                "**Nothing uploaded yet.** Drop a photo with one or more faces above. Each face found gets a box, a label and a probability for each of the seven expressions."
            )
            st.caption("A HEIC photo, as phones make them, cannot be read: save it as JPEG first.")
        st.button("Try it on example faces", icon=":material/face:", on_click=_choose_examples)


def _choose_examples() -> None:
    st.session_state["from"] = "Example faces"


# --- answers


def judge(predictors: Sequence[Predictor], photos: Sequence[Sent]) -> list[Answer | None]:
    """An answer for each photo, None for one that the visitor's stop left out. What this session has had answered is not
    worked out again, and forgotten with its photo."""
    _keep_choices(photos)
    known = st.session_state.get(_ANSWERS, {})
    asked = tuple(predictors)
    keys = [(asked, p.key, bool(st.session_state.get(_whole_key(p))), _hand_box(p)) for p in photos]
    missing = [key for key in keys if key not in known]
    wanted, changed = set(keys), {key[:2] for key in missing} & {key[:2] for key in known}
    # What these networks said of a photo before its box changed goes when the new answer is there.
    st.session_state[_ANSWERS] = current = {k: a for k, a in known.items() if k in wanted or k[:2] in changed}
    stopped = st.session_state.get(_STOPPED)
    due = [key for key in missing if not stopped or key[:2] in changed]  # a stop leaves out what was not looked at yet
    place = st.empty()  # there in every run, so that what stands below keeps its place on the page
    if due and predictors:
        _work(place, predictors, dict(zip(keys, photos, strict=True)), due, current)
        st.session_state[_ANSWERS] = current = {key: current[key] for key in keys if key in current}
    missing = [key for key in keys if key not in current]
    if missing and st.session_state.get(_STOPPED):
        with place.container():
            done = len(keys) - len(missing)
            st.info(f"Stopped: {done} of {len(keys)} photos were looked at.", icon=":material/pause_circle:")
            st.button("Go on", icon=":material/play_arrow:", on_click=_set_stopped, args=(False,))
    elif not missing:
        _set_stopped(False)
    return [current.get(key) for key in keys]


def _work(
    place: DeltaGenerator,
    predictors: Sequence[Predictor],
    photos: Mapping[Any, Sent],
    missing: list[Any],
    current: dict[Any, Answer],
) -> None:
    """Answer one photo after the other; each answer is kept at once, so that a stop loses none."""
    with place.container():
        bar = st.progress(0.0, text="Looking for faces")
        if len(missing) > 1:
            st.button("Stop", icon=":material/stop:", on_click=_set_stopped, args=(True,))
    for done, key in enumerate(missing):
        if len(missing) > 1:
            bar.progress(done / len(missing), text=f"Looking for faces in photo {done + 1} of {len(missing)}")
        photo = photos[key]
        beside = st.session_state.get(_FOUND, {}).get(photo.key, ())
        current[key] = answer(
            predictors, photo.content, photo.name, whole=key[2], box=key[3], beside=beside, error=photo.error
        )
    place.empty()


def _keep_choices(photos: Sequence[Sent]) -> None:
    """Keep what was set for each photo: Streamlit forgets widgets that are not drawn, as those of photos on another page."""
    for photo in photos:
        for key in (_whole_key(photo), _hand_key(photo), *_hand_keys(photo)):
            if key in st.session_state:
                st.session_state[key] = st.session_state[key]
    keys, found = {photo.key for photo in photos}, st.session_state.get(_FOUND, {})
    st.session_state[_FOUND] = {key: faces for key, faces in found.items() if key in keys}


def _set_stopped(stopped: bool) -> None:
    st.session_state[_STOPPED] = stopped


def answer(
    predictors: Sequence[Predictor],
    content: bytes,
    name: str,
    *,
    whole: bool = False,
    box: HandBox | None = None,
    beside: Sequence[FacePrediction] = (),
    error: str = "",
) -> Answer:
    """The answer about one file; a file that cannot be read gets its sentence.

    box: set by hand; its face comes first, before those faces `beside` it, found earlier, that are not the same.
    """
    from fer.faces import is_face_crop  # OpenCV; the networks are loaded by now

    if error:
        return Answer(name, error=error)
    try:
        photo = read_photo(content, name)
    except ImageError as unreadable:
        return Answer(name, error=str(unreadable))
    first = predictors[0]
    if box:
        left, top, side, angle = box
        faces = first.predict_photo(photo, box=(left, top, side, side), angle=angle)
        faces += _judged_again(first, [f for f in beside if not _is_at(f, (left, top, side))])
    else:
        faces = first.predict_photo(photo, whole=whole)
    others = {p.run.id: tuple(p.judge([f.crop for f in faces], [f.box for f in faces])) for p in predictors[1:]}
    view = io.BytesIO()
    boxed(photo, [face.box for face in faces]).save(view, "JPEG", quality=90)
    as_one = not box and (whole or is_face_crop(photo))
    return Answer(name, photo.shape[1], photo.shape[0], view.getvalue(), tuple(faces), others, as_one, bool(box))


def _judged_again(predictor: Predictor, faces: Sequence[FacePrediction]) -> list[FacePrediction]:
    """Faces that were found earlier, as this network sees them: another one may be asked now."""
    said = predictor.judge([f.crop for f in faces], [f.box for f in faces])
    return [replace(one, square=f.square, angle=f.angle) for one, f in zip(said, faces, strict=True)]


def _is_at(face: FacePrediction, place: tuple[int, int, int]) -> bool:
    """Whether the face that was found is about the one in the square set by hand: left, top and side."""
    from fer.faces import same_face  # OpenCV; there is an answer to move the box of, so it is loaded

    left, top, side = place
    return bool(face.square) and same_face(face.square, (left, top, side, side))


def show_all(predictors: Sequence[Predictor], photos: Sequence[Sent], answers: Sequence[Answer | None]) -> None:
    """The photos that were answered, a few at a time, in the order in which they were sent."""
    pairs = [(p, a) for p, a in zip(photos, answers, strict=True) if a]
    first = 0
    if len(pairs) > _PHOTOS_A_PAGE:
        pages = -(-len(pairs) // _PHOTOS_A_PAGE)
        page = st.selectbox(
            "Photos shown",
            range(pages),
            format_func=lambda i: (
                f"{i * _PHOTOS_A_PAGE + 1} to {min(len(pairs), (i + 1) * _PHOTOS_A_PAGE)} of {len(pairs)}"
            ),
            width=220,
        )
        first = page * _PHOTOS_A_PAGE
    for photo, found in pairs[first : first + _PHOTOS_A_PAGE]:
        show(predictors, photo, found)


def show(predictors: Sequence[Predictor], photo: Sent, found: Answer) -> None:
    """One photo with its boxes beside what is said about each face."""
    st.subheader(plain(found.name), anchor=False)
    if found.error:
        st.error(plain(found.error), icon=":material/broken_image:")
        return
    left, right = st.columns(2, gap="medium")
    with left:
        if _hand_box(photo):
            _show_board(photo, found)
        else:
            st.image(found.view, width=_view_width(found), alt=_photo_alt(found))
        st.caption(f"{found.width:,} x {found.height:,} pixels. {_count(found)}.")
        _offer_box(photo, found)
        if found.faces:
            st.download_button(
                "Photo with boxes (PNG)",
                partial(_annotated, photo, found),
                file_name=f"{_safe_stem(found.name)}-faces.png",
                mime="image/png",
                icon=":material/download:",
                on_click="ignore",
                key=f"png-{photo.key}",
            )
    with right:
        _offer_whole(photo, found)
        for i, face in enumerate(found.faces[:_MOST_CARDS], start=1):
            opinions = [Opinion(predictors[0], face)]
            opinions += [Opinion(p, found.others[p.run.id][i - 1]) for p in predictors[1:]]
            several = len(found.faces) > 1
            note = "In the box set by hand" if found.by_hand and several and i == 1 else ""
            face_card(opinions, f"Face {i}" if several else "The face", key=f"{photo.key}-{i}", note=note)
        if len(found.faces) > _MOST_CARDS:
            st.caption(f"The {len(found.faces) - _MOST_CARDS} smaller faces are in the table below.")


def _annotated(photo: Sent, found: Answer) -> bytes:
    words = [(face.label, face.unsure) for face in found.faces]
    return annotated(read_photo(photo.content, photo.name), [face.box for face in found.faces], words)


def _safe_stem(name: str) -> str:
    """The name for a download: letters, digits, '-' and '_' of the photo's own name."""
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in PurePosixPath(name).stem)
    return stem.strip("-")[:60] or "photo"


def _offer_whole(photo: Sent, found: Answer) -> None:
    key = _whole_key(photo)
    if not found.faces:
        st.info(
            "**No face found.** Faces must look roughly at the camera, be wider than about 4 % of the photo and not lie on their side. If the picture is a single face, judge it whole, or set the box by hand below the photo.",
            icon=":material/search_off:",
        )
    if not found.faces or st.session_state.get(key):
        st.toggle(
            "Use the whole picture as a face",
            key=key,
            help="By the largest square in its middle, so that the face is not squeezed: the ends of a long picture are left out.",
        )


def _offer_box(photo: Sent, found: Answer) -> None:
    """A square set by hand, by sliders or drawn on the photo, which shows it as it is moved."""
    if (found.width, found.height) == (48, 48) or st.session_state.get(_whole_key(photo)):
        return
    by_hand = st.toggle(
        "Set the box by hand",
        key=_hand_key(photo),
        help="Where a face was missed, or its box is off. The box is judged beside the faces that were found; where it overlaps one of them, it takes that face's place.",
        on_change=_start_box,
        args=(photo, found),
    )
    side, left, top = _hand_keys(photo)
    if by_hand and min(found.width, found.height) > 1:
        x, y, longest = _start(photo, found)  # a face that was found may leave the photo
        st.caption(f"{_DRAW}{_beside(found)}{_turn_kept(photo)}")
        st.slider("Side of the square, pixels", 1, max(longest, min(found.width, found.height)), key=side)
        st.slider("From the left, pixels", min(0, x), found.width - 1, key=left)
        st.slider("From the top, pixels", min(0, y), found.height - 1, key=top)


_DRAW = "Draw a box around a face on the photo, or move these."


def _beside(found: Answer) -> str:
    """That the faces that were found stay, or '' where there is none but the box's own."""
    if len(found.faces) < 2:
        return ""
    return " It is Face 1. The faces that were found stay, but for one that it overlaps: it takes that face's place."


def _turn_kept(photo: Sent) -> str:
    """That the crop is still turned as the face that was found is, or ''."""
    box = _hand_box(photo)
    if not box or not box[3]:
        return ""
    return f" As long as the box overlaps the face that was found here, what is inside is turned by {abs(box[3]):g}°, so that it stands upright."


def _start_box(photo: Sent, found: Answer) -> None:
    """Begin with what the networks saw of the biggest face that was found, else with a square in the middle."""
    if found.by_hand:  # it was switched off
        return
    st.session_state.setdefault(_FOUND, {})[photo.key] = found.faces
    left, top, side = _start(photo, found)
    for key, value in zip(_hand_keys(photo), (side, left, top), strict=True):
        st.session_state[key] = value


def _start(photo: Sent, found: Answer) -> tuple[int, int, int]:
    """Left, top and side that a box set by hand begins with."""
    faces = st.session_state.get(_FOUND, {}).get(photo.key)
    if faces:
        return faces[0].square[:3]
    half = max(1, min(found.width, found.height) // 2)
    return (found.width - half) // 2, (found.height - half) // 2, half


def _show_board(photo: Sent, found: Answer) -> None:
    """The photo to draw a box on. The box that is set is in the picture itself, so each box is a board of its own."""
    width = min(_view_width(found), _BOARD_WIDTH)
    shown = max(10, width), max(10, round(width * found.height / found.width))  # plotly draws nothing smaller
    key = f"board-{photo.key}-{'-'.join(str(v) for v in _hand_box(photo) or ())}"
    st.plotly_chart(
        board(found.view, (found.width, found.height), shown),
        width=shown[0],
        theme=None,
        key=key,
        config={"displayModeBar": False},
        alt=_photo_alt(found),
        on_select=partial(_take_drawn, key, photo, found),
        selection_mode=("box",),
    )


def _take_drawn(key: str, photo: Sent, found: Answer) -> None:
    drawn = st.session_state[key].selection.box
    if drawn:
        left, top, side = drawn_square(drawn[-1]["x"], drawn[-1]["y"], found.width, found.height)
        for name, value in zip(_hand_keys(photo), (side, left, top), strict=True):
            st.session_state[name] = value


def drawn_square(x: Sequence[float], y: Sequence[float], width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of the square inside the photo that a drawn box means: as long as its longer side, around its middle.

    x, y: the box's two ends each, in pixels of the photo, in any order.
    """
    side = round(max(abs(x[1] - x[0]), abs(y[1] - y[0])))
    side = max(1, min(side, width, height))
    left, top = (round((ends[0] + ends[1] - side) / 2) for ends in (x, y))
    return max(0, min(left, width - side)), max(0, min(top, height - side)), side


def _hand_box(photo: Sent) -> HandBox | None:
    """What the visitor has set, with the angle of the face that was found there, so that it is cut out as before; None while
    the box is not set by hand."""
    side, left, top = (st.session_state.get(key) for key in _hand_keys(photo))
    if not st.session_state.get(_hand_key(photo)) or side is None:
        return None
    side = int(side)
    left, top = (max(1 - side, int(v or 0)) for v in (left, top))  # a pixel of the photo, at least
    faces = st.session_state.get(_FOUND, {}).get(photo.key, ())
    angle = next((face.angle for face in faces if _is_at(face, (left, top, side))), 0.0)
    return left, top, side, angle


def _whole_key(photo: Sent) -> str:
    return f"whole-{photo.key}"


def _hand_key(photo: Sent) -> str:
    return f"hand-{photo.key}"


def _hand_keys(photo: Sent) -> tuple[str, str, str]:
    return f"hand-side-{photo.key}", f"hand-left-{photo.key}", f"hand-top-{photo.key}"


def _count(found: Answer) -> str:
    faces = len(found.faces)
    if found.whole:
        ends = "" if found.width == found.height else ", by the square in the middle: its ends are left out"
        return f"Judged whole, as one face{ends}"
    order = "that of the box set by hand first, then the biggest" if found.by_hand else "the biggest first"
    return {0: "No face found", 1: "1 face"}.get(faces, f"{faces} faces, {order}")


def _photo_alt(found: Answer) -> str:
    if not found.faces:
        return "The photo; no face was found in it"
    return "The photo. " + "; ".join(
        f"face {i} {says(f.label, f.unsure)}" for i, f in enumerate(found.faces[:_MOST_CARDS], start=1)
    )


def _view_width(found: Answer) -> int:
    """Pixels on the screen: neither wider nor taller than its place, and a tiny picture enlarged."""
    widest = min(_VIEW_WIDTH, _VIEW_HEIGHT * found.width // found.height)
    return max(1, min(widest, max(found.width, 192)))


# --- examples


def examples(predictors: Sequence[Predictor]) -> None:
    """One face of each class with its label and the network's answer."""
    predictor = predictors[0]
    run = predictor.run
    turn = st.session_state.get("examples-turn", 0)
    data = own_data(run)
    faces, labels = _held_out_faces(data, turn) if data else _drawn_faces(turn)
    if data and not run.synthetic:
        st.markdown(f"A picture of each class from the validation pictures of {plain(run.data_name)}.")
        if others := [p.run.name for p in predictors[1:] if p.run.fingerprint != run.fingerprint]:
            st.caption(
                f":material/info: Trained on other data, so they may have learned from these pictures: {plain(', '.join(others))}."
            )
    elif run.synthetic:
        st.markdown(
            "One face of each expression, drawn by FER Lab: **synthetic**, like the faces that this network was trained on."
        )
    else:
        where = "is another version here" if run.data_name in prepared() else "is not prepared here"
        st.markdown(
            f"One face of each expression, drawn by FER Lab: **synthetic**. This network was trained on photographs, and its data set {plain(run.data_name)} {where}, so expect mistakes."
        )
    box = (0, 0, 48, 48)
    found = [p.judge(faces, [box] * len(faces)) for p in predictors]
    columns = st.columns(2)
    for i, label in enumerate(labels):
        opinions = [Opinion(p, theirs[i]) for p, theirs in zip(predictors, found, strict=True)]
        with columns[i % 2]:
            _example_card(opinions, label, key=f"example-{turn}-{i}")
    columns[len(faces) % 2].button("Show other faces", icon=":material/refresh:", on_click=_next_examples)


def _example_card(opinions: list[Opinion], label: str, *, key: str) -> None:
    agrees = opinions[0].face.label == label
    note = ":material/check: As labelled" if agrees else f":material/close: Labelled {plain(label)}"
    face_card(opinions, "This face", key=key, note=note)


def _held_out_faces(data: Dataset, turn: int) -> tuple[list[np.ndarray], list[str]]:
    """A held-out face (48, 48) uint8 of each class that has one, and their labels."""
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


def results(answers: Sequence[Answer | None], classes: Sequence[str], run: Run) -> None:
    """All faces of all photos in one table, as CSV and as JSON. The table is harmless too: its own menu saves it as CSV."""
    entries = [found.to_json() for found in answers if found]
    rows = result_rows(entries, classes)
    if not rows:
        return
    st.subheader("All results", anchor=False)
    table = pd.DataFrame(harmless_rows(rows)).drop(columns=["width", "height", "x", "y", "box_width", "box_height"])
    numbers = [c for c in ("confidence", *classes) if c in table]
    table[numbers] = table[numbers].apply(pd.to_numeric, errors="coerce") * 100
    table["unsure"] = table["unsure"].map({True: "unsure", False: "answered"})
    formats = {c: st.column_config.NumberColumn(c.capitalize(), format="%.1f %%") for c in numbers}
    words = {c: c.capitalize() for c in ("photo", "face", "label")} | {"unsure": "Answer"}
    words["problem"] = st.column_config.TextColumn("Problem", width=_PROBLEM_WIDTH)
    st.dataframe(table.dropna(axis=1, how="all"), hide_index=True, placeholder="", column_config={**words, **formats})
    with st.container(horizontal=True):
        _download("CSV", as_csv([{"run": run.id, **row} for row in rows]), "predictions.csv", "text/csv")
        content = json.dumps({"run": run.id, "photos": entries}, indent=1, allow_nan=False)
        _download("JSON", content.encode(), "predictions.json", "application/json")


def _download(kind: str, content: bytes, name: str, mime: str) -> None:
    st.download_button(
        f"Download results ({kind})",
        content,
        file_name=name,
        mime=mime,
        icon=":material/download:",
        on_click="ignore",
        key=f"download-{kind}",
    )


# --- responsibility


def responsible_use(run: Run) -> None:
    """What the page is for, what it must not be used for, how good the network is by class, and what becomes of a photo."""
    with st.expander("What this is for, and what not", icon=":material/policy:"):
        st.markdown(
            f"- **What it says.** {SAYS}\n"
            f"- **How far to trust it.** {labels_note(run)} Probabilities are calibrated on validation pictures; on photos of another kind they are less to be trusted.\n"
            f"- **What it is for.** {FOR}\n"
            f"- **What it must not be used for.** {MUST_NOT}\n"
            "- **Your photos.** They stay in memory for this session, are written nowhere, and no other session can see them."
        )
        report = run.report("val")
        if whole_report(report):
            st.markdown(
                f"**How good {plain(run.name)} is by class,** on the validation pictures of {plain(run.data_name)}:"
            )
            table = {
                c: {
                    "pictures": f"{row['n']:,}",
                    "right when it says so (precision)": percent(precision_of(report, c), 0),
                    "found of all such faces (recall)": percent(row["recall"], 0),
                }
                for c, row in report["per_class"].items()
            }
            st.table(pd.DataFrame.from_dict(table, orient="index"))
