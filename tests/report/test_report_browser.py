"""The page in a real browser, without a window; skipped where there is none."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import finished

from pgvae.report import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome")
# What a page says of itself once it is there, and once a chart was pointed at.
PROBE = """<script>
addEventListener("load", () => {
  const images = [...document.images];
  const svg = document.querySelector(".chart svg"), box = svg.getBoundingClientRect();
  const legend = svg.parentElement.querySelector(".legend b"), before = legend.textContent;
  const at = { clientX: box.left + box.width * 197 / 360, clientY: box.top + 50 };
  svg.dispatchEvent(new PointerEvent("pointermove", at));
  const [pointed, when] = [legend.textContent, svg.parentElement.querySelector(".at").textContent];
  svg.dispatchEvent(new PointerEvent("pointerleave"));
  document.body.dataset.probe = JSON.stringify({
    before, pointed, when, after: legend.textContent,
    height: document.documentElement.scrollHeight,
    width: document.documentElement.scrollWidth,
    window: innerWidth,
    images: images.map((i) => [i.naturalWidth, i.naturalHeight, i.width]),
    rendering: getComputedStyle(images[0]).imageRendering,
  });
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    """The path of a Chromium."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return found


@pytest.fixture
def browse(browser, tmp_path) -> Callable[..., subprocess.CompletedProcess]:
    """Open a page with flags; -> what the browser printed."""

    def run(page: Path, *flags: str) -> subprocess.CompletedProcess:
        usual = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        words = [browser, *usual, profile, "--enable-logging=stderr", *flags, page.as_uri()]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("browsed")
    write_report(finished(place / "run"), place / "page.html")
    return place / "page.html"


def console(done: subprocess.CompletedProcess) -> list[str]:
    return re.findall(r"CONSOLE.*", done.stderr)


def probed(page: Path, place: Path, browse, width: int) -> dict:
    """What the probe finds in a copy of the page, whose policy would not let it run."""
    source = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(encoding="utf-8"))
    (place / "probed.html").write_text(source.replace("</body>", f"{PROBE}</body>"))
    done = browse(place / "probed.html", "--dump-dom", f"--window-size={width},900")
    assert console(done) == []
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    return json.loads(found[1].replace("&quot;", '"'))


def test_the_console_has_no_errors_under_the_policy_of_the_page(page, tmp_path, browse):
    assert console(browse(page, "--dump-dom")) == []
    (tmp_path / "bad.html").write_text("<script>nope()</script>")
    assert len(console(browse(tmp_path / "bad.html", "--dump-dom"))) == 1


def test_a_script_that_is_not_its_own_is_not_run(page, tmp_path, browse):
    source = page.read_text(encoding="utf-8")
    foreign = "<script>document.title = 'hacked'</script></body>"
    (tmp_path / "foreign.html").write_text(source.replace("</body>", foreign))
    done = browse(tmp_path / "foreign.html", "--dump-dom")
    assert "Content Security Policy" in "".join(console(done))
    assert "<title>hacked" not in done.stdout


@pytest.mark.parametrize("width", [1280, 500])
def test_pictures_load_and_the_page_fits_its_window(page, tmp_path, browse, width):
    found = probed(page, tmp_path, browse, width)
    assert found["window"] == width
    assert found["width"] <= width
    assert 2000 < found["height"] < 15_000
    sizes = [[8 * side] * 2 for side in (16, 16, 16, 4, 8, 16, 4, 8, 16)]
    assert [[w, h] for w, h, _ in found["images"]] == sizes
    assert all(100 < shown <= 512 for _, _, shown in found["images"])
    assert found["rendering"] == "pixelated"


def test_pointing_at_a_chart_shows_its_value_there_and_leaving_it_the_last(page, tmp_path, browse):
    found = probed(page, tmp_path, browse, 1280)
    assert (found["before"], found["after"]) == ("21.12", "21.12")
    assert found["pointed"] == "20.62"  # in the middle of the axis, so the second snapshot's
    assert found["when"] == "at 4 kimg"


@pytest.mark.parametrize(("flags", "dark"), [([], False), (["--force-dark-mode"], True)])
def test_a_picture_of_the_page_is_not_blank_and_light_or_dark(page, tmp_path, browse, flags, dark):
    shot = tmp_path / "shot.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    browse(page, f"--screenshot={shot}", "--window-size=1280,3000", *flags, *scheme)
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    background = pixels[0, 0]
    assert (background.mean() < 60) == dark
    assert (background.mean() > 200) != dark
    inked = (np.abs(pixels - background).sum(axis=-1) > 60).any(axis=1)
    assert inked.mean() > 0.5
    assert inked[-600:].any()
