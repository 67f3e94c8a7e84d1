"""The page about a run, whole or damaged."""

import base64
import io
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import Page, make_run, page_of, picture, tick

from pgvae.errors import InputError
from pgvae.report.collect import read_run
from pgvae.report.page import plain
from pgvae.report.pictures import kimg

HOSTILE = "</title></style></script><script>alert(1)</script>\"'&"
METRICS = {
    "swd": {"label": "SWD x 1000", "value": 63.5, "floor": 7.25, "details": {"8 px": 2}},
    "fid": {"value": math.nan, "floor": None, "std": 0.5, "better": "lower"},
}
METRICS |= {"plain": 3, "none": None, "odd": [10**400, math.inf]}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Page:
    """Of a finished run with all that a page can show."""
    lines = [tick(n, **{"both/rec": 2000 / n, "both/kl": -n}) for n in range(100, 8001, 100)]
    figures = {"img_per_s": 10, "val/psnr": 20.125, "val/psnr_gain": 5.5, "val/accuracy hat": 0.875}
    lines.append({"images": 8000, **figures, "metric/swd": 40.5, "metric/swd floor": 3.25})
    place = tmp_path_factory.mktemp("report") / "00000-faces-pioneer-16px"
    run = make_run(place, lines, 2500, 4000, 6000, 8000)
    for name in ("interpolation", "fakes-final"):
        picture(run / f"{name}.png")
    Image.linear_gradient("L").resize((2048, 2048)).save(run / "reals.png")
    values = {"snapshot": "s.safetensors", "count": 2000, "seed": math.inf, "metrics": METRICS}
    (run / "evaluation-a.json").write_text(json.dumps(values))
    return page_of(run, snapshots=3)


@pytest.fixture
def small(tmp_path) -> Path:
    """A run that can be damaged."""
    return make_run(tmp_path / "run", [tick(2800), tick(2950)], 60, 120, 180)


def damage(path: Path, content: str | None) -> None:
    """Write other bytes, or remove it."""
    path.write_bytes((content or "").encode("latin-1"))
    if content is None:
        path.unlink()


def test_the_page_says_what_the_run_is_and_how_to_repeat_it(page):
    assert page.all("title") + page.all("h1") == ["faces pioneer 16 px", "faces pioneer, 16 px"]
    assert page.all("header/p") == ["Finished", "00000-faces-pioneer-16px"]
    for said in (
        *("Images seen8 kimgof 8 kimg planned", "Stage16 pxfaded in", "lambda_z 1000.0"),
        "Speed10 images/sat the last entry",
        "First to last entry0:13:10 2024-05-06 07:00 to 2024-05-06 07:13 UTC",
        "PSNR20.12 dBunseen images, +5.5 dB against the mean image",
        *("digest 0123456789abcdef)", "dataset_digest " + "0123456789abcdef" * 4),
    ):
        assert said in page.text
    assert page.all("pre") == ["python train.py --dataset 'my $faces' --set lambda_x=10"]
    assert page.all("section[@id='growth']//td") == [
        *("4 px", "0", "2", "–", "16", "0.001", ""),
        *("8 px", "2", "4", "3", "8", "0.001", "fading lambda_x 3; then as usual"),
        *("16 px", "4", "8", "5", "4", "0.0005", "lambda_x 4"),
    ]
    assert "evaluation-a.json snapshot s.safetensors, count 2,000, seed inf" in page.all("h3")
    rows = [row.strip() for row in page.all("section[@id='metrics']//tr")]
    assert rows[1:5] == ["SWD x 100063.57.258 px 2", "fidNaN–lowerstd 0.5", "plain3–", "none––"]


def test_a_figure_is_compared_with_those_of_its_stage_alone(tmp_path):
    figures = [(2000, 30.0), (3000, 21.0), (3500, 22.5), (4000, 23.0)]  # 4 px ends at 2 kimg
    run = make_run(tmp_path / "run", [tick(n, **{"val/psnr": v}) for n, v in figures])
    text = page_of(run).text
    assert "PSNR23 dBunseen images; 21 dB at the first look at this resolution" in text
    assert text.count("Figures compare within a stage") == 1
    alone = make_run(tmp_path / "alone", [tick(n, **{"val/psnr": 30.0}) for n in (2000, 2100)])
    assert "PSNR30 dBunseen images\n" in page_of(alone).text


LOOKS = [(1500, 9.0), (3000, 40.0), (3500, 35.0), (4000, 36.0)]  # 4 px ends at 2 kimg


@pytest.mark.parametrize(
    ("about", "said"),
    [
        ({"images_seen": 3500, "value": 35.0}, "3.5 kimgbest.safetensors: swd 35, the lowest of 3"),
        ({"images_seen": 3000, "value": 40.0}, "3 kimgbest.safetensors: swd 40, the highest of 3"),
        ({"images_seen": 4000, "value": 36.0}, "4 kimgbest.safetensors: swd 36\n"),
        ({"images_seen": 1500, "value": 9.0}, "1.5 kimgbest.safetensors: swd 9\n"),  # the only one
    ],
)
def test_the_best_snapshot_is_named_with_its_figure_among_those_of_its_stage(about, said, tmp_path):
    run = make_run(tmp_path / "run", [tick(n, **{"metric/swd": v}) for n, v in LOOKS])
    (run / "best.json").write_text(json.dumps({"metric": "swd", **about}))
    assert f"Best snapshot{said}" in page_of(run).text


def test_without_a_metric_the_best_look_is_by_psnr_at_the_last_resolution(tmp_path):
    figures = [*LOOKS, (4004, math.nan)]
    lines = [tick(n, **{"val/psnr": v}) for n, v in figures]
    lines[-1]["val/psnr"] = None
    text = page_of(make_run(tmp_path / "run", lines)).text
    assert "Best snapshot3 kimgPSNR of unseen images 40 dB, the highest of 3 at its res" in text
    assert "no metric decides" in text
    bare = make_run(tmp_path / "bare", [tick(100)])
    assert "Best snapshot" not in page_of(bare).text


@pytest.mark.parametrize("content", ["", "[]", '{"metric": 3}', '{"images_seen": "x"}', "\xff"])
def test_a_damaged_best_json_is_a_note(content, tmp_path):
    run = make_run(tmp_path / "run", [tick(100, **{"val/psnr": 3.0})])
    damage(run / "best.json", content)
    page = page_of(run)
    assert "best.json could not be read" in page.all("p[@class='note']")[0]
    assert "Best snapshot" not in page.text


def test_pictures_are_the_newest_of_each_kind_and_some_of_the_earlier_ones(page):
    newest = ["Samples: 8 kimg, 16 px", "Real images: of the training data"]
    newest += ["Reconstructions: 8 kimg, 16 px", "Interpolation: interpolation.png"]
    earlier = ("2.5 kimg, 8 px, alpha 0.50", "6 kimg, 16 px")
    older = [f"Earlier {k}: {when}" for k in ("samples", "reconstructions") for when in earlier]
    assert [*page.pictures] == newest + older
    assert page.text.count("3 of 4, the newest above.") == 2
    files = (base64.b64decode(page.pictures[name].partition(",")[2]) for name in newest[:2])
    samples, reals = (np.asarray(Image.open(io.BytesIO(file)), float) for file in files)
    assert samples.shape == (512, 512, 3)
    assert np.ptp(samples.reshape(64, 8, 64, 8, 3), axis=(1, 3)).max() == 0  # as they were
    wanted = Image.linear_gradient("L").resize((1024, 1024)).convert("RGB")
    assert np.abs(reals - np.asarray(wanted)).mean() < 3


def test_every_figure_of_the_log_is_in_a_curve_and_no_other(page):
    legend = {"lr": "0.0005", "img_per_s": "10", "both/rec": "0.25", "both/kl": "−8,000"}
    legend |= {"val/psnr": "20.12", "val/psnr_gain": "5.5", "val/accuracy hat": "87.5"}
    assert page.legend == {**legend, "metric/swd": "40.5", "metric/swd floor": "3.25"}
    words = page.values("figure/img[@class]", "alt")
    assert "rec: both/rec last 0.25, lowest 0.25, highest 20;" in words


def test_everything_is_in_the_file_and_nothing_may_be_run(page):
    assert not re.search(r'<script| style=| on\w+=|(src|href|srcset)="(?!data:|#)', page.source)
    [policy] = page.values("meta[@http-equiv]", "content")
    assert re.fullmatch(r"default-src 'none'; img-src data:; style-src 'sha256-\S+'", policy)
    assert [href[1:] for href in page.values("a", "href")] == page.values("section", "id")


def test_hostile_names_are_texts(tmp_path):
    lines = [tick(100, **{f"encoder/{HOSTILE}": 1.0, f"val/accuracy {HOSTILE}": 0.5, HOSTILE: 1})]
    run = make_run(tmp_path / "a", lines, name=HOSTILE + "\ud800", status=HOSTILE, message=HOSTILE)
    metrics = {HOSTILE: {"value": 1, HOSTILE: HOSTILE, "unit": HOSTILE, "floor": HOSTILE}}
    (run / "evaluation.json").write_text(json.dumps({"metrics": metrics, "dataset": HOSTILE}))
    page = page_of(run)
    assert [len(page.all(tag)) for tag in ("script", "style", "title")] == [0, 1, 1]
    assert page.text.count("<script>alert(1)</script>") >= 8
    assert page.all("title") == [f"{HOSTILE}? pioneer 16 px"]  # half a surrogate pair
    assert "There are no pictures yet" in page.text


# Seven lines are damaged, and the last one is cut short.
LOG = """{"images": 2950, "lr": 0.001, "resolution": 8, "alpha": 0.95}
{\n[]\nnull\n{"time": 1}\n{"images": NaN}\n{"images": "x"}\n{"images": 50}
{"images": 3e3, "time": 1e300, "low": -Infinity, "a": "a", "yes": true, "list": [1]}
{"images": 4000, "l"""
STATUS = '{"status": "%s", "images_seen": 3000, "message": "rec is NaN"}'


@pytest.mark.parametrize(
    ("name", "content", "note", "still"),
    [
        ("stats.jsonl", LOG, "Lines of stats.jsonl that could not be read: 7.", "low −inf"),
        ("stats.jsonl", LOG, "could not be read: 7.", "Images seen3 kimgof 8 kimg planned"),
        ("stats.jsonl", LOG, "could not be read: 7.", "Stage8 pxfading in, alpha 0.95"),
        ("status.json", STATUS % "running", "rec is NaN", "Running, last heard of at 2024-05-06 "),
        ("status.json", STATUS % "preempted", "rec is NaN", "Stopped"),
        ("status.json", STATUS % "failed", "rec is NaN", "Images seen3 kimgof 8 kimg planned"),
        ("status.json", None, "status.json could not be read (No such file", "Status unknown"),
        ("status.json", '{"images_seen": Infinity}', "status.json could not be read", "2.95 kimg"),
        ("request.json", None, "there is no command to repeat the run (there is no", "prepared as"),
        ("request.json", "[]", "there is no command to repeat the run", "prepared as before"),
        ("evaluation-a.json", "", "evaluation-a.json could not be read", "Pictures"),
        ("evaluation-a.json", '{"metrics": []}', "evaluation-a.json could not be", "Pictures"),
        ("config.json", '{"colour": 3}', "so there is no timeline (unknown run", "colour 3"),
        ("config.json", '{"objective": 3, "model": []}', "there is no timeline", "? ?, ? px"),
        ("fakes-000000180.png", "no", "fakes-000000180.png could not be", "Samples0.12 kimg"),
        ("fakes-000000120.png", "\x89PNG\r\n", "fakes-000000120.png could", "Samples0.18 kimg"),
    ],
)
def test_what_a_file_says_or_that_it_is_damaged_is_a_note(small, name, content, note, still):
    damage(small / name, content)
    page = page_of(small)
    [said] = page.all("p[@class='note']")
    assert note in said
    assert still in page.text
    assert {"lr"} <= page.legend.keys() <= {"lr", "low"}


@pytest.mark.parametrize("content", ["", "[]", '{"a":', "\xff", "[" * 100_000, "{\n{\n", None])
@pytest.mark.parametrize(("name", "wrong"), [("config.json", "config"), ("stats.jsonl", "yet: ")])
def test_without_config_or_log_there_is_no_page_and_an_older_one_stays(small, name, content, wrong):
    damage(small / name, content)
    (small.parent / "page.html").write_text("old")
    with pytest.raises(InputError, match=f"^[^\n]*{wrong}[^\n]*$"):
        page_of(small)
    assert (small.parent / "page.html").read_text() == "old"


def test_numbers_have_four_digits_and_images_are_counted_in_thousands():
    values = (0.0, 17.343128, -4.5, 0.000125, 1.23e-7, 12345.6, math.nan, -math.inf, 4096, "a")
    texts = ["0", "17.34", "−4.5", "0.000125", "1.23e−07", "12,346", "NaN", "−inf", "4,096", "a"]
    assert list(map(plain, values)) == texts
    assert [kimg(n) for n in (0, 500, 8512, 1_250_000)] == ["0", "0.5", "8.512", "1,250"]


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_picture_that_is_no_file_is_left_out_and_not_waited_for(kind, tmp_path):
    run = make_run(tmp_path / "run", [tick(1000, loss=1.0)], 1000)
    for name in ("fakes-000009999.png", "interpolation.png"):
        os.mkfifo(run / name) if kind == "pipe" else (run / name).symlink_to("nowhere")
    page = page_of(run)
    why = "no file, but a folder, a pipe or a device" if kind == "pipe" else "No such file"
    assert f"fakes-000009999.png could not be read ({why}" in page.text


@pytest.mark.parametrize(
    ("how", "words"), [("gone", "or bring the file back"), ("folder", "cannot be read")]
)
def test_a_log_that_is_gone_is_told_of(how, words, tmp_path):
    run = make_run(tmp_path / "run", [tick(1000, loss=1.0)], 1000)
    (run / "stats.jsonl").unlink()
    if how == "folder":
        (run / "stats.jsonl").mkdir()
    with pytest.raises(InputError, match=words):
        read_run(run)
