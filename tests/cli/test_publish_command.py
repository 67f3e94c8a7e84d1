"""`pgvae publish`, as a user meets it."""

import shutil

import pytest

from pgvae.inference import hub, load


def test_a_model_becomes_a_folder_that_every_command_takes(desk, run_pgvae, capsys):
    evaluate = ("evaluate", "--snapshot", "v.safetensors", "--dataset", "tiny")
    assert run_pgvae(*evaluate, "--metrics", "psnr,rmse", "--json", "evaluation.json") == 0
    (desk / "evaluation-other.json").write_text(
        '{"snapshot": "s.safetensors", "metrics": {"a": {}}}'
    )
    (desk / "evaluation-odd.json").write_text("[")
    capsys.readouterr()
    words = ("--snapshot", "v.safetensors", "--out", "m", "--licence", "mit", "--dataset", "tiny")
    assert run_pgvae("publish", *words) == 0
    assert capsys.readouterr().out == ("4 unseen images of datasets/tiny\nm: 2 figures\n")
    card = (desk / "m" / "README.md").read_text(encoding="utf-8")
    assert "| PSNR, dB | " in card
    assert "](reconstructions.png)" in card
    assert run_pgvae("generate", "--snapshot", "m", "--out", "o", "samples", "--count", "2") == 0
    model = load(desk / "v.safetensors")
    assert load(desk / "m").attributes == model.attributes
    assert run_pgvae("generate", "--snapshot", "m", "--out", "o", "edit", "a.png",
                     "--attribute", "glasses") == 0  # fmt: skip


def test_it_is_uploaded_where_that_is_asked_for(desk, run_pgvae, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(hub, "push", lambda *given, **more: seen.append((given, more)) or "there")
    words = ("--snapshot", "v.safetensors", "--out", "m", "--repository", "me/faces", "--private")
    assert run_pgvae("publish", *words) == 0
    [((folder, name), more)] = seen
    assert (str(folder), name, more) == ("m", "me/faces", {"private": True})
    assert capsys.readouterr().out == "m: 0 figures, no licence stated\nthere\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--out m --repository faces", "--repository faces: give OWNER/NAME"),
        ("--out m --private", "--private is of a --repository: give one"),
        ("--out a.png", "cannot write to a.png: a.png is a file"),
        ("--out m --dataset tinny", "nor a set in datasets (did you mean 'tiny'?)"),
    ],
)
def test_what_cannot_be_is_refused(line, words, rejected, desk):
    shutil.copy(desk / "v.safetensors", desk / "w.safetensors")
    assert words in rejected("publish", "--snapshot", "w.safetensors", *line.split())
