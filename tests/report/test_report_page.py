"""The whole page."""

import json
import math
import re

import pytest
from PIL import Image
from report_runs import (
    Page,
    config,
    finished,
    make_run,
    number,
    page_of,
    picture,
    same,
    shown,
    tick,
    ticks,
)

from pgvae.errors import InputError
from pgvae.report import Interpolation, write_report

HOSTILE = "</title></style></script><script>alert(1)</script>\"'&"


def logged(run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "stats.jsonl").read_text().splitlines()]


def pictures_of(page: Page) -> list[str]:
    """Alternative texts of the pictures."""
    return [attributes["alt"] for attributes, _ in page.all("img")]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("report") / "00000-faces-pioneer-16px")


@pytest.fixture(scope="module")
def page(run) -> Page:
    return page_of(run)


def test_the_page_says_what_the_run_is(page):
    assert page.all("title")[0][1] == "faces pioneer 16 px"
    assert page.all("h1")[0][1] == "faces pioneer, 16 px"
    assert page.all("p", "state") == [({"class": "state done"}, "Finished")]
    assert "00000-faces-pioneer-16px" in page.text
    assert "Written by pgvae report on 2024-05-06 07:08 UTC" in page.text


def test_the_page_says_how_far_how_long_how_fast_and_how_well(page):
    facts = page.all("dl")[0][1]
    for said in (
        "Images seen8 kimgof 8 kimg planned",
        "Stage16 pxfaded in",
        "First to last entry13 min 11 s2024-05-06 07:00 to 07:13 UTC",
        "Speed10 images/sat the last entry",
        "PSNR21.12 dBunseen images, +5.5 dB against the mean image",
    ):
        assert said in facts


def test_every_figure_of_the_log_is_in_a_curve_and_no_other(run, page):
    factors = {"val/accuracy glasses": 100.0}
    curves = page.curves()
    lines = logged(run)
    left_out = {"images", "time", "resolution", "alpha", "skipped_steps"}
    assert curves.keys() == {name for line in lines for name in line} - left_out
    for name, (last, points) in curves.items():
        wanted = [(line["images"], line[name]) for line in lines if name in line]
        assert [images for images, _ in points] == [images for images, _ in wanted]
        factor = factors.get(name, 1.0)
        for (_, text), (_, value) in zip(points, wanted, strict=True):
            assert same(text, value, factor)
        assert same(last, wanted[-1][1], factor)


def test_everything_is_in_the_file(page):
    source = re.sub(r"data:image/webp;base64,[\w+/=]+", "", page.source)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", source, re.IGNORECASE)
    for _, attributes, _ in page.elements:
        assert attributes.get("src", "data:").startswith("data:")
        assert attributes.get("href", "#").startswith(("#", "data:"))
    assert not page.all("iframe") + page.all("object") + page.all("embed")


def test_links_lead_to_sections_that_are_there(page):
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"].removeprefix("#") for attributes, _ in page.all("a")]
    assert targets == ids


def test_every_picture_has_a_text_a_size_and_can_be_enlarged(page):
    found = page.all("img")
    assert len(found) == 1 + 2 * 4
    for attributes, _ in found:
        assert attributes["alt"]
        assert int(attributes["width"]) > 0
        assert int(attributes["height"]) > 0
    assert len(page.all("input")) == len(found)


def test_grids_say_when_they_were_made(page):
    assert pictures_of(page) == [
        "Samples: 8 kimg, 16 px",
        "Real images: of the training data",
        "Reconstructions: 8 kimg, 16 px; a row as they are, below it as they come back",
        "Earlier samples: 2 kimg, 4 px",
        "Earlier samples: 4 kimg, 8 px",
        "Earlier samples: 6 kimg, 16 px",
        "Earlier reconstructions: 2 kimg, 4 px",
        "Earlier reconstructions: 4 kimg, 8 px",
        "Earlier reconstructions: 6 kimg, 16 px",
    ]


def test_of_many_snapshots_some_are_shown_and_the_page_says_so(tmp_path):
    many = range(100, 4001, 100)
    page = page_of(make_run(tmp_path / "run", ticks(), snapshots=many), snapshots=4)
    samples = [alt for alt in pictures_of(page) if "amples" in alt]
    assert [re.search(r"[\d.]+ kimg", alt)[0] for alt in samples] == [
        *("4 kimg", "0.1 kimg", "1.4 kimg", "2.7 kimg")
    ]
    assert page.text.count("4 of 40, the newest above.") == 2


def test_a_grid_in_mid_fade_says_its_alpha(tmp_path):
    page = page_of(make_run(tmp_path / "run", ticks(), snapshots=(2516,)))
    assert "Samples: 2.516 kimg, 8 px, alpha 0.50" in pictures_of(page)


def test_a_run_without_snapshots_yet_says_so(tmp_path):
    status = {"status": "running", "exit_code": 0, "images_seen": 0, "message": ""}
    page = page_of(make_run(tmp_path / "run", ticks(1000), status=status))
    assert "There are no pictures yet" in page.text
    assert page.all("img") == []
    assert page.all("p", "state")[0][1].startswith("Running, last heard of 6 min 20 s before")
    assert "Images seen1 kimgof 8 kimg planned" in page.text
    assert len(page.curves()) == 5


def test_an_unfinished_run_shows_where_it_stands_and_why(tmp_path):
    message = "stopped at 3,000 images: rerun with --resume to go on"
    status = {"status": "preempted", "exit_code": 75, "images_seen": 3000, "message": message}
    run = make_run(tmp_path / "run", ticks(2900), status=status, snapshots=(2000,))
    page = page_of(run)
    assert page.all("p", "state")[0][1] == "Stopped"
    assert message in page.text
    assert "Images seen3 kimgof 8 kimg planned" in page.text
    assert page.all("svg", "done")[0][0]["width"] == "37.50%"
    assert page.all("section")[1][1].count("Earlier") == 0


def test_losses_that_are_not_finite_are_shown_as_such(tmp_path):
    lines = [*ticks(4000), *[tick(n, **{"encoder/rec": math.nan}) for n in (4100, 4200)]]
    failed = {"status": "failed", "exit_code": 4, "images_seen": 4200, "message": "rec is NaN"}
    page = page_of(make_run(tmp_path / "run", lines, status=failed))
    assert page.curves()["encoder/rec"][0] == "NaN"
    assert "2 not finite" in page.text
    assert page.all("p", "state")[0][1] == "Failed"
    assert "rec is NaN" in page.text


def test_a_log_of_thousands_of_lines_is_thinned_and_the_page_says_so(tmp_path):
    lines = [tick(n, **{"both/rec": math.sin(n)}) for n in range(1, 5001)]
    page = page_of(make_run(tmp_path / "run", lines))
    values = [number(value) for _, value in page.curves()["both/rec"][1]]
    assert len(values) <= 1000
    assert max(values) == pytest.approx(max(math.sin(n) for n in range(1, 5001)), rel=1e-3)
    assert "Of more than 1,000 points" in page.text
    assert len(page.source) < 200_000


def test_hostile_names_are_texts(tmp_path):
    lines = [tick(100, **{f"encoder/{HOSTILE}": 1.0, f"val/accuracy {HOSTILE}": 0.5, HOSTILE: 1})]
    status = {"status": HOSTILE, "images_seen": 100, "message": HOSTILE}
    run = make_run(tmp_path / "run", lines, run_config=config(dataset=HOSTILE), status=status)
    metrics = {HOSTILE: {"value": 1, HOSTILE: HOSTILE, "unit": HOSTILE, "floor": HOSTILE}}
    (run / "evaluation.json").write_text(json.dumps({"metrics": metrics, "dataset": HOSTILE}))
    picture(run / "fakes-000000100.png")
    clean = make_run(tmp_path / "clean", [tick(100)], snapshots=())
    page = page_of(run)
    assert [len(page.all(tag)) for tag in ("script", "style", "title")] == [1, 1, 1]
    assert page.all("script")[0][1] == page_of(clean).all("script")[0][1]
    assert "alert(1)</script>" not in page.source
    assert page.text.count("<script>alert(1)</script>") >= 8


def test_half_a_surrogate_pair_in_a_name_is_replaced(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)], run_config=config(dataset="a\ud800b"))
    assert page_of(run).all("h1")[0][1] == "a?b pioneer, 16 px"


def test_no_script_but_its_own_is_let_run(page):
    [policy] = [a["content"] for a, _ in page.all("meta") if "http-equiv" in a]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not any(
        name.startswith("on") or name == "style" for _, a, _ in page.elements for name in a
    )


def test_the_command_and_the_settings_are_in_the_page(page):
    [(_, line)] = page.all("pre")
    assert line == (
        "python train.py --dataset faces --objective pioneer --resolution 16 --set lambda_x=10 "
        "--latent-dim 8 --fmap-max 8 --kimg-per-stage 2 --total-kimg 8 --batch 16"
    )
    settings = {text for _, text in page.all("dt")}
    assert {"dataset_digest", "lambda_z", "total_kimg", "latent_dim", "no_below"} <= settings
    assert "0123456789abcdef" * 4 in page.text


def test_what_the_command_does_not_repeat_is_said(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)], run_config=config(ema_rampup=0.5))
    assert "No option gives: ema_rampup 0.5." in page_of(run).text


def test_an_interpolation_of_the_caller_goes_before_that_of_the_run(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)])
    own = picture(run / "interpolation.png", 8)
    assert pictures_of(page_of(run)) == ["Interpolation: interpolation.png"]
    given = Interpolation(own.read_bytes(), "between four samples")
    assert pictures_of(page_of(run, interpolation=given)) == ["Interpolation: between four samples"]


def test_a_picture_that_cannot_be_read_is_a_note_and_the_one_before_is_shown(tmp_path):
    run = finished(tmp_path / "run")
    (run / "fakes-000008000.png").write_bytes(b"nope")
    page = page_of(run)
    assert "fakes-000008000.png could not be read: it is not a picture." in page.text
    assert pictures_of(page)[0] == "Samples: 6 kimg, 16 px"
    assert "Earlier samples: 6 kimg, 16 px" not in pictures_of(page)
    (run / "fakes-000004000.png").write_bytes(b"nope")
    assert "Earlier samples: 4 kimg, 8 px" not in pictures_of(page_of(run))


def test_large_pictures_are_said_to_be_compressed(tmp_path, page):
    assert "compressed" not in page.text
    run = make_run(tmp_path / "run", [tick(100)])
    Image.effect_noise((1100, 1100), 50).save(run / "reals.png")
    assert "Large ones are compressed for this page" in page_of(run).text


def test_a_config_of_another_version_still_has_curves_and_settings(tmp_path):
    run = make_run(tmp_path / "run", [*ticks(), shown(8000)], snapshots=(2000,))
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**values, "colour": "red"}))
    page = page_of(run)
    assert "unknown run setting" in page.text
    assert page.all("svg", "timeline") + page.all("pre") == []
    assert page.curves()["val/psnr"][0] == "21.12"
    assert "colourred" in page.text
    (run / "config.json").write_text('{"objective": 3, "model": [], "dataset": null}')
    assert page_of(run).all("h1")[0][1] == "None ?, ? px"


def test_an_unknown_objective_has_a_page_without_a_command(tmp_path):
    run = make_run(tmp_path / "run", [tick(100)], run_config=config(objective={"name": "gan"}))
    page = page_of(run)
    assert "no command that repeats this run: unknown objective 'gan'" in page.text
    assert page.all("svg", "timeline")


def test_an_old_page_is_replaced_whole_and_nothing_is_left_beside_it(run, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("old")
    write_report(run, out)
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [out]


def test_a_place_that_cannot_be_written_is_an_error(run, tmp_path):
    with pytest.raises(InputError, match="No such file or directory; use another --out"):
        write_report(run, tmp_path / "nowhere" / "report.html")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot write"):
        write_report(run, tmp_path / "folder")
