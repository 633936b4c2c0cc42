"""The parts of the Data page."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import streamlit as st

from fer import access
from fer.config import with_settings
from fer.data.dataset import SAMPLE, Dataset, check_new_name, default_dataset, prepared, replaced_by, save
from fer.data.read import import_file, import_path
from fer.errors import DataError, FerError
from fer.recipes import RECIPES
from fer.ui.augmented import augmented_batch
from fer.ui.frame import plain
from fer.ui.parts import keep_in_address, table

_FACES_A_CLASS = 12
_VALUES = 8  # of a property of the pictures that are listed one by one
_SCALE = 2


def pick_dataset(names: Sequence[str]) -> str:
    """The data set to show, kept in the URL under `dataset`."""
    wanted = st.query_params.get("dataset", st.session_state.get("imported-dataset"))
    if "dataset" in st.query_params and wanted not in names:
        st.warning(
            f"The link names the data set {plain(str(wanted)[:80])}, which is not here.", icon=":material/link_off:"
        )
    if wanted not in names:
        try:
            wanted = default_dataset()
        except DataError:  # several and no default: the first is as good as any to look at
            wanted = names[0]
    chosen = st.selectbox(
        "Data set",
        names,
        index=list(names).index(wanted),
        format_func=lambda n: f"{n} (built in, synthetic)" if n == SAMPLE else n,
    )
    keep_in_address("dataset", chosen)
    return chosen


def facts(data: Dataset) -> None:
    """How many pictures each split holds; what a synthetic data set is."""
    if data.synthetic:
        st.info(
            "**Synthetic faces**, drawn by FER Lab so that you can try everything at once. What a network learns here says nothing about photographs.",
            icon=":material/draw:",
        )
    counts = {split: sum(by_class.values()) for split, by_class in data.counts().items()}
    meaning = {"train": "what networks learn from", "val": "chooses epochs and settings", "test": "looked at last"}
    for column, (split, n) in zip(st.columns(len(counts) + 1), [("all", len(data)), *counts.items()], strict=True):
        column.metric("Pictures" if split == "all" else f"In {split}", f"{n:,}", help=meaning.get(split), border=True)


def counts_alt(counts: Mapping[str, Mapping[str, int]]) -> str:
    """The bars in words."""
    return "Pictures by class. " + " ".join(
        f"{split}: " + ", ".join(f"{c} {n}" for c, n in by_class.items()) + "." for split, by_class in counts.items()
    )


def imbalance(counts: Mapping[str, Mapping[str, int]]) -> None:
    """A sentence on how uneven the training classes are."""
    train = counts.get("train", {})
    if not train:
        return
    most, least = max(train, key=train.__getitem__), min(train, key=train.__getitem__)
    total = sum(train.values())
    if train[most] == train[least]:
        st.markdown(
            f"Every class has {train[most]:,} training pictures: answering at random is right {100 / len(train):.0f} % of the time."
        )
        return
    st.markdown(
        f"For each picture of **{least}** there are {train[most] / max(train[least], 1):.1f} of **{most}**. "
        f"A network that always answers *{most}* is right {100 * train[most] / total:.0f} % of the time on train: less than that is no skill."
    )


def counts_table(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Counts and shares by class and split."""
    totals = {split: sum(by_class.values()) for split, by_class in counts.items()}
    rows = [
        {
            "class": name,
            **{split: by_class[name] for split, by_class in counts.items()},
            **{f"{split}, %": 100 * by_class[name] / totals[split] for split, by_class in counts.items()},
        }
        for name in next(iter(counts.values()))
    ]
    number = st.column_config.NumberColumn
    table(rows, column_config={c: number(format="%.1f" if c.endswith("%") else "localized") for c in list(rows[0])[1:]})


def sample_grid(data: Dataset) -> None:
    """Some pictures of each class, the same ones until others are asked for."""
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    split = left.segmented_control(
        "Split", data.split_names, default=data.split_names[0], key="grid-split", required=True
    )
    if right.button("Others", icon=":material/shuffle:", width="stretch"):
        st.session_state["grid-seed"] = st.session_state.get("grid-seed", 0) + 1
    rng = np.random.default_rng(st.session_state.get("grid-seed", 0))
    members = data.indices(split or data.split_names[0])
    for label, name in enumerate(data.classes):
        of_class = members[data.labels[members] == label]
        chosen = rng.choice(of_class, min(_FACES_A_CLASS, len(of_class)), replace=False)
        st.markdown(f"**{name}**  {len(of_class):,}")
        if len(chosen):
            st.image(_strip(data.images[chosen]), width="stretch", alt=f"{len(chosen)} pictures labelled {name}")
    st.caption("Labels are as they came: people disagree about many of these pictures, and so will a network.")


def _strip(images: np.ndarray) -> np.ndarray:
    """(n, 48, 48) to one row of pictures with gaps, (96, n * 100, 4) uint8 with transparent gaps."""
    side, gap = 48 * _SCALE, 4
    strip = np.zeros((side, _FACES_A_CLASS * (side + gap), 4), np.uint8)
    for i, image in enumerate(images):
        large = image.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
        strip[:, i * (side + gap) : i * (side + gap) + side] = np.dstack(
            [large, large, large, np.full_like(large, 255)]
        )
    return strip


def augmentation(data: Dataset) -> None:
    """What an augmentation recipe makes of this data set's training pictures."""
    if "train" not in data.counts():
        st.caption("This data set has no training pictures to augment.")
        return
    kinds = {name: recipe for name, recipe in RECIPES.items() if recipe.changes and _only_augments(recipe.changes)}
    chosen = st.selectbox(
        "Recipe",
        list(kinds),
        index=list(kinds).index("augment"),
        format_func=lambda name: kinds[name].title,
        help="The recipes that change only the pictures. Every setting can be tried on the Train page.",
    )
    st.caption(plain(kinds[chosen].summary))
    augmented_batch(with_settings(kinds[chosen].config(), {"data.name": data.name}))


def _only_augments(changes: Mapping[str, object]) -> bool:
    return all(path.startswith("augment.") for path in changes)


def specification(data: Dataset) -> None:
    """What the files said of themselves when they were imported, as the study's figure 1 lists it."""
    spec = data.meta.get("spec", {})
    rows = []
    for key, label in (
        ("dimensions", "Dimensions, pixels"),
        ("resolution", "Resolution"),
        ("bit_depth", "Bit depth"),
        ("format", "File format"),
    ):
        seen = spec.get(key) or {"not stated": len(data)}
        ranked = sorted(seen.items(), key=lambda kv: -kv[1])
        shown, others = ranked[:_VALUES], ranked[_VALUES:]
        if others:
            shown.append((f"{len(others)} other{'s' * (len(others) > 1)}", sum(n for _, n in others)))
        rows += [{"property": label, "value": value, "pictures": n} for value, n in shown]
    table(rows, column_config={"pictures": st.column_config.NumberColumn(format="localized")})
    st.caption("Every picture is kept as 48 x 48 pixels, 8-bit grey.")
    st.markdown(f"Origin: {plain(str(data.meta.get('origin', 'not stated')))}. Fingerprint: `{data.fingerprint}`")
    if data.ignored_note:
        st.markdown(plain(data.ignored_note))
    skipped = data.meta.get("skipped", [])
    if skipped:
        with st.expander(f"{len(skipped):,} left out: not readable, or in no class folder"):
            more = [f"and {len(skipped) - 1000:,} more"] * (len(skipped) > 1000)
            st.text("\n".join([*map(str, skipped[:1000]), *more]))


def import_form() -> None:
    """Prepare another data set, from a path on this machine or from an upload."""
    if not access.may_change():
        return
    st.subheader("Import a data set", anchor=False)
    if said := st.session_state.pop("just-imported", None):
        st.success(plain(said), icon=":material/check_circle:")
    st.markdown(
        "A zip or folder in Kaggle's layout (`train/<class>/...` with `test/`, `val/` or both), or `fer2013.csv` / `icml_face_data.csv`. "
        "Pictures become 48 x 48 grey. Nothing leaves this machine."
    )
    way = st.segmented_control(
        "From", ["Path on this machine", "Upload"], default="Path on this machine", required=True
    )
    with st.form("import", border=True):
        path, upload = None, None
        if way == "Upload":
            upload = st.file_uploader("Zip or CSV, at most 500 MB", type=["zip", "csv"], max_upload_size=500)
        else:
            typed = st.text_input("Path of a folder, zip or CSV", placeholder="/home/me/Downloads/fer2013.zip").strip()
            path = Path(typed) if typed else None
        name = st.text_input(
            "Name",
            placeholder="fer2013",
            help="The name to prepare it under: a-z, 0-9, '.', '_' and '-'. 'fer2013' becomes the default of new runs.",
        )
        replace = st.checkbox("Replace a data set of that name")
        skip_bad = st.checkbox(
            "Skip bad pictures",
            help="Leave out pictures that cannot be read or lie in no class folder, and list them, instead of refusing the data set.",
        )
        asked = st.form_submit_button("Import", type="primary", icon=":material/upload:")
    if asked:
        _import(path, upload, name.strip(), replace=bool(replace), skip_bad=bool(skip_bad))


def _import(path: Path | None, upload: io.BytesIO | None, name: str, *, replace: bool, skip_bad: bool) -> None:
    bar = st.progress(0.0, text="Reading")

    def progress(done: int, total: int | None) -> None:
        bar.progress(
            min(1.0, done / total) if total else 0.0,
            text=f"Read {done:,}" + (f" of {total:,}" if total else "") + " pictures",
        )

    try:
        _check_import(path, upload, name, replace)
        if path:
            data = import_path(path, name, skip_bad=skip_bad, progress=progress)
        else:
            data = import_file(upload, upload.name, name, skip_bad=skip_bad, progress=progress)
        replaced = replaced_by(data)  # again: another tab may have saved one while this one read
        if replaced and not replace:
            raise DataError(f"{replaced} Choose another name, or tick 'Replace a data set of that name'.")
        save(data)
    except FerError as error:
        bar.empty()
        first, *rest = str(error).splitlines()
        st.error(plain(first), icon=":material/error:")
        if rest:
            st.code("\n".join(rest), language=None, height=240)
        return
    st.session_state["just-imported"] = (
        f"'{name}' is prepared. Train on it with: Train, Data set, {name}. {data.ignored_note}"
    )
    st.session_state["imported-dataset"] = name
    st.query_params["dataset"] = name
    st.rerun()


def _check_import(path: Path | None, upload: io.BytesIO | None, name: str, replace: bool) -> None:
    if path is None and upload is None:
        raise DataError(
            "There is nothing to import. Type the path of a folder, zip or CSV, or choose 'Upload' and pick a file."
        )
    if check_new_name(name) in prepared() and not replace:
        raise DataError(
            f"There is a data set '{name}' already. Choose another name, or tick 'Replace a data set of that name'."
        )
