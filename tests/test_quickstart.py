"""The notebook runs, cell by cell, and the reference has every public name."""

import importlib
import json
import re
import sys
from pathlib import Path

import pytest

import pgvae

DOCS = Path(__file__).parent.parent / "docs"


def cells(notebook: Path) -> list[str]:
    """The code of a notebook."""
    found = json.loads(notebook.read_text(encoding="utf-8"))
    assert found["nbformat"] == 4
    return ["".join(cell["source"]) for cell in found["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for code in cells(DOCS / "quickstart.ipynb"):
        exec(compile(code, "quickstart.ipynb", "exec"), names)
    assert names["images"].shape == (8, 3, 16, 16)
    assert names["again"].size == (16, 16)
    assert len(names["between"]) == 6
    assert (tmp_path / "discs" / "README.md").is_file()


def test_the_notebook_keeps_no_outputs():
    found = json.loads((DOCS / "quickstart.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in found["cells"]}) == len(found["cells"])


def test_the_reference_has_every_public_name_once_with_its_docstring(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(DOCS))
    reference = importlib.import_module("reference")
    monkeypatch.delitem(sys.modules, "reference")
    reference.main([str(tmp_path / "page.html")])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len({*ids})
    assert {link[1:] for link in re.findall(r'href="([^"]+)"', text)} == {*reference.MODULES}
    for name in ("Model", "Model.reconstruct", "Model.device", "Request", "load", "train"):
        assert (f"pgvae.{name}" in ids) == (name != "Model.device")
    for path, name, value in reference.entries():
        assert f"{path}.{name}" in ids
        assert value.__doc__, f"{path}.{name} says nothing of itself"
    assert {*pgvae.__all__} - {"__version__"} <= {*re.findall(r"[a-zA-Z_]+", " ".join(ids))}
