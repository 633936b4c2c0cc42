"""The layers: imports go down only, Streamlit stays in the pages, and what starts fast does not wait for torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from fer.files import PROJECT_ROOT

# Lowest first; a module may import from its own layer and from those below it. A package stands for its modules.
LAYERS = (
    ("fer", "errors", "access", "files", "machine", "config", "recipes"),
    (
        "images",
        "faces",
        "device",
        "data",
        "augment",
        "views",
        "models",
        "schedules",
        "metrics",
        "checkpoint",
        "runs",
        "pretrained",
        "origins",
        "optim",
        "photos",
        "results",
    ),
    ("significance", "experiments", "verdicts", "diagnosis", "mistakes"),
    (
        *("evaluate", "ensembles", "selective", "train", "cost", "predict", "explain", "cluster", "jobs"),
        *("repair", "archive", "export"),
    ),
    ("plots", "report", "card"),
    ("ui", "cli"),
    ("pages", "__main__"),
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
WITHOUT_TORCH = ("errors", "config", "recipes", "schedules", "metrics", "runs", "jobs", "plots", "report", "card")
# Not in the design's list, but what the above import, or what must answer at once.
ALSO_WITHOUT_TORCH = (
    *(
        "files",
        "machine",
        "data",
        "data.dataset",
        "data.read",
        "data.kaggle",
        "images",
        "photos",
        "results",
        "selective",
        "cli",
    ),
    "pretrained",
    "origins",
    *("significance", "experiments", "verdicts", "diagnosis", "mistakes"),
    *("repair", "access", "archive", "export", "cluster"),
)


def sources() -> dict[str, Path]:
    """`{dotted module: file}` of the core, the pages and the entry point."""
    files = [*(PROJECT_ROOT / "fer").rglob("*.py"), *(PROJECT_ROOT / "pages").glob("*.py")]
    files.append(PROJECT_ROOT / "streamlit_app.py")
    found = {}
    for file in files:
        parts = file.relative_to(PROJECT_ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return {name: file for name, file in found.items() if file.exists()}


SOURCES = sources()


@cache
def imports(module: str) -> frozenset[tuple[str, bool]]:
    """(what a module imports, whether only while it runs) as dotted names; `from a import b` gives a.b where that is one."""
    tree = ast.parse(SOURCES[module].read_text(encoding="utf-8"))
    inside = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(outer)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: a relative import; write the whole name"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names = sorted({name if name in SOURCES else str(node.module) for name in whole})
        else:
            continue
        found |= {(name, id(node) in inside) for name in names}
    return frozenset(found)


def part(module: str) -> str:
    """The name under which a module stands in LAYERS."""
    first, *rest = module.split(".")
    if first == "fer":
        return rest[0] if rest else "fer"
    return "pages"


def ours(module: str) -> list[str]:
    return sorted(name for name, _late in imports(module) if name.split(".")[0] in ("fer", "pages", "streamlit_app"))


def test_every_module_has_its_layer():
    assert {part(m) for m in SOURCES} <= set(LAYER), "a new module: give it a place in LAYERS and in ARCHITECTURE.md"


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down_only(module):
    upward = [name for name in ours(module) if LAYER[part(name)] > LAYER[part(module)]]
    assert upward == []


def test_no_two_modules_import_each_other():
    below: dict[str, set[str]] = {}
    for module in SOURCES:
        now = {name for name, late in imports(module) if not late and name in SOURCES}
        below[module] = now - {module}
    while leaves := [m for m, names in below.items() if not names & set(below)]:
        for module in leaves:
            del below[module]
    assert below == {}, "these import each other in a circle"


@pytest.mark.parametrize("module", [m for m in SOURCES if part(m) not in ("ui", "pages")])
def test_only_the_ui_and_the_pages_import_streamlit(module):
    assert [name for name, _late in imports(module) if name.split(".")[0] == "streamlit"] == []


@pytest.mark.parametrize("module", [m for m in SOURCES if part(m) == "pages"])
def test_a_page_holds_no_tensor_no_path_and_no_try(module):
    assert not {name.split(".")[0] for name, _late in imports(module)} & {"torch", "torchvision", "pathlib", "os"}
    tree = ast.parse(SOURCES[module].read_text(encoding="utf-8"))
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Try)] == []


def modules_after(code: str) -> set[str]:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return {name.split(".")[0] for name in done.stdout.split()}


def test_what_starts_fast_leaves_torch_alone():
    """In a process of its own, since this one has torch already."""
    wanted = [f"fer.{name}" for name in (*WITHOUT_TORCH, *ALSO_WITHOUT_TORCH)]
    wanted += [m for m in SOURCES if part(m) in WITHOUT_TORCH]  # the modules inside the packages too
    there = sorted({name for name in wanted if name in SOURCES})
    assert {"fer.errors", "fer.config", "fer.recipes", "fer.schedules", "fer.metrics", "fer.runs", "fer.jobs"} <= set(
        there
    )
    loaded = modules_after(f"import {', '.join(there)}")
    assert not loaded & {"torch", "torchvision", "streamlit", "ray"}


def test_the_parts_of_the_fast_pages_leave_torch_alone():
    fast = ("frame", "loaders", "parts", "home", "data", "train_form", "train_preview", "launch", "runs", "compare")
    loaded = modules_after(f"import {', '.join(f'fer.ui.{name}' for name in fast)}")
    assert "streamlit" in loaded
    assert not loaded & {"torch", "torchvision", "ray"}


def test_listing_runs_leaves_torch_alone():
    loaded = modules_after("from fer.cli import main; main(['runs', 'list']); main(['recipes'])")
    assert "torch" not in loaded


def test_only_its_own_networks_load_torchvision():
    build = "from fer.config import ModelConfig; from fer.models import build_model; build_model(ModelConfig({}), 7)"
    assert "torchvision" not in modules_after("import fer.train, fer.cost; " + build.format(""))
    assert "torchvision" in modules_after(build.format("name='resnet18'"))


def test_no_module_is_a_drawer():
    names = {word for module in SOURCES for word in module.split(".")}
    assert not names & {"utils", "helpers", "manager", "common", "misc"}


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_says_what_it_is(module):
    text = SOURCES[module].read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), f"{module} has no docstring"
