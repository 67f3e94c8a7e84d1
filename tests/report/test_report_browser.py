"""The page in a real browser, without a window; skipped where there is none."""

import json
import re
import shutil
import subprocess

import pytest
from report_runs import make_run, page_of, tick

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), "")
# What a page says of itself once it is there, and its first picture once it was chosen.
PROBE = """<script>addEventListener("load", () => {
  const style = (element) => getComputedStyle(element), image = document.querySelector("label img");
  image.click();
  document.body.dataset.probe = JSON.stringify([
    document.documentElement.scrollWidth <= innerWidth,
    [...document.images].every((image) => image.naturalWidth > 0),
    style(image).position, style(document.body).backgroundColor,
    style(document.querySelector("figure .drawn")).filter,
  ]);
});</script></body>"""


@pytest.mark.skipif(not BROWSER, reason="no Chromium is installed")
@pytest.mark.parametrize(
    ("width", "scheme", "colours"),
    [
        (1280, 1, ["rgb(251, 251, 249)", "none"]),
        (500, 0, ["rgb(21, 23, 27)", "invert(1) hue-rotate(180deg)"]),
    ],
)
def test_the_page_fits_its_window_is_light_or_dark_enlarges_pictures_and_runs_no_scripts(
    tmp_path, width, scheme, colours
):
    lines = [tick(n, **{"val/psnr": n / 100}) for n in (2000, 3000)]
    page_of(make_run(tmp_path / "run", lines, 2000, 3000))
    source = (tmp_path / "page.html").read_text(encoding="utf-8").replace("</body>", PROBE)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    flags += [f"--window-size={width},900", f"--blink-settings=preferredColorScheme={scheme}"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "page.html").as_uri()]
    for text in (source, re.sub("<meta http-equiv[^>]*>", "", source)):
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        done = subprocess.run([BROWSER, *flags], capture_output=True, timeout=120, check=True)
        found = re.search(r'data-probe="([^"]*)"', done.stdout.decode())
        if text is source:
            assert found is None
            assert b"inline script violates the following Content Security" in done.stderr
    assert b"CONSOLE" not in done.stderr
    assert json.loads(found[1].replace("&quot;", '"')) == [True, True, "fixed", *colours]
