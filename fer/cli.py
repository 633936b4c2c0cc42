"""The command line: `python -m fer ...`.

Every page of the dashboard has its twin here, over the same core. `--json` prints one JSON document on standard output
and nothing else. What the user got wrong is said in one plain sentence on standard error, with exit code 2.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from typer.exceptions import Abort, Exit, TyperException

import fer
from fer import access
from fer.config import Config, flatten, parse_assignments, unused, with_settings
from fer.errors import ConfigError, DataError, FerError, RunError
from fer.experiments import duration, figures, progress_in_words, recipe_results, result_in_words
from fer.files import write_bytes_atomic
from fer.recipes import RECIPES, get_recipe
from fer.runs import (
    ACTIVE,
    STATES,
    Run,
    RunStore,
    epoch_in_words,
    known_note,
    lost_ensembles,
    precision_of,
    temperature_note,
)

if TYPE_CHECKING:
    from fer.cluster import Ask

app = typer.Typer(
    name="fer",
    help="FER Lab: train, compare and try networks for facial expressions.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)
data_app = typer.Typer(help="Data sets: import, list and show them.", no_args_is_help=True, rich_markup_mode=None)
runs_app = typer.Typer(
    help="Runs: list, show, log, note, stop, resume, rename, archive, delete.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(runs_app, name="runs")
trash_app = typer.Typer(help="Deleted runs: list, restore, empty.", no_args_is_help=True, rich_markup_mode=None)
runs_app.add_typer(trash_app, name="trash")
queue_app = typer.Typer(
    help="The queue: list it, pause it, choose what is next.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(queue_app, name="queue")

_LOOK_SECONDS = 1.0  # between two looks at a run that is followed
_MOST_NAME_BYTES = 180  # of a photo's name in that of its annotated picture: most file systems take 255 in all

RunArg = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
TtaOption = Annotated[
    bool, typer.Option("--tta", help="Average over ten views of each face: middle and corners, each mirrored too.")
]
FollowOption = Annotated[
    bool,
    typer.Option("--follow", help="Go on printing until the run has ended. Ctrl-C ends the watching, not the run."),
]
OnOption = Annotated[
    str,
    typer.Option(
        "--on", metavar="machine|ray", help="Where: on this machine, or on the Ray cluster of FER_RAY_ADDRESS."
    ),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Put it in the place of another data set of that name, which is gone then.")
]
SkipBadOption = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out pictures that cannot be read or lie in no class folder, and say which."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for what the user got wrong, 130 after Ctrl-C."""
    try:
        result = app(args=arguments, standalone_mode=False)
    except FerError as error:
        return _complain(str(error))
    except TyperException as error:
        return _complain(error.format_message())
    except Exit as stop:
        return stop.exit_code
    except (Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:  # the reader of our output went away
        return 0
    return result if isinstance(result, int) else 0


# --- training --------------------------------------------------------------------------------------------------------


@app.command()
def train(
    recipe: Annotated[
        str, typer.Option(help="The named config to begin with; see: python -m fer recipes.")
    ] = "baseline",
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A prepared data set; see: python -m fer data list. Default: fer2013 where it is prepared, else the only one there is."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Change a setting, such as optim.lr=0.0005; may be given several times."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides the first weights and the order of the pictures. Default 0.")
    ] = None,
    run_id: Annotated[str | None, typer.Option(help="The run's id. Default: made from recipe and seed.")] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Leave it to the background worker and return at once.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Queue this many runs that differ by their seed, from --seed on.")
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option(
            "--grid",
            metavar="PATH=VALUE,VALUE",
            help="Queue a run for each combination of these values; may be given several times.",
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before several runs are queued.")] = False,
    on: OnOption = "machine",
    cpus: Annotated[
        int | None, typer.Option(help="CPUs that each run asks the cluster for. Default: runtime.threads, else 2.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="GPUs, 0 to 1, likewise. Default: 1 with runtime.device=cuda, else 0.")
    ] = None,
    memory: Annotated[float | None, typer.Option(help="Memory in GiB, likewise. Default 2.")] = None,
    as_json: JsonOption = False,
) -> int:
    """Train a network and keep the run in the store. Several runs (--seeds, --grid) are left to the background worker,
    and so is what goes to a Ray cluster."""
    access.require("training")
    from fer import jobs

    on_ray = _asked(on, cpus, gpus, memory)
    config = _config(recipe, dataset, settings, seed)
    store = RunStore()
    if seeds is not None or choices:
        if run_id:
            raise FerError("--run-id names one run. Leave it out where --seeds or --grid make several.")
        asked = jobs.choices(choices or [])
        if seeds and "seed" in asked:
            raise ConfigError("--seeds and --grid seed=... both choose the seeds. Leave one of them out.")
        values = {"seed": range(config.seed, config.seed + seeds)} if seeds else {}
        configs = jobs.grid(config, {**asked, **values})
        return _submit(store, recipe, configs, yes, as_json, on_ray)
    if queue or on_ray:
        (run,) = jobs.submit(store, [(recipe, config)], on_ray, run_id=run_id)
        _say(as_json, _run_json(run), _queued(run))
        return 0
    run = jobs.create_run(store, config, recipe=recipe, run_id=run_id, reserved=True)
    return _train_here(store, run.id, as_json)


def _asked(on: str, cpus: int | None, gpus: float | None, memory: float | None) -> Ask | None:
    """What is asked of a Ray cluster; None on this machine. Raises ConfigError."""
    from fer import cluster

    if on not in cluster.PLACES:
        raise ConfigError(f"Runs cannot be launched on {on!r}. Allowed: {', '.join(cluster.PLACES)}.")
    if on == "ray":
        return cluster.ask(cpus, gpus, memory)
    if (cpus, gpus, memory) != (None, None, None):
        raise ConfigError("--cpus, --gpus and --memory are asked of a Ray cluster. Add --on ray, or leave them out.")
    return None


def _where(run: Run) -> str:
    """' for the Ray cluster at HOST:PORT, with what it asks for', '' for a run on this machine."""
    from fer import cluster

    ray = run.on_ray
    return f" for the Ray cluster at {cluster.name_of(ray['address'])}, {cluster.asks_for(ray)}" if ray else ""


def _queued(run: Run) -> str:
    return f"queued {run.id}{_where(run)}; watch it with: python -m fer runs show {run.id} --follow"


def _submit(
    store: RunStore, recipe: str, configs: list[Config], yes: bool, as_json: bool, on_ray: Ask | None = None
) -> int:
    """Say how many runs these are and how long they take, ask where somebody is there to ask, queue them."""
    from fer import jobs

    seconds = None if on_ray else jobs.seconds_known(store.runs(archived=True), configs)
    n, epochs = len(configs), sum(c.train.epochs for c in configs)
    how_long = (
        "spread over the cluster by Ray"
        if on_ray
        else "how long is not known before one of the kind has run (see: python -m fer cost)"
        if seconds is None
        else f"about {duration(seconds)} at the speed of such runs before, {jobs.max_runs()} at a time"
    )
    text = f"{n} run{'s' if n > 1 else ''}, {epochs:,} epochs in all; {how_long}"
    if not as_json:
        print(text)
    if not yes and not as_json and sys.stdin.isatty():
        typer.confirm("Queue them?", abort=True)
    runs = jobs.submit(store, [(recipe, c) for c in configs], on_ray)
    listed = "\n".join(f"queued {r.id}{_where(r)}" for r in runs)
    content = {"runs": [r.id for r in runs], "submission": runs[0].submission, "seconds": seconds}
    hints = (
        f"watch one with: python -m fer runs show {runs[0].id} --follow\n"
        f"stop them all with: python -m fer runs stop {runs[0].id} --together"
    )
    _say(as_json, content, f"{listed}\n{hints}")
    return 0


@app.command()
def worker() -> None:
    """Train the queued runs in their order, then end. Started by itself whenever a run is queued."""
    access.require("serving the queue")
    from fer import jobs

    jobs.step_aside()
    trained = jobs.work(RunStore())
    print(f"worker: {trained} run{'' if trained == 1 else 's'} trained", flush=True)


@app.command()
def recipes(as_json: JsonOption = False) -> None:
    """List the named configs, what each changes from the baseline, and its best val top-1 in the runs that are here."""
    from fer.data.dataset import PREFERRED

    runs = RunStore().runs(archived=True)
    found = {name: result[0] for name in RECIPES if (result := recipe_results(name, runs, PREFERRED))}
    if as_json:
        _print_json(
            [
                {
                    "name": r.name,
                    "title": r.title,
                    "summary": r.summary,
                    "changes": r.changes,
                    "result": _result_json(found[r.name]) if r.name in found else None,
                }
                for r in RECIPES.values()
            ]
        )
        return
    header = ["recipe", "best val top-1", "data", "what it is", "changes from the baseline"]
    rows = [
        [
            r.name,
            result_in_words(found[r.name]) if r.name in found else "-",
            found[r.name].runs[0].data_name if r.name in found else "-",
            r.summary,
            ", ".join(f"{k}={v}" for k, v in r.changes.items()) or "none",
        ]
        for r in RECIPES.values()
    ]
    _print_table(header, rows)


@app.command()
def networks(as_json: JsonOption = False) -> None:
    """List the networks with their input, parameters and multiply-adds, each in its default settings."""
    from fer.models.summary import networks as table

    found = table()
    if as_json:
        _print_json(found)
        return
    _print_table(
        ["network", "input", "parameters", "million multiply-adds", "what it is"],
        [
            [x["name"], x["input"], f"{x['num_params']:,}", f"{x['multiply_adds'] / 1e6:,.1f}", x["description"]]
            for x in found
        ],
    )


@app.command()
def cost(
    recipe: Annotated[str, typer.Option(help="The named config.")] = "baseline",
    dataset: Annotated[str | None, typer.Option(help="A prepared data set.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a setting.")] = None,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="Time some steps on this machine.")] = True,
    queued: Annotated[
        bool,
        typer.Option("--queued", help="Time it with the threads of a queued run, where several may train at a time."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a run would cost: layers, parameters, multiply-adds, and seconds by a short measurement."""
    from fer.cost import estimate
    from fer.jobs import max_runs
    from fer.models.summary import summarise
    from fer.plots.network import unseen

    config = _config(recipe, dataset, settings, None)
    sharing = max_runs() if queued else 1
    answer = {"model": summarise(config.model), **(estimate(config, sharing=sharing) if measure else {})}
    if as_json:
        _print_json(answer)
        return
    model = answer["model"]
    _print_table(
        ["layer", "kind", "what", "output shape", "parameters"],
        [
            [x["name"], x["kind"], x["detail"], "x".join(map(str, x["output_shape"])), f"{x['num_params']:,}"]
            for x in model["layers"]
        ],
    )
    size = f"{model['num_params']:,} parameters, {model['multiply_adds'] / 1e6:.1f} million multiply-adds a picture"
    print(". ".join(filter(None, (size, unseen(model)))))
    if measure:
        seconds, frozen, first = answer["epoch_seconds"], config.frozen_epochs, ""
        if frozen == config.train.epochs:
            seconds = answer["frozen_epoch_seconds"]
        elif frozen:
            each = f"{answer['frozen_epoch_seconds']:.3g} s"
            first = f", the first {frozen} epochs {each} each" if frozen > 1 else f", the first {each}"
        print(
            f"about {seconds:.3g} s an epoch on {config.data.name}{first}, {duration(answer['total_seconds'])} in all ({answer['device']}, {answer['precision']}, {answer['threads']} threads)"
        )


@app.command()
def augment(
    recipe: Annotated[str, typer.Option(help="The named config.")] = "augment",
    dataset: Annotated[str | None, typer.Option(help="A prepared data set.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a setting.")] = None,
    seed: Annotated[int | None, typer.Option(help="Chooses the pictures and what is done to them.")] = None,
    out: Annotated[Path | None, typer.Option(help="The PNG file to write.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what augmentation makes of training pictures: a first row as they are, three as a network would see them."""
    import base64

    import numpy as np
    import torch

    from fer.augment import draw_examples
    from fer.data.dataset import load
    from fer.images import contact_sheet

    if out is None and not as_json:
        raise ConfigError("Say where the picture goes, with --out FILE.png, or ask for --json.")
    config = _config(recipe, dataset, settings, seed)
    images, labels = load(config.data.name).with_val_fraction(config.data.val_fraction).subset("train")
    chosen = _one_of_each(labels, config.seed)
    before = torch.from_numpy(images[chosen])
    rows = np.concatenate([before[None].numpy(), draw_examples(before, config.augment, config.seed).numpy()])
    sheet = contact_sheet(rows)
    if out is not None:
        _write(out, sheet)
    if as_json:
        _print_json({"pictures": len(chosen), "rows": len(rows), "png": base64.b64encode(sheet).decode()})
    else:
        print(f"{out}: {len(chosen)} training pictures of {config.data.name} as they are, and three times augmented")


@app.command()
def evaluate(
    run: RunArg,
    dataset: Annotated[
        str | None, typer.Option(help="A prepared data set with the same classes. Default: the run's own.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    tta: TtaOption = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Score a run's best weights on a split: loss, top-1, macro F1, calibration, per class, confusion matrix."""
    from fer.evaluate import evaluate_run

    store = RunStore()
    report = evaluate_run(store, run, dataset, split, device=device, tta=tta)
    if as_json:
        _print_json(report)
        return
    print(
        f"{run} on {report['dataset']} {split}: {report['n']:,} pictures, top-1 {report['top1']:.2%}, macro F1 {report['macro_f1']:.3f}, loss {report['loss']:.4f}{', mean of ten views' if tta else ''}"
    )
    _print_calibration(store.get(run), report)
    _print_table(
        ["class", "precision", "recall", "F1", "n"],
        [
            [
                c,
                "-" if (p := precision_of(report, c)) is None else f"{p:.1%}",
                f"{v['recall']:.1%}",
                f"{v['f1']:.3f}",
                f"{v['n']:,}",
            ]
            for c, v in report["per_class"].items()
        ],
    )
    if report.get("split_note"):
        print(report["split_note"])
    if report.get("saved") is False:
        print("The store cannot be written, so this report was not kept.")


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="The ids of the runs to compare.")],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="What the others are compared with. Default: the first of recipe baseline."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the whole report as one file that needs no network.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write tables and sentences as Markdown.")
    ] = None,
    grouped: Annotated[
        bool, typer.Option("--grouped/--single", help="Runs that differ by seed only are one experiment.")
    ] = True,
    split: Annotated[str, typer.Option(help="The split that verdicts are about: val or test.")] = "val",
    as_json: JsonOption = False,
) -> None:
    """Say which run is better, whether that is more than noise, and what to try next."""
    from fer import report

    store = RunStore()
    of = report.compare(
        [store.get(r) for r in runs], store.get(baseline) if baseline else None, grouped=grouped, split=split
    )
    for path, write in ((html, report.as_html), (markdown, report.as_markdown)):
        if path:
            _write(path, write(of).encode())
    if as_json:
        _print_json(report.as_json(of))
        return
    _print_comparison(of)
    for path in (html, markdown):
        if path:
            print(f"written: {path}")


@app.command()
def predict(
    images: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="Photos, folders of photos, patterns, or face crops of 48x48 pixels."),
    ],
    run: Annotated[
        str | None, typer.Option(help="The run to ask. Default: the best one trained on photographs.")
    ] = None,
    whole: Annotated[
        bool,
        typer.Option(
            "--whole",
            help="Take each picture as one face, without looking for faces. Of a long one the square in the middle; its ends are left out.",
        ),
    ] = False,
    tta: TtaOption = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one row a face as CSV, too.")] = None,
    annotate: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each photo with its boxes as PNG into this folder, too.")
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Say what the faces in photos look like to a trained network."""
    from fer.predict import Predictor, default_run, picture_paths, predict_path
    from fer.results import as_csv, result_rows

    store = RunStore()
    predictor = Predictor(run or default_run(store), store, tta=tta)
    if predictor.run.synthetic and not as_json:
        print(f"Note: {predictor.run.id} was trained on synthetic faces; its answers about photographs mean little.")
    found = []
    paths = picture_paths(images)
    if annotate:
        _make_folder(annotate)
    with _bar("looking", as_json) as progress:
        for done, path in enumerate(paths):
            progress(done, len(paths))
            entry, photo = predict_path(predictor, path, whole=whole)
            found.append(entry)
            if annotate and photo is not None:
                try:
                    _annotate(annotate, photo, entry, len(found))
                except FerError as error:  # the answers are worth more than a picture of one
                    entry["note"] = str(error)
    if csv:
        _write(csv, as_csv([{"run": predictor.run.id, **row} for row in result_rows(found, predictor.classes)]))
    if as_json:
        _print_json(found)
    else:
        for entry in found:
            _print_prediction(entry)
    return 2 if all("error" in entry or "note" in entry for entry in found) else 0


def _annotate(folder: Path, photo: Any, entry: Mapping[str, Any], number: int) -> None:
    from fer.plots.predictions import annotated

    words = [(face["label"], face["unsure"]) for face in entry["faces"]]
    content = annotated(photo, [tuple(face["box"]) for face in entry["faces"]], words)
    stem = Path(entry["image"]).stem
    while len(os.fsencode(stem)) > _MOST_NAME_BYTES:
        stem = stem[:-1]
    _write(folder / f"{number:04d}-{stem}.png", content)


def _make_folder(folder: Path) -> None:
    from fer.archive import require_outside

    require_outside(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FerError(f"The folder {folder} cannot be made: {error.strerror}. Choose another.") from error


def _write(path: Path, content: bytes) -> None:
    """Write a file of the user's own; also where nothing may be changed, as long as it lies outside of store and data."""
    from fer.archive import require_outside

    require_outside(path)
    try:
        if path.exists() and not path.is_file():  # a pipe or a device such as /dev/stdout must not be replaced
            path.write_bytes(content)
        else:
            write_bytes_atomic(path, content, outside=True)
    except OSError as error:
        raise FerError(f"{path} cannot be written: {error.strerror}. Choose another place.") from error


@app.command()
def ensemble(
    members: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Two or more runs with weights.")],
    run_id: Annotated[str | None, typer.Option(help="Id of the ensemble. Default: ensemble and four digits.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Let several runs answer together: the mean of their calibrated probabilities, evaluated on train and val."""
    access.require("making an ensemble")
    from fer.ensembles import create_ensemble

    made = create_ensemble(RunStore(), members, run_id, device=device)
    best = made.best or {}
    if as_json:
        _print_json({"run": made.id, "members": made.members, **best})
        return
    print(f"{made.id}: {', '.join(made.members)}")
    print(f"val top-1 {best['val_top1']:.2%}, macro F1 {best['val_macro_f1']:.3f}, loss {best['val_loss']:.4f}")
    origins = f", {made.origins_note}" if made.origins_note else ""
    print(f"their trainings took {duration(best['epoch_seconds'])} together{origins}")


# --- runs ------------------------------------------------------------------------------------------------------------


_ORDERS: dict[str, Callable[[Run], Any]] = {
    "created": lambda run: -run.created,
    "name": lambda run: run.name.lower(),
    "best": lambda run: -run.best["val_top1"] if run.best else 1.0,
    "last": lambda run: -run.last["val_top1"] if run.last else 1.0,
    "seconds": lambda run: (not run.members and run.epoch_seconds) or math.inf,
}


@runs_app.command("list")
def runs_list(
    archived: Annotated[bool, typer.Option("--archived", help="Show archived runs too.")] = False,
    state: Annotated[
        list[str] | None,
        typer.Option(metavar="STATE", help=f"Only runs in this state: {', '.join(STATES)}. Several: in one of them."),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Only runs with this tag. Several: with all of them.")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(metavar="RECIPE", help="Only runs of this recipe, custom or ensemble. Several: of one of them."),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="|".join(_ORDERS),
            help="created: the newest first; best and last: the highest val top-1 first; seconds: the quickest epoch first.",
        ),
    ] = "created",
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many, after sorting.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs, newest first."""
    if sort not in _ORDERS:
        raise ConfigError(f"Runs cannot be sorted by {sort!r}. Allowed: {', '.join(_ORDERS)}.")
    for wanted in state or []:
        if wanted not in STATES:
            raise ConfigError(f"There is no state {wanted!r}. Allowed: {', '.join(STATES)}.")
    runs = RunStore().runs(archived=archived)
    for wanted in set(recipe or []) - {"custom", "ensemble", *(r.recipe for r in runs)}:
        get_recipe(wanted)  # says which there are
    found = [
        r
        for r in runs
        if (not state or r.state in state)
        and (not recipe or r.recipe in recipe)
        and set(tag or []) <= set(r.notes.tags)
    ]
    found = sorted(found, key=_ORDERS[sort])[:limit]
    if as_json:
        _print_json([_run_json(r) for r in found])
        return
    if not runs:
        print("No runs yet. Train one with: python -m fer train --recipe baseline")
        return
    if not found:
        print(
            f"None of the {len(runs)} runs fits.{'' if archived else ' Archived ones are left out without --archived.'}"
        )
        return
    header = ["run", "state", "data", "epochs", "best val top-1", "last val top-1", "s/epoch"]
    rows = [_row(r) for r in found]
    if any(r.notes.tags for r in found):
        header, rows = [*header, "tags"], [[*row, ", ".join(r.notes.tags)] for r, row in zip(found, rows, strict=True)]
    _print_table(header, rows)


@runs_app.command("show")
def runs_show(run: RunArg, follow: FollowOption = False, as_json: JsonOption = False) -> None:
    """Show one run: its settings, its progress and its figures."""
    if follow and as_json:
        raise FerError("--follow prints lines as they come, --json one document. Leave one of them out.")
    store = RunStore()
    found = store.get(run)
    if as_json:
        _print_json(_run_json(found, full=True))
        return
    print(
        f"{found.name}: {found.state}, recipe {found.recipe}, data {found.data_name}{' (synthetic)' if found.synthetic else ''}"
    )
    for line in (*(f"damaged: {problem}" for problem in found.problems), *_noted(found)):
        print(f"  {line}")
    if found.launched_by:
        print(f"  launched by {_harmless(found.launched_by)}")
    if found.on_ray:
        print(f"  launched{_where(found)}, job {found.on_ray['job']}")
        if said := found.on_ray.get("said"):
            print(f"  {said}")
    if found.status.get("error"):
        print(f"  {found.status['error']}")
    if found.members:
        print(f"  members: {', '.join(found.members)}")
    if found.metrics:
        columns = ["epoch", "lr", "train loss", "train top-1", "val loss", "val top-1", "macro F1", "s"]
        kept = slice(2, -1) if found.members else slice(None)  # an ensemble has no epoch, rate or time of its own
        _print_table(columns[kept], [_metrics_row(m)[kept] for m in found.metrics])
    if found.split_note:
        print(found.split_note)
    if follow:
        with _watching(run):
            _follow(store, found)
    elif found.state in ACTIVE:
        print(_progress(store, found))


def _progress(store: RunStore, run: Run) -> str:
    from fer import jobs

    held = run.state == "queued" and not run.members and jobs.paused(store)
    return progress_in_words(run) + (". The queue is paused; go on with: python -m fer queue resume" if held else "")


@contextlib.contextmanager
def _watching(run_id: str) -> Iterator[None]:
    """Let Ctrl-C end the body, and nothing else."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"{run_id} is no longer watched; nothing else has changed.", file=sys.stderr)


def _follow(store: RunStore, run: Run) -> None:
    """Print where the run stands, again when it begins, a line an epoch, and how it ended."""
    shown, told = len(run.metrics), None
    while True:
        lines = [epoch_in_words(row, run.epochs) for row in run.metrics[shown:]]
        if lines and run.seconds_left:
            lines[-1] += f"  about {duration(run.seconds_left)} left"
        stands = run.state, bool(run.status.get("images_per_sec"))  # once more where the time left is known
        if run.state in ("queued", "running") and stands != told:
            lines.append(_progress(store, run))
        if lines:
            print(*lines, sep="\n", flush=True)
        if run.state not in ACTIVE:
            break
        shown, told = len(run.metrics), stands
        sleep(_LOOK_SECONDS)
        run = store.get(run.id)
    best = f": best val top-1 {run.best['val_top1']:.2%} in epoch {run.best['epoch']}" if run.best else ""
    print(f"{run.state}{best}")
    if run.status.get("error"):
        print(run.status["error"])
    if not run.not_resumed:
        print(f"Go on with: python -m fer runs resume {run.id}")


@runs_app.command("log")
def runs_log(run: RunArg, follow: FollowOption = False) -> None:
    """Print what a run's training wrote: its train.log."""
    store = RunStore()
    path = store.get(run).path / "train.log"
    with _watching(run):
        while follow and not path.exists() and store.get(run).state in ACTIVE:
            sleep(_LOOK_SECONDS)
        try:
            with open(path, encoding="utf-8", errors="replace") as log:
                going = True
                while going:
                    # Asked before the read, which then has the last words too.
                    going = follow and store.get(run).state in ACTIVE
                    while text := log.read(1 << 16):
                        print(_harmless(text), end="", flush=True)
                    if going:
                        sleep(_LOOK_SECONDS)
        except FileNotFoundError:
            raise FerError(_no_log(store.get(run))) from None
        except OSError as error:
            raise FerError(f"{path} cannot be read: {error.strerror}. See who may read it.") from error


def _no_log(run: Run) -> str:
    if run.members:
        return f"'{run.id}' is an ensemble, which is not trained, so it has no log. Its members have: {', '.join(run.members)}."
    if run.shipped:
        return f"Run '{run.id}' came with the project, without its log."
    if run.state == "queued":
        return f"Run '{run.id}' has no log yet: it waits. Add --follow to see it from the start."
    return f"Run '{run.id}' has no log: there is no file {run.path / 'train.log'}."


def _harmless(text: str) -> str:
    """Lines of text without what would steer a terminal: they may have been imported."""
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


@runs_app.command("start")
def runs_start(run: RunArg) -> int:
    """Train a queued run here and now, in the foreground; what the worker does for each."""
    access.require("training a run")
    from fer import jobs

    store = RunStore()
    try:
        return _train_here(store, run, as_json=False)
    finally:
        jobs.carry_on(store)


@runs_app.command("card")
def runs_card(
    run: RunArg, out: Annotated[Path | None, typer.Option(help="The Markdown file to write. Default: print it.")] = None
) -> None:
    """Write a run's model card: what it is, how good by class, on what data, and what it must not be used for."""
    from fer.card import model_card

    text = model_card(RunStore().get(run))
    if out is None:
        print(text, end="")
    else:
        _write(out, text.encode())
        print(f"{out}: the model card of {run}")


@runs_app.command("stop")
def runs_stop(
    run: RunArg,
    together: Annotated[
        bool, typer.Option("--together", help="Stop all that were launched together with it too.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask a run to stop: it finishes its step and saves, and can be resumed. One that waits is taken out of the queue."""
    access.require("stopping a run")
    from fer import jobs

    store = RunStore()
    if together:
        stopped = jobs.stop_submission(store, run)
        _say(as_json, {"stopped": stopped}, f"asked {len(stopped)} runs to stop: {', '.join(stopped)}")
        return
    state = jobs.stop(store, run)
    _say(as_json, _run_json(store.get(run)), f"{run} is {state}")


@runs_app.command("resume")
def runs_resume(
    run: RunArg,
    queue: Annotated[
        bool, typer.Option("--queue", help="Leave it to the background worker and return at once.")
    ] = False,
    here: Annotated[
        bool, typer.Option("--here", help="On this machine, also where it was on a Ray cluster before.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Go on with a stopped, failed or lost run from its last save; one that was on a Ray cluster goes there again."""
    access.require("resuming a run")
    from fer import jobs

    store = RunStore()
    if queue or (store.get(run).on_ray and not here):
        queued = jobs.resume(store, run, here=here)
        _say(as_json, _run_json(queued), _queued(queued))
        return 0
    store.requeue(run, reserved=True)
    return _train_here(store, run, as_json)


@runs_app.command("rename")
def runs_rename(
    run: RunArg,
    name: Annotated[str, typer.Argument(help="The name to show; '' takes it away.")],
    as_json: JsonOption = False,
) -> None:
    """Give a run a name to be shown by; its id stays."""
    changed = RunStore().annotate(run, name=name)
    _say(as_json, _run_json(changed), f"{run} is now shown as '{changed.name}'")


@runs_app.command("archive")
def runs_archive(
    run: RunArg,
    undo: Annotated[bool, typer.Option("--undo", help="Bring it back into view.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take a run out of the usual view; nothing is lost. Not while it waits or trains."""
    changed = RunStore().annotate(run, archived=not undo)
    _say(as_json, _run_json(changed), f"{run} is {'back in view' if undo else 'archived'}")


@runs_app.command("note")
def runs_note(
    run: RunArg,
    name: Annotated[str | None, typer.Option(help="The name to show; '' takes it away.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="Add a tag; may be given several times.")] = None,
    untag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Take a tag away; may be given several times.")
    ] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="The note; '' takes it away.")] = None,
    pin: Annotated[bool | None, typer.Option("--pin/--unpin", help="Keep it at the top of the Runs page.")] = None,
    archive: Annotated[
        bool | None, typer.Option("--archive/--unarchive", help="Take it out of the usual view; nothing is lost.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is noted of a run: name, tags, note, pinned, archived. Without an option, say it."""
    store = RunStore()
    found = store.get(run)
    given = {"name": name, "note": note, "pinned": pin, "archived": archive}
    changes: dict[str, Any] = {what: value for what, value in given.items() if value is not None}
    before, gone = found.notes.tags, _tags(untag)
    for each in gone:
        if each not in before:
            raise RunError(f"Run '{run}' has no tag '{each}'. Its tags: {', '.join(before) or 'none'}.")
    if tag or untag:
        changes["tags"] = [t for t in dict.fromkeys((*before, *_tags(tag))) if t not in gone]
    if changes:
        found = store.annotate(run, **changes)
    shown = run if found.name == run else f"{run}, shown as '{found.name}'"
    _say(as_json, _run_json(found), "\n  ".join([shown, *(_noted(found) or ["nothing is noted"])]))


def _tags(given: list[str] | None) -> list[str]:
    """As on the pages, a comma separates two."""
    return [tag.strip() for text in given or [] for tag in text.split(",") if tag.strip()]


def _noted(run: Run) -> list[str]:
    """What people said of a run besides its name, a line each."""
    notes = run.notes
    said = {
        "pinned": notes.pinned,
        "archived": notes.archived,
        f"tags: {', '.join(notes.tags)}": notes.tags,
        f"note: {_harmless(notes.note)}": notes.note,
    }
    return [line for line, is_so in said.items() if is_so]


@runs_app.command("delete")
def runs_delete(
    run: RunArg, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, as_json: JsonOption = False
) -> None:
    """Move a run with all its files to the trash; see: python -m fer runs trash."""
    access.require("deleting a run")
    store = RunStore()
    store.get(run)
    lost = lost_ensembles(run, store.runs(archived=True))
    if not yes:
        if not sys.stdin.isatty():
            raise FerError(
                f"Deleting '{run}' wants a yes, and there is nobody to ask. {f'{lost} ' if lost else ''}Add --yes."
            )
        typer.confirm(f"{f'{lost} ' if lost else ''}Delete run '{run}' and all its files?", abort=True)
    key = store.delete(run)
    text = f"{run} deleted; bring it back with: python -m fer runs trash restore {run}"
    _say(as_json, {"id": run, "deleted": True, "trash": key}, "\n".join(filter(None, (text, lost))))


@runs_app.command("check")
def runs_check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Find what is broken in the store: torn lines, leftovers, lost runs, missing weights. Code 1 where something stays so."""
    if repair:
        access.require("mending the store")
    from fer.repair import check_store

    found = check_store(RunStore(), repair=repair)
    facts = [
        {
            "run": f.run,
            "file": f.file,
            "what": f.what,
            "cure": f.cure,
            "mended": f.mended,
            "mendable": f.mend is not None,
        }
        for f in found
    ]
    text = "\n".join(map(str, found)) or "Nothing is broken."
    mendable = sum(f.mend is not None and not f.mended for f in found)
    hint = (
        f"\n{mendable} of them can be mended with: python -m fer runs check --repair" if mendable and not repair else ""
    )
    _say(as_json, facts, text + hint)
    return int(not all(f.mended for f in found))


@runs_app.command("export")
def runs_export(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="The runs' ids.")],
    to: Annotated[str, typer.Option("--to", help="zip (for another FER Lab), csv, tensorboard or mlflow.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="The zip, or the folder to write to. Default: fer-export.zip or fer-export, in the current folder."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hand runs to another tool, or to another FER Lab as a zip."""
    from fer.export import export, viewer

    target = out or Path("fer-export.zip" if to == "zip" else "fer-export")
    written = [str(p) for p in export(RunStore(), runs, to, target)]
    command = viewer(to, target)
    hint = [f"look at it with: {command}"] if command else []
    _say(as_json, {"written": written}, "\n".join([*(f"wrote {p}" for p in written), *hint]))


@runs_app.command("import")
def runs_import(
    path: Annotated[Path, typer.Argument(metavar="ZIP", help="A zip that `fer runs export --to zip` made.")],
    as_json: JsonOption = False,
) -> None:
    """Take in the runs of a zip, all or none, after every file of it was looked at."""
    access.require("importing runs")
    from fer.archive import take_in

    ids = take_in(RunStore(), path)
    _say(as_json, {"runs": ids}, "\n".join(f"imported {i}" for i in ids))


@trash_app.command("list")
def trash_list(as_json: JsonOption = False) -> None:
    """List the deleted runs that can be brought back, the last first."""
    trashed = RunStore().trash()
    facts = [{"key": t.key, "run": t.run, "deleted": t.deleted, "bytes": t.bytes} for t in trashed]
    _say(as_json, facts, "\n".join(f"{t.key}  {t.bytes / 1e6:.1f} MB" for t in trashed) or "The trash is empty.")


@trash_app.command("restore")
def trash_restore(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, the last deleted of it, or its key.")],
    as_json: JsonOption = False,
) -> None:
    """Bring a deleted run back."""
    run_id = RunStore().restore(run)
    _say(as_json, {"id": run_id}, f"{run_id} is back")


@trash_app.command("empty")
def trash_empty(yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete for good what is in the trash."""
    access.require("emptying the trash")
    if not yes:
        if not sys.stdin.isatty():
            raise FerError("Emptying the trash wants a yes, and there is nobody to ask. Add --yes.")
        typer.confirm("Delete all runs in the trash for good?", abort=True)
    n = RunStore().empty_trash()
    print(f"{n} run{'' if n == 1 else 's'} deleted for good")


# --- the queue -------------------------------------------------------------------------------------------------------


@queue_app.command("list")
def queue_list(as_json: JsonOption = False) -> None:
    """List what trains and what waits, the next one first, here and on a Ray cluster."""
    from fer import cluster, jobs

    store = RunStore()
    runs = store.runs(archived=True)
    trains = [r for r in runs if r.state in ("running", "stopping")]
    handed = [r for r in reversed(runs) if r.state == "queued" and r.on_ray]
    waits = [*jobs.in_turn(runs), *handed]
    own = cluster.address()
    clusters = sorted({*cluster.addresses(runs), *([own] if own else [])})
    facts = {
        "running": [r.id for r in trains],
        "waiting": [r.id for r in waits],
        "on_ray": [r.id for r in (*trains, *waits) if r.on_ray],
        "clusters": {where: cluster.problem(where) for where in clusters},
        "paused": jobs.paused(store),
        "at_once": jobs.max_runs(),
    }
    lines = [f"{r.id}: {'running' if r in trains else 'waits'}{_where(r)}" for r in (*trains, *waits)]
    lines = lines or ["Nothing trains and nothing waits."]
    lines += [said or f"The Ray cluster at {cluster.name_of(a)} answers." for a, said in facts["clusters"].items()]
    _say(as_json, facts, "\n".join(lines + (["The queue is paused."] if facts["paused"] else [])))


@queue_app.command("pause")
def queue_pause() -> None:
    """Start no further run; those that train go on."""
    from fer import jobs

    jobs.pause(RunStore())
    print("The queue is paused. Go on with: python -m fer queue resume")


@queue_app.command("resume")
def queue_resume() -> None:
    """Start runs again."""
    from fer import jobs

    jobs.unpause(RunStore())
    print("The queue goes on.")


@queue_app.command("next")
def queue_next(run: RunArg) -> None:
    """Let a queued run be the next one that is started."""
    from fer import jobs

    jobs.run_next(RunStore(), run)
    print(f"{run} is next")


# --- data ------------------------------------------------------------------------------------------------------------


@data_app.command("import")
def data_import(
    path: Annotated[Path, typer.Argument(help="A folder, a zip, fer2013.csv or icml_face_data.csv.")],
    name: Annotated[str, typer.Option(help="The name to prepare it under.")],
    replace: ReplaceOption = False,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read a data set in Kaggle's layouts and prepare it as one array file."""
    access.require("importing a data set")
    from fer.data.dataset import check_new_name, replaced_by, save
    from fer.data.read import import_path

    check_new_name(name)
    with _bar("reading", as_json) as progress:
        data = import_path(path, name, skip_bad=skip_bad, progress=progress)
    replaced = replaced_by(data)
    if replaced and not replace:
        raise DataError(f"{replaced} Add --replace to put this one in its place, or choose another --name.")
    saved = save(data)
    if as_json:
        _print_json(_data_json(data))
        return
    sizes = ", ".join(f"{split} {sum(by_class.values()):,}" for split, by_class in data.counts().items())
    print(f"{name}: {sizes} pictures, saved as {saved}{', in place of the one that was there' if replaced else ''}")
    skipped = data.meta.get("skipped", [])
    for path in skipped[:100]:
        print(f"  left out: {path}")
    if len(skipped) > 100:
        print(f"  and {len(skipped) - 100:,} more, which --json lists")
    _print_data_notes(data)


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="The prepared data set, or: sample.")], as_json: JsonOption = False
) -> None:
    """Show a data set's class counts by split and the specification of its pictures."""
    from fer.data.dataset import load

    data = load(name)
    if as_json:
        _print_json(_data_json(data))
        return
    counts = data.counts()
    print(f"{name}{' (synthetic: drawn by FER Lab)' if data.synthetic else ''}, fingerprint {data.fingerprint}")
    rows = [[c, *[f"{counts[s][c]:,}" for s in counts]] for c in data.classes]
    _print_table(["class", *counts], [*rows, ["all", *[f"{sum(counts[s].values()):,}" for s in counts]]])
    for key, label in (
        ("dimensions", "Dimensions"),
        ("resolution", "Resolution"),
        ("bit_depth", "Bit depth"),
        ("format", "Format"),
    ):
        print(f"{label + ':':<12} {_spec_line(data.meta.get('spec', {}).get(key, {}))}")
    _print_data_notes(data)


@data_app.command("list")
def data_list(as_json: JsonOption = False) -> None:
    """List the data sets that a run can use."""
    from fer.data.dataset import available, dataset_path, prepared

    names = available()
    if as_json:
        _print_json([{"name": n, "prepared": n in prepared()} for n in names])
        return
    for name in names:
        print(
            f"{name:<24} {dataset_path(name) if name in prepared() else 'built in: synthetic faces drawn by FER Lab'}"
        )


@data_app.command("kaggle")
def data_kaggle(
    name: Annotated[str, typer.Option(help="The name to prepare it under.")] = "kaggle",
    replace: ReplaceOption = False,
    skip_bad: SkipBadOption = False,
) -> None:
    """Fetch the study's data set from Kaggle, where there is a network and a token, and prepare it."""
    access.require("importing a data set")
    from fer.data.dataset import check_new_name
    from fer.data.kaggle import fetch_kaggle

    check_new_name(name)
    data_import(fetch_kaggle(), name=name, replace=replace, skip_bad=skip_bad, as_json=False)


@data_app.command("delete")
def data_delete(
    name: Annotated[str, typer.Argument(help="The prepared data set.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete a prepared data set's file; what it was imported from stays."""
    access.require("deleting a data set")
    from fer.data import dataset

    if not yes:
        if not sys.stdin.isatty():
            raise FerError(f"Deleting '{name}' wants a yes, and there is nobody to ask. Add --yes.")
        typer.confirm(f"Delete the prepared data set '{name}'?", abort=True)
    dataset.delete(name)
    print(f"{name} deleted")


@app.command()
def version() -> None:
    """Print the version."""
    print(fer.__version__)


# --- training in the foreground --------------------------------------------------------------------------------------


def _config(recipe: str, dataset: str | None, settings: list[str] | None, seed: int | None) -> Config:
    from fer.data.dataset import default_dataset

    changes = parse_assignments(settings or [])
    if dataset or "data.name" not in changes:
        changes["data.name"] = dataset or default_dataset()
    if seed is not None:
        changes["seed"] = seed
    config = with_settings(get_recipe(recipe).config(), changes)
    values = flatten(config)
    for path in changes:
        if reason := unused(path, values):
            print(f"note: {reason}", file=sys.stderr)
    return config


def _one_of_each(labels: Any, seed: int) -> list[int]:
    """One picture of each class, drawn with the seed."""
    import numpy as np

    rng = np.random.default_rng(seed)
    return [int(rng.choice(np.flatnonzero(labels == label))) for label in np.unique(labels)]


def _train_here(store: RunStore, run_id: str, as_json: bool) -> int:
    from fer.train import Watcher, fit

    interrupted: list[int] = []
    terminal = sys.stdout.isatty() and not as_json
    with _signals(interrupted), contextlib.ExitStack() as opened, _training_bars(terminal) as bars:
        log: list[TextIO] = []

        def say(line: str) -> None:
            if not log:  # opened by the first line, which comes when the run is ours
                path = store.folder(run_id) / "train.log"
                log.append(opened.enter_context(open(path, "a", encoding="utf-8")))
            print(line, file=log[0], flush=True)
            if terminal:
                bars.console.print(line, markup=False, highlight=False)
            elif not as_json and not _same_file(log[0], sys.stdout):
                print(line, flush=True)

        shown = _TrainingBars(bars)
        watcher = Watcher(
            on_progress=shown.on_progress if terminal else lambda _p: None,
            on_epoch=shown.on_epoch,
            log=say,
            should_stop=lambda: bool(interrupted),
        )
        try:
            run = fit(store, run_id, watcher)
        except FerError as error:
            if log:
                print(f"failed: {error}", file=log[0], flush=True)
            raise
    if as_json:
        _print_json(_run_json(run, full=True))
    if run.state == "stopped":
        print(f"Go on with: python -m fer runs resume {run_id}", file=sys.stderr)
    return 128 + interrupted[0] if interrupted else 0


@contextlib.contextmanager
def _signals(received: list[int]) -> Iterator[None]:
    """Note Ctrl-C and a polite kill in `received` instead of dying, so that the run saves; a second Ctrl-C ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _same_file(a: TextIO, b: TextIO) -> bool:
    import os

    try:
        return os.path.sameopenfile(a.fileno(), b.fileno())
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _training_bars(terminal: bool) -> Iterator[Bars]:
    columns = [
        TextColumn("{task.description:<6}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
    ]
    bars = Bars(*columns, console=Console(), disable=not terminal)
    with bars:
        yield bars


class _TrainingBars:
    """Two bars in a terminal: epochs with the time left, steps with loss, top-1 and speed."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.epochs: TaskID | None = None
        self.steps: TaskID | None = None

    def on_progress(self, p: Any) -> None:
        if self.epochs is None or self.steps is None:
            self.epochs = self.bars.add_task("epochs", total=p.epochs, facts="")
            self.steps = self.bars.add_task("steps", total=p.steps, facts="")
        left = "" if p.seconds_left is None else f"{p.seconds_left / 60:.1f} min left"
        facts = f"loss {p.loss:.4f}  top-1 {p.top1:.1%}  {p.images_per_sec:,.0f} images/s"
        self.bars.update(self.epochs, completed=p.epoch - 1, facts=left)
        self.bars.update(self.steps, completed=p.step, facts=facts)

    def on_epoch(self, row: Any) -> None:
        if self.epochs is not None:
            self.bars.update(self.epochs, completed=row["epoch"])


@contextlib.contextmanager
def _bar(what: str, as_json: bool) -> Iterator[Any]:
    terminal = sys.stdout.isatty() and not as_json
    with Bars(TextColumn(what), BarColumn(), MofNCompleteColumn(), disable=not terminal) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


# --- printing --------------------------------------------------------------------------------------------------------


def _complain(text: str) -> int:
    print(text, file=sys.stderr)
    return 2


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, allow_nan=False))


def _say(as_json: bool, value: Any, text: str) -> None:
    if as_json:
        _print_json(value)
    else:
        print(text)


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    if not sys.stdout.isatty():  # plain columns that no width cuts
        widths = [max(len(r[i]) for r in [header, *rows]) for i in range(len(header))]
        for row in [header, *rows]:
            print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
        return
    table = Table(box=None, pad_edge=False)
    for title in header:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table, markup=False)


def _run_json(run: Run, *, full: bool = False) -> dict[str, Any]:
    content: dict[str, Any] = {
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "recipe": run.recipe,
        "dataset": run.data_name,
        "seed": run.config.seed if run.config else None,
        "epochs": run.epochs,
        "epochs_done": len(run.metrics),
        "best": dict(run.best) if run.best else None,
        "last": dict(run.last) if run.last else None,
        "epoch_seconds": run.epoch_seconds,
        "tags": list(run.notes.tags),
        "note": run.notes.note,
        "pinned": run.notes.pinned,
        "archived": run.notes.archived,
        "launched_by": run.launched_by or None,
        "problems": list(run.problems),
    }
    if full:
        content |= {
            "config": run.config.model_dump(mode="json") if run.config else None,
            "status": dict(run.status),
            "metrics": [dict(m) for m in run.metrics],
        }
    return content


def _result_json(group: Any) -> dict[str, Any]:
    """What a recipe's runs brought, the group of its seeds."""
    row = figures(group)
    return {
        "dataset": group.runs[0].data_name,
        "n": group.n,
        "best_val_top1": row["best_val_top1"],
        "std": row["best_val_top1_std"],
        "runs": [run.id for run in group.runs],
    }


def _print_comparison(of: Any) -> None:
    def points(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:+.2f}"

    def percent(value: float | None, std: float | None = None) -> str:
        return "-" if value is None else f"{value:.2%}" + (f" ± {100 * std:.2f}" if std is not None else "")

    _print_table(
        ["experiment", "seeds", "best val top-1", "in epoch", "difference", "last val top-1", "gap", "parameters"],
        [
            [
                r["label"],
                "-" if r["n"] is None else str(r["n"]),
                percent(r["best_val_top1"], r["best_val_top1_std"]),
                "-" if r["best_epoch"] is None else f"{r['best_epoch']:g}",
                "baseline" if r["id"] == of.baseline.key else points(r["difference"]),
                percent(r["last_val_top1"]),
                points(r["gap_at_best"]),
                "-" if r["num_params"] is None else f"{r['num_params']:,}",
            ]
            for r in of.rows
        ],
    )
    said = [*(v.sentence for v in of.verdicts), of.correction, *(t.sentence for t in of.together)]
    for sentence in filter(None, said):
        print(sentence)
    for run_id, found in of.findings.items():
        for finding in found:
            print(f"{run_id}: {finding.title}; {finding.evidence}")


def _row(run: Run) -> list[str]:
    """A run's line in the list; an ensemble has no epochs."""
    trained = not run.members
    epoch = f" (epoch {run.best['epoch']})" if run.best and trained else ""
    return [
        run.id if run.name == run.id else f"{run.id} ({run.name})",
        run.state_in_words,
        run.data_name,
        f"{len(run.metrics)}/{run.epochs}" if trained else "-",
        f"{run.best['val_top1']:.2%}{epoch}" if run.best else "-",
        f"{run.last['val_top1']:.2%}" if run.last else "-",
        f"{run.epoch_seconds:.1f}" if run.epoch_seconds and trained else "-",
    ]


def _metrics_row(m: Any) -> list[str]:
    return [
        str(m["epoch"]),
        f"{m['lr']:.3g}",
        f"{m['train_loss']:.4f}",
        f"{m['train_top1']:.2%}",
        f"{m['val_loss']:.4f}",
        f"{m['val_top1']:.2%}",
        f"{m['val_macro_f1']:.3f}",
        f"{m['epoch_seconds']:.1f}",
    ]


def _print_calibration(run: Run, report: Mapping[str, Any]) -> None:
    found = report["calibration"]
    print(
        f"calibration error {found['ece_before']:.3f}, {found['ece_after']:.3f} after dividing the logits by {found['temperature']:.2f}"
    )
    if note := temperature_note(report):
        print(note)
    if note := known_note(report, run, "{:.2%}".format):
        print(note)


def _print_prediction(entry: dict[str, Any]) -> None:
    name = entry["image"].encode("utf-8", "backslashreplace").decode()  # a file name need not be UTF-8
    if "error" in entry:
        print(f"{name}: {entry['error']}", file=sys.stderr)
    elif not entry["faces"]:
        print(
            f"{name}: no face found ({entry['width']}x{entry['height']} pixels); --whole takes the whole picture as a face"
        )
    for i, face in enumerate(entry.get("faces", []), 1):
        ranked = sorted(face["probs"].items(), key=lambda kv: -kv[1])
        x, y, w, h = face["box"]
        answer = "unsure, most like" if face["unsure"] else "looks"
        print(
            f"{name}: face {i} at {x},{y} {w}x{h} {answer} {ranked[0][0]}: "
            + ", ".join(f"{c} {p:.0%}" for c, p in ranked)
        )
    if "note" in entry:
        print(f"{name}: {entry['note']}", file=sys.stderr)


_IMPORT_FACTS = ("spec", "origin", "skipped", "ignored", "ignored_pictures", "ignored_examples", "copies", "split_note")


def _data_json(data: Any) -> dict[str, Any]:
    return {
        "name": data.name,
        "fingerprint": data.fingerprint,
        "synthetic": data.synthetic,
        "classes": list(data.classes),
        "counts": data.counts(),
        **{k: data.meta[k] for k in _IMPORT_FACTS if k in data.meta},
    }


def _print_data_notes(data: Any) -> None:
    """What was left unread, and what has to be known of the splits."""
    for note in filter(None, (data.ignored_note, data.split_note)):
        print(note)


def _spec_line(seen: dict[str, int]) -> str:
    if not seen:
        return "not stated"
    ranked = sorted(seen.items(), key=lambda kv: -kv[1])
    shown = ", ".join(v if len(ranked) == 1 else f"{v} ({n:,})" for v, n in ranked[:5])
    return shown if len(ranked) <= 5 else f"{shown}, and {len(ranked) - 5} others"
