"""The page in a real browser, without a window; skipped where there is none."""

import re
import shutil
import subprocess

import pytest
from report_runs import make_run, page_of, tick

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
LIGHT = "rgb(251, 251, 249); none"  # of the page, and the filter of its charts
DARK = "rgb(21, 23, 27); invert(1) hue-rotate(180deg)"
# What a page says of itself once it is there, and its first picture once it was chosen.
PROBE = """<script>addEventListener("load", () => {
  const style = (element) => getComputedStyle(element), image = document.querySelector("label img");
  image.click();
  document.body.dataset.probe = [
    document.documentElement.scrollWidth <= innerWidth,
    [...document.images].every((image) => image.naturalWidth > 0),
    style(image).position, style(document.body).backgroundColor,
    style(document.querySelector("figure .drawn")).filter,
  ].join("; ");
});</script></body>"""


@pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")
@pytest.mark.parametrize(("width", "scheme", "colours"), [(1280, 1, LIGHT), (500, 0, DARK)])
def test_the_page_fits_its_window_is_light_or_dark_enlarges_pictures_and_runs_no_scripts(
    tmp_path, width, scheme, colours
):
    lines = [tick(n, **{"val/psnr": n / 100}) for n in (2000, 3000)]
    source = page_of(make_run(tmp_path / "run", lines, 2000, 3000)).source.replace("</body>", PROBE)
    window = f"--window-size={width},900", f"--blink-settings=preferredColorScheme={scheme}"
    place = f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()
    said = []
    for text in (source, re.sub("<meta http-equiv[^>]*>", "", source)):
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        words = [BROWSER, *FLAGS, *window, *place]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
        said.append((re.findall('data-probe="(.*?)"', done.stdout), "CONSOLE" in done.stderr))
    assert said == [([], True), ([f"true; true; fixed; {colours}"], False)]
