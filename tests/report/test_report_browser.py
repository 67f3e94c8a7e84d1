"""The page in a real browser, without a window; skipped where there is none."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_runs import finished

from pgvae.report import write_report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")
# What a page says of itself once it is there, and once a chart was pointed at.
PROBE = """<script>
addEventListener("load", () => {
  const chart = document.querySelector(".chart"), plot = chart.querySelector(".plot");
  const box = plot.getBoundingClientRect(), text = (name) => chart.querySelector(name).textContent;
  const said = () => [text("li b"), text(".at")];
  const before = said(), middle = box.left + box.width * (0.13 + 0.95) / 2;
  plot.dispatchEvent(new PointerEvent("pointermove", { clientX: middle }));
  const pointed = said();
  plot.dispatchEvent(new PointerEvent("pointerleave"));
  document.body.dataset.probe = JSON.stringify({
    before, pointed, after: said(),
    loaded: [...document.images].map((image) => image.naturalWidth > 0),
    width: document.documentElement.scrollWidth,
    page: getComputedStyle(document.body).backgroundColor,
    drawn: getComputedStyle(plot.lastChild).filter,
  });
});
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    place = tmp_path_factory.mktemp("browsed")
    write_report(finished(place / "run"), place / "page.html")
    return (place / "page.html").read_text(encoding="utf-8")


def browse(page: str, place: Path, *flags: str) -> tuple[str, list[str]]:
    """What a page has become, and what it said on the console."""
    (place / "page.html").write_text(page, encoding="utf-8")
    usual = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom")
    profile = f"--user-data-dir={place / 'profile'}"
    words = [BROWSER, *usual, profile, *flags, (place / "page.html").as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)


def test_the_policy_of_the_page_allows_what_is_its_own_and_no_other_script(page, tmp_path):
    foreign = "<script>document.title = 'hacked'</script></body>"
    text, [console] = browse(page.replace("</body>", foreign), tmp_path)
    assert "inline script violates the following Content Security Policy" in console
    assert "<title>hacked" not in text


@pytest.mark.parametrize(
    ("width", "scheme", "colours"),
    [
        (1280, 1, ("rgb(251, 251, 249)", "none")),
        (500, 0, ("rgb(21, 23, 27)", "invert(1) hue-rotate(180deg)")),
    ],
)
def test_the_page_fits_its_window_is_light_or_dark_and_shows_the_value_where_one_points(
    page, tmp_path, width, scheme, colours
):
    source = re.sub(r"<meta http-equiv[^>]*>", "", page)  # would not let the probe run
    flags = f"--window-size={width},900", f"--blink-settings=preferredColorScheme={scheme}"
    text, console = browse(source.replace("</body>", f"{PROBE}</body>"), tmp_path, *flags)
    assert console == []
    found = json.loads(re.search(r'data-probe="([^"]*)"', text)[1].replace("&quot;", '"'))
    assert found["width"] <= width
    assert all(found["loaded"])
    assert (found["page"], found["drawn"]) == colours
    assert found["before"] == found["after"] == ["21.12", ""]
    assert found["pointed"] == ["20.62", "at 4 kimg"]  # in the middle, so the second snapshot's
