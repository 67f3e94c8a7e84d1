"""Layers import downward only (docs/architecture.md)."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pgvae.values import OBJECTIVES

PACKAGE = Path(__file__).parent.parent / "pgvae"
# Lower may never import higher; rooms on one line never import each other.
LAYERS = (
    {"errors", "types", "choices", "checks", "sizes", "config", "schedule", "values", "request"}
    | {"files", "terminal", "tuning"},
    {"ops"},
    {"nn"},
    {"metrics", "objectives", "data"},
    {"prior", "seal", "snapshot", "inference", "pictures"},
    {"evaluation", "explore", "interop", "report"},
    {"training"},
    {"cli", "__init__"},
    {"__main__"},
)
ONE_ROOM = (LAYERS[0], LAYERS[4])  # modules of one layer that may import each other
# CIFAR-10's, by an unpickler that makes arrays and calls nothing else (tests/data/test_arrays.py).
READ_PICKLES = {Path("data/arrays.py")}
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: str) -> str:
    """ "pgvae.nn.layers" -> "nn"; "pgvae" itself -> "__init__"."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def room_in(path: Path) -> str:
    """pgvae/nn/layers.py -> "nn"; pgvae/files.py -> "files"."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def layer_of(room: str) -> int:
    return next(i for i, rooms in enumerate(LAYERS) if room in rooms)


def imports_of(path: Path) -> set[str]:
    """Every pgvae module that a file imports, wherever in the file it does."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if node.module == "pgvae" else {node.module}
    return {name for name in found if name.split(".")[0] == "pgvae"}


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if any({importer, imported} <= rooms for rooms in ONE_ROOM):
        return True
    return layer_of(imported) < layer_of(importer)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_from_below(path):
    for imported in imports_of(path):
        assert may_import(room_in(path), room_of(imported)), f"{path} imports {imported}"


@pytest.mark.parametrize(
    ("importer", "imported"),
    [("data", "objectives"), ("nn", "training"), ("ops", "nn")],
)
def test_the_rule_itself_refuses_upward_and_sideways(importer, imported):
    assert not may_import(importer, imported)
    assert may_import("metrics", "nn")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_that_could_run_code_from_a_file_is_called(path):
    unsafe = {"eval", "exec", "extractall", "pickle"}
    if path.relative_to(PACKAGE) in READ_PICKLES:
        unsafe -= {"pickle"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert not unsafe & {alias.name for alias in node.names}
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            is_method_eval = name == "eval" and isinstance(node.func, ast.Attribute)
            assert name not in unsafe or is_method_eval, f"{path}: {name}(...)"
            for keyword in node.keywords:
                value = getattr(keyword.value, "value", None)
                assert keyword.arg != "allow_pickle" or value is False
                assert keyword.arg != "weights_only" or value is True


def objectives_named(source: str) -> list[str]:
    """Each name of an objective, as a whole string or as a module that is imported."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in OBJECTIVES:
            found.append(node.value)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            modules = [getattr(node, "module", ""), *(alias.name for alias in node.names)]
            found += {module.split(".")[-1] for module in modules} & {*OBJECTIVES}
    return found


# What builds, runs and shows any objective.
OF_ANY = [p for p in MODULES if room_in(p) in ("nn", "training", "inference", "snapshot", "report")]
OF_ANY += [PACKAGE / "evaluation.py"]
# The default, where a request has none: in a plan, and in the check before it.
NAMED = {"training/plan.py": ["pioneer", "pioneer"]}
# Not of the objective, but of the networks that are called so too: an architecture and its module.
NAMED |= {"nn/growing.py": ["pggan", "pggan"]}
NAMED |= {"nn/residual.py": ["pggan"], "nn/discriminator.py": ["pggan"]}


@pytest.mark.parametrize("path", OF_ANY, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_engine_does_not_know_objectives_by_name(path):
    legitimate = NAMED.get(str(path.relative_to(PACKAGE)), [])
    assert objectives_named(path.read_text(encoding="utf-8")) == legitimate


@pytest.mark.parametrize(
    "source",
    [
        "if objective.name == 'vac': pass",
        "grows = kind.name in ('ae', 'other')",
        "lr = {'vac': 1.0}.get(name)",
        "match name:\n    case 'vac': pass",
        "from pgvae.objectives.vac import Vac",
        "from pgvae.objectives import vac",
        "import pgvae.objectives.vac as it",
    ],
)
def test_a_name_of_an_objective_is_found_however_it_is_written(source):
    assert objectives_named(source) in (["vac"], ["ae"])


@pytest.mark.parametrize("table", ["pgvae.data.recipes", "pgvae.metrics.table"])
def test_what_help_shows_is_read_without_pytorch(table):
    code = f"import {table}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert table in loaded
    assert not loaded & {"torch", "torchmetrics", "pytorch_msssim", "python_avatars"}


def test_no_two_files_of_tests_have_one_name():
    """Those of one name in several folders cannot be collected together."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
