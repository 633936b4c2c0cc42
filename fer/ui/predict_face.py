"""One face on the Predict page: what it looks like to each network, how sure they are, what they looked at, and the training
faces closest to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from fer.data.dataset import Dataset, prepared
from fer.plots.predictions import bars_alt, enlarged, heat_over, looks, probability_bars
from fer.runs import Run
from fer.ui.frame import dark, plain
from fer.ui.loaders import load_dataset, remembered
from fer.ui.parts import chart, percent

if TYPE_CHECKING:  # these import torch
    from fer.explain import Neighbours
    from fer.predict import FacePrediction, Predictor

_CLOSEST = 6
_BEGUN = "predict-near-begun"  # of which network the training faces are being looked at, and what is done
_MAPS = ("Occlusion", "Integrated gradients", "LayerCAM")  # in the order of `explain.METHODS`


@dataclass(frozen=True)
class Opinion:
    """What one network says of a face."""

    predictor: Predictor
    face: FacePrediction


def face_card(opinions: Sequence[Opinion], who: str, *, key: str, note: str = "") -> None:
    """A face: what it looks like, how sure that is, the crop that the networks saw and all probabilities of each."""
    first = opinions[0]
    with st.container(border=True):
        st.markdown(answer_in_words(first, who))
        if note:
            st.caption(note)
        small, wide = st.columns([1, 3], vertical_alignment="center")
        small.image(enlarged(first.face.crop), width=112, alt="The 48 by 48 grey pixels that the network saw")
        with wide:
            _bars(first, key=f"bars-{key}")
        st.caption(how_often_right(first))
        for number, other in enumerate(opinions[1:], start=1):
            st.markdown(f"{plain(other.predictor.run.name)}: {answer_in_words(other, 'the face')}")
            _bars(other, key=f"bars-{key}-{number}")
        _explanation(first, key)
        _closest(first, key)


def answer_in_words(opinion: Opinion, who: str) -> str:
    """What is seen and how probable it is, or that the network is unsure and what comes nearest; Markdown."""
    face, name = opinion.face, plain(looks(opinion.face.label))
    if face.unsure:
        return f":material/help: **{who}: unsure.** Most like *{plain(face.label)}*, with only {percent(face.confidence, 1)} probability"
    return f"**{who} {name}** with {percent(face.confidence, 1)} probability"


def how_often_right(opinion: Opinion) -> str:
    """The precision of this label on val, in words."""
    label, run = plain(opinion.face.label), opinion.predictor.run
    report = opinion.predictor.report
    if report is None:
        return f"How often it is right when it says {label} is not known: it was not evaluated on val."
    precision = opinion.predictor.precision(opinion.face.label)
    if precision is None:
        return f"How often it is right when it says {label} is not known: it never said so on val."
    looks_once = ", with one look at each" if opinion.predictor.scorer.tta and not report.get("tta") else ""
    return f"When it says {label}, it is right for {percent(precision, 0)} of the validation pictures of {plain(run.data_name)}{looks_once}."


def _bars(opinion: Opinion, *, key: str) -> None:
    probs = opinion.face.probs
    figure = remembered(("bars", tuple(probs.items()), dark()), lambda: probability_bars(probs, dark=dark()))
    chart(figure, key=key, alt=bars_alt(probs))


# --- what it looked at


def _explanation(opinion: Opinion, key: str) -> None:
    """Three maps over the crop, worked out when asked for and kept with the session."""
    if not st.toggle("What it looked at", key=f"why-{key}"):
        return
    face, kept = opinion.face, st.session_state.setdefault("predict-why", {})
    found = kept.get((opinion.predictor, face.crop.tobytes()))
    if found is None:
        with st.spinner("Covering one part of the face after the other"):
            found = _maps(opinion)
        if len(kept) >= 50:
            kept.clear()
        kept[opinion.predictor, face.crop.tobytes()] = found
    for column, title, heat in zip(st.columns(len(_MAPS)), _MAPS, found, strict=True):
        column.image(heat_over(face.crop, heat), width=192, alt=f"{title}: what speaks for {face.label}, over the crop")
        column.caption(title)
    st.caption(
        f"Yellow is what speaks most for *{plain(face.label)}*. **Occlusion** covers one part after the other and watches the probability fall. **Integrated gradients** let the face emerge from grey and add up what each pixel does to the probability. **LayerCAM**, a finer Grad-CAM, reads the network's layers, coarsely. None says that the label is right."
    )


def _maps(opinion: Opinion) -> tuple[Any, ...]:
    from fer.explain import METHODS, explain

    label = opinion.predictor.classes.index(opinion.face.label)
    return tuple(explain(opinion.predictor.scorer, opinion.face.crop, label, method) for method in METHODS)


def _closest(opinion: Opinion, key: str) -> None:
    """The training faces that the network finds most alike, where its data set is on this machine."""
    run = opinion.predictor.run
    if run.data_name not in prepared() or not run.config:
        return
    if not st.toggle("The closest training faces", key=f"near-{key}", help=_closest_help(run)):
        return
    data = own_data(run)
    if data is None:
        st.caption(f"{plain(run.data_name)} is another version here than the one that it was trained on.")
        return
    found = _neighbours(opinion.predictor, data).closest(opinion.face.crop, _CLOSEST)
    for column, near in zip(st.columns(_CLOSEST), found, strict=False):
        column.image(enlarged(data.images[near.index]), width="stretch", alt="A training face")
        column.caption(plain(data.classes[int(data.labels[near.index])]))
    whose = f"the last layer of its first member, {plain(run.members[0])}," if run.members else "its last layer"
    st.caption(f"Training pictures that reach {whose} most alike, closest first, with their labels.")


def own_data(run: Run) -> Dataset | None:
    """The data set that the run was trained on, split as it was then; None where it is not here, or in another version, whose
    val may hold pictures that the run learned from. Raises DataError for a damaged one."""
    if run.data_name not in prepared():
        return None
    data = load_dataset(run.data_name).with_val_fraction(run.config.data.val_fraction if run.config else None)
    return data if data.fingerprint == run.fingerprint else None


def _closest_help(run: Run) -> str:
    """What the closest faces cost, with about how many training faces there are where the run's steps tell it."""
    steps = run.status.get("steps_per_epoch")
    many = steps * run.config.train.batch_size if isinstance(steps, int) and run.config else 0
    about = f", about {float(f'{many:.2g}'):,.0f} of them" if many > 0 else ""
    return f"First the network looks at every face that it was trained on{about}: once for this network, for all who ask, and that can take minutes. Switching this off stops it."


def _neighbours(predictor: Predictor, data: Dataset) -> Neighbours:
    """The training faces as the network sees them, worked out once for all sessions, with the share done shown.

    A visitor who leaves or switches it off stops the work at the next batch, where Streamlit ends the script that shows it;
    what this session has done of it is gone on with.
    """
    from fer.explain import Neighbours

    identity, place, rows = _identity(predictor, data), st.empty(), data.indices("train")
    kept = _kept_neighbours(identity)
    if not kept:
        said = f"Looking at all {len(rows):,} training faces, once for this network"
        bar = place.progress(0.0, text=said)
        if st.session_state.get(_BEGUN, ())[:1] != (identity,):
            st.session_state[_BEGUN] = identity, []
        kept[:] = [
            Neighbours(
                predictor.scorer.checkpoints[0],
                data.images,
                rows,
                lambda done: bar.progress(done, f"{said}: {100 * done:.0f} %"),
                begun=st.session_state[_BEGUN][1],
            )
        ]
        st.session_state.pop(_BEGUN, None)
        place.empty()
    return kept[0]


@st.cache_resource(max_entries=2, show_spinner=False)
def _kept_neighbours(identity: tuple[Any, ...]) -> list[Neighbours]:
    """Where those of a network on a data set are kept: empty until they are worked out."""
    return []


def _identity(predictor: Predictor, data: Dataset) -> tuple[Any, ...]:
    run = predictor.run
    weights = (run.path.parent / run.members[0] if run.members else run.path) / "best.safetensors"
    stat = weights.stat()
    return str(weights), stat.st_ino, stat.st_mtime_ns, stat.st_size, data.fingerprint
