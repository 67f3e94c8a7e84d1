"""`pgvae prior`, and the options of other commands that choose a prior."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import contents
from generated import RIGHT, as_pixels, near, pixels

from pgvae import snapshot
from pgvae.inference import load
from pgvae.snapshot import load_snapshot


@pytest.fixture
def prior(run_pgvae, capsys) -> Callable[..., list[str]]:
    """Run the command on the small set; -> the lines that it prints."""

    def run(*arguments: object, snapshot: str = "s.safetensors") -> list[str]:
        capsys.readouterr()
        assert run_pgvae("prior", "--snapshot", snapshot, "--dataset", "tiny", *arguments) == 0
        return capsys.readouterr().out.splitlines()

    return run


def test_a_run_has_fitted_a_gaussian_already(desk, prior):
    before = load_snapshot(desk / "s.safetensors").prior
    likelihood, about, path = prior("--kind", "gaussian")
    after = load_snapshot(desk / "s.safetensors").prior
    assert torch.equal(after.factors, before.factors)
    assert (after.kind, after.about["images"], after.about["dataset"]) == ("gaussian", 20, "tiny")
    assert likelihood.startswith("1 component: log density ")
    assert about == (
        "Gaussian fitted to 20 images: the default prior (not compared on unseen images)"
    )
    assert path == "s.safetensors"


def test_a_run_that_deletes_its_snapshot_meanwhile_gets_a_prior_in_the_newer_one(
    desk, prior, monkeypatch
):
    run, real = desk / "a-run", snapshot.load_snapshot
    run.mkdir()
    old, new = (run / f"snapshot-{images:09d}.safetensors" for images in (60, 80))
    shutil.copy(desk / "s.safetensors", old)

    def deleted(path):
        if Path(path).name == old.name:
            old.replace(new)
        return real(path)

    monkeypatch.setattr(snapshot, "load_snapshot", deleted)
    assert prior(snapshot="a-run")[-1] == f"a-run/{new.name}"
    assert [path.name for path in run.iterdir()] == [new.name]


def test_a_mixture_takes_its_place_and_nothing_else_changes(desk, prior):
    before, files = load_snapshot(desk / "s.safetensors"), contents(desk)
    [likelihood, about, _] = prior("--components", "3", "--count", "15")
    assert likelihood.startswith("3 components: log density ")
    assert about.startswith("mixture of 3 Gaussians fitted to 15 images: the default prior")
    after = load_snapshot(desk / "s.safetensors")
    assert (after.prior.kind, after.prior.components) == ("mixture", 3)
    for part, net in before.nets.parts().items():
        other = after.nets.parts()[part].state_dict()
        assert all(torch.equal(t, other[name]) for name, t in net.state_dict().items())
    said = ("config", "alpha", "images_seen", "objective", "attributes", "dataset")
    assert all(getattr(before, name) == getattr(after, name) for name in said)
    assert torch.equal(before.mean_image, after.mean_image)
    changed = {name for name, raw in contents(desk).items() if files.get(name) != raw}
    assert changed == {"s.safetensors"}


def test_candidates_are_told_and_none_is_taken_for_a_smaller_one_that_is_likelier(desk, prior):
    *tried, _about, _path = prior()
    figures = {int(line.split()[0]): float(line.split()[-6]) for line in tried}
    assert list(figures) == [1, 2, 4, 8][: len(figures)]
    taken = load_snapshot(desk / "s.safetensors").prior.components
    assert figures[taken] == max(figures[size] for size in figures if size <= taken)


def test_directions_stay_with_their_snapshot(desk, run_pgvae, prior):
    words = ("--snapshot", "s.safetensors", "--dataset", "faces", "--attribute", "glasses")
    assert run_pgvae("directions", *words) == 0
    before = load(desk / "s.safetensors").directions
    raw = (desk / "s.safetensors").read_bytes()
    prior("--count", "10")
    assert (desk / "s.safetensors").read_bytes() != raw
    after = load(desk / "s.safetensors").directions
    assert torch.equal(after.weight, before.weight)
    assert after.about == before.about


@pytest.mark.parametrize("name", ["fitted", "training"])
def test_samples_are_of_the_prior_that_is_told(name, desk, generate, capsys):
    words = ("samples", "--count", "3", "--prior", name, "--truncation", "0.5")
    assert generate(*words) == 0
    assert (
        capsys.readouterr().out.splitlines()[0] == f"samples from the {name} prior, truncation 0.5"
    )
    images = load(desk / "v.safetensors").sample(3, prior=name, truncation=0.5)
    written = np.stack([pixels(desk / "o" / f"sample-{i:04d}.png") for i in range(3)])
    assert near(written, as_pixels(images))


def test_evaluate_tells_its_prior(desk, run_pgvae, capsys):
    for name in ("fitted", "training"):
        words = ("--snapshot", "s.safetensors", "--dataset", "tiny", "--metrics", "latents")
        assert run_pgvae("evaluate", *words, "--prior", name, "--json", "e.json") == 0
        assert f"samples from the {name} prior, seed 0" in capsys.readouterr().out
        assert json.loads((desk / "e.json").read_text())["prior"] == name


def test_conditional_draws_candidates_from_the_prior_that_is_told(desk, generate, capsys):
    model, wanted = load(desk / "v.safetensors"), {"glasses": 1, "hat": 0}
    for name in ("fitted", "training"):
        assert generate(*RIGHT, "--count", "3", "--prior", name, out=name) == 0
        assert f"of the draws from the {name} prior" in capsys.readouterr().out
        found = model.conditional_latents(3, wanted, method="rejection", sure=0.1, prior=name)
        written = np.stack([pixels(desk / name / f"conditional-{i:04d}.png") for i in range(3)])
        assert near(written, as_pixels(model.decode(found.latents)))
    assert contents(desk / "fitted") != contents(desk / "training")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "prior --snapshot s.safetensors --dataset tiny --kind gaussian --components 2",
            "leave out --kind gaussian",
        ),
        (
            "prior --snapshot s.safetensors --dataset tiny --components 9",
            "9 components: 20 images are enough for 8",
        ),
        ("prior --snapshot s.safetensors --dataset tiny --kind normal", "'normal' is not one of"),
        ("prior --snapshot no.safetensors --dataset tiny", "no such snapshot"),
        ("generate --snapshot s.safetensors samples --truncation 0", "0"),
        ("generate --snapshot s.safetensors samples --truncation 1.5", "1.5"),
        ("generate --snapshot s.safetensors samples --truncation nan", "nan"),
        (
            "generate --snapshot s.safetensors samples --prior training --truncation 0.5",
            "has no centre to truncate to",
        ),
        ("generate --snapshot s.safetensors walk a.png b.png --prior fitted", "leave out the"),
        ("generate --snapshot r.safetensors samples --prior fitted", "pgvae prior --snapshot r."),
        (
            "generate --snapshot v.safetensors conditional --with hat=1 --prior fitted",
            "take the method rejection",
        ),
    ],
)
def test_what_cannot_be_is_refused(words, message, rejected, desk, sketch):
    sketch(desk / "r.safetensors")
    assert message in rejected(*words.split())
