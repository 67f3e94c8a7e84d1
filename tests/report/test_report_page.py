"""The whole page."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
from PIL import Image
from report_runs import Page, finished, make_run, page_of, picture, tick

from pgvae.errors import InputError
from pgvae.report import Interpolation, write_report
from pgvae.report.page import figure
from pgvae.report.pictures import embed, kimg

HOSTILE = "</title></style></script><script>alert(1)</script>\"'&"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("report") / "00000-faces-pioneer-16px")


@pytest.fixture(scope="module")
def page(run) -> Page:
    return page_of(run)


def test_the_page_says_what_the_run_is_and_how_to_repeat_it(page):
    assert page.all("title") == ["faces pioneer 16 px"]
    assert page.all("h1") == ["faces pioneer, 16 px"]
    assert page.all("p[@class='note']") == []
    for said in (
        "Finished",
        "00000-faces-pioneer-16px",
        "Images seen8 kimgof 8 kimg planned",
        "Stage16 pxfaded in",
        "First to last entry0:13:10 2024-05-06 07:00 to 2024-05-06 07:13 UTC",
        "Speed10 images/sat the last entry",
        "PSNR21.12 dBunseen images, +5.5 dB against the mean image",
        "Written by pgvae report on 2024-05-06 07:08 UTC",
        "digest 0123456789abcdef)",
        "dataset_digest " + "0123456789abcdef" * 4,
        "lambda_z 1000.0",
    ):
        assert said in page.text
    assert page.all("pre") == [
        "python train.py --dataset 'my faces; rm -rf $HOME' --set lambda_x=10"
    ]


def test_every_figure_of_the_log_is_in_a_curve_and_no_other(run, page):
    lines = [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]
    left_out = {"images", "time", "resolution", "alpha", "skipped_steps"}
    assert page.curves.keys() == {name for line in lines for name in line} - left_out
    for name, (points, last) in page.curves.items():
        factor = 100 if "accuracy" in name else 1
        assert points == [[x["images"], figure(x[name] * factor)] for x in lines if name in x]
        assert last == points[-1][1]


def test_everything_is_in_the_file_and_no_other_script_is_let_run(page):
    for element in page.root.iter():
        for name, value in element.attrib.items():
            assert name not in ("src", "srcset") or value.startswith("data:image/")
            assert name != "href" or value.startswith(("#", "data:"))
            assert name != "style"
            assert not name.startswith("on")
    [policy] = page.values("meta[@http-equiv]", "content")
    pattern = r"default-src 'none'; img-src data:; style-src 'sha256-\S+'; script-src 'sha256-\S+'"
    assert re.fullmatch(pattern, policy)
    assert [href[1:] for href in page.values("a", "href")] == page.values("section", "id")


def test_grids_say_when_they_were_made(page):
    earlier = ("2 kimg, 4 px", "4 kimg, 8 px", "6 kimg, 16 px")
    assert list(page.pictures) == [
        "Samples: 8 kimg, 16 px",
        "Real images: of the training data",
        "Reconstructions: 8 kimg, 16 px; a row as they are, below it as they come back",
        *(f"Earlier {kind}: {when}" for kind in ("samples", "reconstructions") for when in earlier),
    ]


def test_of_many_snapshots_some_are_shown_and_the_page_says_so(tmp_path):
    run = make_run(tmp_path / "run", [tick(2500)], snapshots=range(100, 4001, 100))
    page = page_of(run, snapshots=4)
    assert [text for text in page.pictures if "amples" in text] == [
        "Samples: 4 kimg, 8 px, alpha 0.50",
        *(
            "Earlier samples: 0.1 kimg",
            "Earlier samples: 1.4 kimg",
            "Earlier samples: 2.7 kimg, 8 px, alpha 0.50",
        ),
    ]
    assert page.text.count("4 of 40, the newest above.") == 2


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("running", "Running, last heard of 0:03:05 before this page was written"),
        ("preempted", "Stopped"),
        ("failed", "Failed"),
    ],
)
def test_an_unfinished_run_shows_where_it_stands_and_why(tmp_path, status, said):
    lines = [tick(n, **{"encoder/rec": math.nan if n > 2900 else n}) for n in (2800, 2900, 2950)]
    why = {"status": status, "message": "stopped at 3,000 images: rec is NaN", "images_seen": 3000}
    page = page_of(make_run(tmp_path / "run", lines, **why))
    assert page.all(f"p[@class='state {status}']") == [said]
    assert page.all("p[@class='note']") == ["stopped at 3,000 images: rec is NaN"]
    assert "Images seen3 kimgof 8 kimg planned" in page.text
    assert "Stage8 pxfading in, alpha 0.95" in page.text
    assert page.curves["encoder/rec"][1] == "NaN"
    assert "There are no pictures yet" in page.text


def test_a_log_of_thousands_of_lines_is_thinned(tmp_path):
    lines = [tick(n, **{"both/rec": math.sin(n)}) for n in range(1, 5001)]
    page = page_of(make_run(tmp_path / "run", lines))
    assert len(page.curves["both/rec"][0]) <= 1000
    assert "Of more than 1,000 points" in page.text
    assert len(page.source) < 400_000


def test_hostile_names_are_texts(tmp_path):
    lines = [tick(100, **{f"encoder/{HOSTILE}": 1.0, f"val/accuracy {HOSTILE}": 0.5, HOSTILE: 1})]
    names = {"dataset": HOSTILE + "\ud800", "status": HOSTILE, "message": HOSTILE}
    run = make_run(tmp_path / "run", lines, **names)
    metrics = {HOSTILE: {"value": 1, HOSTILE: HOSTILE, "unit": HOSTILE, "floor": HOSTILE}}
    (run / "evaluation.json").write_text(json.dumps({"metrics": metrics, "dataset": HOSTILE}))
    page = page_of(run)
    assert [len(page.all(tag)) for tag in ("script", "style", "title")] == [1, 1, 1]
    assert "alert(1)</script>" not in page.source
    assert page.text.count("<script>alert(1)</script>") >= 8
    assert page.all("title") == [f"{HOSTILE}? pioneer 16 px"]  # half a surrogate pair


def test_stages_are_a_table(page):
    assert page.all("section[@id='growth']//td") == [
        *("4 px", "0", "2", "–", "16", "0.001", ""),
        *("8 px", "2", "4", "3", "8", "0.001", "fading lambda_x 3; then as usual"),
        *("16 px", "4", "8", "5", "4", "0.0005", "lambda_x 4"),
    ]


def test_an_evaluation_is_a_table_of_values_and_floors(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)])
    swd = {"label": "SWD x 1000", "value": 63.5, "floor": 7.25, "better": "lower"}
    metrics = {
        "swd": {**swd, "details": {"16 px": 80.125, "8 px": 2}},
        "fid": {"value": 55.25, "std": 0.5, "better": None, "details": {"n": 3}},
        "plain": 3,
        "broken": {"value": math.nan, "floor": None},
        "none": None,
        "odd": [10**400, math.inf],
    }
    values = {"snapshot": "s.safetensors", "count": 2000, "seed": math.inf, "metrics": metrics}
    (run / "evaluation-a.json").write_text(json.dumps(values))
    page = page_of(run)
    assert page.all("h3") == ["evaluation-a.json snapshot s.safetensors, count 2,000, seed inf"]
    rows = [row.strip() for row in page.all("section[@id='metrics']//tr")]
    assert rows[1:-1] == [
        "SWD x 100063.57.25lower16 px 80.12, 8 px 2",
        "fid55.25–std 0.5, n 3",
        "plain3–",
        "brokenNaN–",
        "none––",
    ]


def test_an_interpolation_of_the_caller_goes_before_the_newest_of_the_run(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)])
    own = picture(run / "interpolation.png")
    assert list(page_of(run).pictures) == ["Interpolation: interpolation.png"]
    page = page_of(run, interpolation=Interpolation(own.read_bytes(), "between four samples"))
    assert list(page.pictures) == ["Interpolation: between four samples"]


def test_a_picture_that_cannot_be_read_is_a_note_and_the_one_before_is_shown(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)], snapshots=(1000, 2000, 3000, 4000))
    newest, cut = run / "fakes-000004000.png", run / "fakes-000002000.png"
    newest.write_bytes(b"nope")
    cut.write_bytes(cut.read_bytes()[:5000])
    Image.new("1", (16384, 8192)).save(run / "reals.png")
    page = page_of(run)
    notes = page.all("p[@class='note']")
    assert {note.split()[0] for note in notes} == {newest.name, cut.name, "reals.png"}
    assert f"{newest.name} could not be read (it is not a picture)." in notes
    assert [text[:24] for text in page.pictures if "ampl" in text] == [
        *("Samples: 3 kimg, 4 px", "Earlier samples: 1 kimg,")
    ]


@pytest.mark.parametrize(("side", "shown"), [(512, 512), (2048, 1024)])
def test_a_picture_of_512_px_keeps_every_pixel_and_a_larger_one_is_shrunk(side, shown):
    x = np.linspace(0, 255, side)
    smooth = np.stack([np.add.outer(x, x) / 2, *[np.tile(x, (side, 1))] * 2], axis=-1)
    smooth, file = smooth.astype(np.uint8), io.BytesIO()
    Image.fromarray(smooth).save(file, "PNG")
    uri = embed(file.getvalue())
    found = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    part = side // shown
    wanted = smooth.reshape(shown, part, shown, part, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(found) - wanted).mean() <= (3 if side > 512 else 0)
    assert len(uri) < 200_000


def test_a_config_of_another_version_still_has_curves_and_settings(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)])
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "colour": "red"}))
    page = page_of(run)
    assert "unknown run setting" in page.text
    assert page.values("section", "id")[0] == "pictures"
    assert page.curves["img_per_s"][1] == "10"
    assert "colour red" in page.text
    (run / "config.json").write_text('{"objective": 3, "model": [], "dataset": null}')
    assert page_of(run).all("h1") == ["None ?, ? px"]


def test_a_page_is_written_whole_or_not_at_all(run, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("old")
    write_report(run, out)
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [out]
    with pytest.raises(InputError, match="No such file or directory; use another --out"):
        write_report(run, tmp_path / "nowhere" / "report.html")


def test_numbers_have_four_digits_and_images_are_counted_in_thousands():
    values = (0, 17.343128, -4.5, 0.000125, 1.23e-7, 12345.6, math.nan, -math.inf)
    texts = ["0", "17.34", "−4.5", "0.000125", "1.23e−07", "12,346", "NaN", "−inf"]
    assert list(map(figure, values)) == texts
    counts = ["0", "0.5", "8.512", "34", "1,250"]
    assert [kimg(n) for n in (0, 500, 8512, 34000, 1_250_000)] == counts
