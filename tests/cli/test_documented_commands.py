"""Every command that README and docs show, as they show it, on a small set of images.

Names of runs and of their resolution are those of the small runs made here, and training is cut
short by options after those of the document.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pioneer_checkpoints
import pytest
import torch

from pgvae.cli import cli, main
from pgvae.cli.groups import tree
from pgvae.config import ModelConfig
from pgvae.data.prepare import Options, prepare
from pgvae.data.recipes import Split, folder
from pgvae.nn import build_nets
from pgvae.snapshot import Snapshot, newest_snapshot, save_snapshot

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = (
    ROOT / "README.md",
    ROOT / "datasets" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
)
SMALL = (
    "--resolution 16 --start-resolution 16 --latent-dim 8 --fmap-max 8 --batch 4 "
    "--total-kimg 0.016 --device cpu"
)


CHEAP = "--total-kimg 0.024 --batch 4 --device cpu"  # after the options of a document


TINY = "start_resolution=16, latent_dim=8, fmap_max=8, batch=4, total_kimg=0.016, device='cpu'"


def commands_in(document: Path) -> list[str]:
    """The pgvae, train.py and generate.py lines of a document's code blocks, without comments."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    starts = ("pgvae ", "python train.py ", "python generate.py ")
    return [line.split("  #")[0].strip() for line in lines if line.startswith(starts)]


def cases() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        yield from ((document.name, line) for line in commands_in(document))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A folder with what the documents speak of: photos, a prepared set with labels, two runs."""
    place = tmp_path_factory.mktemp("documented")
    for name in ("photos", "friends"):
        shutil.copytree(pictures, place / name)
    for name, picture in zip(
        ("a", "b", "c", "d", "me", "holiday"), sorted(pictures.iterdir()), strict=False
    ):
        shutil.copy(picture, place / f"{name}.jpg")
    files = sorted(path.name for path in pictures.iterdir())
    rows = [f"{name},{i % 2},{i // 2 % 2},{i // 2}" for i, name in enumerate(files)]
    (place / "labels.csv").write_text("\n".join(["name,glasses,beard,person", *rows]) + "\n")
    for name in ("mine", "celebahq", "faces", "avatars"):
        recipe = folder(name, place / "photos", Split(fraction=0.25), place / "labels.csv")
        prepare(recipe, Options(workers=0), place / "datasets", say=lambda _: None)
    np.savez(place / "friends.npz", latents=np.ones((2, 8)))
    pioneer_checkpoints.make(1).write(place / "604000_state")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("PGVAE_CPU_TUNING", "0")
        for objective in ("introvac", "vae"):
            run(f"pgvae train --dataset mine --objective {objective} --outdir run-{objective}")
        run("pgvae directions --snapshot run-vae/00000-mine-vae-16px --dataset mine")
    replace_weights(place / "run-introvac" / "00000-mine-introvac-16px")
    return place


def replace_weights(run_dir: Path) -> None:
    """Give a run a model whose images are with and without each attribute."""
    config = ModelConfig(
        resolution=16,
        latent_dim=8,
        fmap_max=8,
        head="gaussian",
        encoder_norm="equalized",
        classes=3,
    )
    nets, mean = build_nets(config, 16, seed=2), torch.zeros(3, 16, 16)
    about = ({"name": "introvac"}, ("glasses", "beard"), "mine", mean)
    save_snapshot(newest_snapshot(run_dir), Snapshot(nets, config, 1.0, 16, *about))


def run(line: str) -> None:
    """Run a command line in this process; it must end well."""
    words = shlex.split(line)
    script = Path(words[1]).stem if words[0] == "python" else None
    given = words[2:] if script else words[1:]
    if script == "train" or words[1] == "train":
        short = CHEAP if "--resume" in given else SMALL
        if "--hours" in given:
            short = SMALL.replace("--total-kimg 0.016", "--hours 0.001")
        given += short.split()
    with pytest.raises(SystemExit) as caught:
        main(given, script)
    assert caught.value.code == 0, line


@pytest.mark.parametrize(("document", "line"), list(cases()))
def test_a_documented_command_works(document, line, place, tmp_path, monkeypatch):
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path)
    for name in ("datasets", "run-introvac", "run-vae"):
        (tmp_path / name).unlink()
        shutil.copytree(place / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGVAE_CPU_TUNING", "0")
    monkeypatch.setattr("uvicorn.Server.run", lambda *_, **__: None)  # it would not end
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    objective = "vae" if re.search("-(ri)?vae-", line) else "introvac"
    [made] = Path(f"run-{objective}").iterdir()
    if " prepare " in line:
        line = line.replace("--resolution 64", "--resolution 16") + " --force"
    if " explore " in line:
        line += " --port 0"
    if " check " in line:
        line = re.sub(r"(/backup/)?runs(/?) ", f"{made.parent} ", f"{line} ")
        line = line.replace("best.safetensors", str(newest_snapshot(made)))
    line = line.replace(" --compile", "")  # minutes of a C++ compiler; test_compiled.py has it
    run(re.sub(r"runs/[^\s/]+", str(made), line).replace("@64=", "@16=").replace("64:", "16:"))


@pytest.mark.parametrize("name", ["README.md", "docs/using.md"])
def test_the_documented_library_code_runs(name, place, monkeypatch):
    monkeypatch.chdir(place)
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert blocks
    for block in blocks:
        path = '"run-introvac/00000-mine-introvac-16px"'
        code = re.sub(r'"(runs/|snapshot-)[^"]+"', path, block)
        exec(re.sub("resolution=64", f"resolution=16, {TINY}", code), {})


LEAVES = [words for words, command in tree(cli) if not isinstance(command, click.Group)]


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_is_documented(words):
    lines = [line for _, line in cases()]
    lines = [re.sub(r"^python (train|generate)\.py", r"pgvae \1", line) for line in lines]
    shown = {tuple(word for word in line.split()[1:] if word in words) for line in lines}
    assert words in shown, f"pgvae {' '.join(words)} is in no document"


def test_commands_are_found_in_code_blocks(tmp_path):
    (tmp_path / "page.md").write_text(
        "pgvae outside\n```\npgvae data list   # look\npython train.py --a \\\n  --b\nls\n```\n"
    )
    assert commands_in(tmp_path / "page.md") == ["pgvae data list", "python train.py --a    --b"]
