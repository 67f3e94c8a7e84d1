"""The page in Chromium, without a window: every control, bad files, tabs, a killed server."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from browser import BROWSER, Server, playwright

from pgvae.explore import app

pytestmark = pytest.mark.slow
PAGE = Path(app.__file__).parent / "page.html"
SECONDS = 60_000  # in ms: a machine that is busy


@pytest.fixture(scope="module")
def server(run, faces) -> Iterator[Server]:
    playwright()
    server = Server(run, "--dataset", "faces", "--data-root", faces.parent)
    yield server
    server.end(signal.SIGKILL)


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    with playwright().sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab(chromium, server):
    """Opens the page in a browser of its own, once it shows all; fails where the page does."""
    contexts, faults = [], []

    def open_tab(link: str = "", context=None, **how):
        context = context or chromium.new_context(viewport={"width": 1300, "height": 900}, **how)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.goto(server.address + link)
        page.locator("#sliders .ends img").first.wait_for()
        shown(page)
        return page

    yield open_tab
    for context in contexts:
        context.close()
    unforeseen = [fault for fault in faults if "Failed to load resource" not in fault]
    assert not unforeseen


def shown(page) -> str:
    """The picture once nothing is on its way; going back in history begins a little later."""
    page.wait_for_timeout(60)
    page.locator("body:not(.busy)").wait_for()
    return page.locator("#picture").get_attribute("src")


def state_of(page) -> dict:
    """What the link of a page says."""
    return json.loads(unquote(page.url.partition("#")[2]) or "{}")


def chosen(page, place: str, index: int):
    return page.locator(f"#{place} > button").nth(index)


def test_every_control_does_what_it_says(tab, tmp_path, pictures):
    page, used = tab(), set()

    def press(name: str) -> str:
        used.add(name)
        page.locator(f"#{name}").click()
        return shown(page)

    def slide(name: str, value: object) -> str:
        used.add(name)
        page.locator(f"#{name}").fill(str(value))
        return shown(page)

    def saved(name: str) -> Path:
        with page.expect_download() as download:
            press(name)
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def select(name: str, value: str) -> str:
        used.add(name)
        page.locator(f"#{name}").select_option(value)
        return shown(page)

    first = shown(page)
    assert first.startswith("data:image/png;base64,")
    assert page.locator("#redo").is_disabled()
    chosen(page, "seeds", 2).click()
    second = shown(page)
    assert second != first
    assert page.locator("#subject-title").inner_text() == "Seed 2"
    assert press("undo") == first
    assert press("redo") == second
    page.locator("#first").fill("100")
    page.locator("#first").press("Enter")
    used.add("first")
    assert chosen(page, "seeds", 0).inner_text() == "100"
    press("later")
    assert chosen(page, "seeds", 0).inner_text() == "116"
    press("earlier")
    press("any")
    assert state_of(page)["first"] != 100
    assert select("prior", "training") != second
    assert slide("truncation", 0.5) != second
    assert state_of(page)["truncation"] == 0.5
    assert saved("save-seeds").read_bytes()[1:4] == b"PNG"
    with np.load(saved("save-seeds-latents")) as file:
        assert file["latents"].shape == (16, 16)

    still = shown(page)
    page.get_by_label("glasses", exact=True).fill("3")
    page.get_by_label("Component 12", exact=True).fill("-2.5")
    moved = shown(page)
    assert moved != still
    assert page.locator("#caption").inner_text() == "glasses +3.0, component 12 −2.5"
    assert page.locator("#compared figure").count() == 1
    page.get_by_role("button", name="Reset glasses").click()
    assert shown(page) not in (still, moved)
    assert saved("save-picture").name == "seed-2.png"
    with np.load(saved("save-latent")) as file:
        assert json.loads(file["points"].item())["components"] == {"11": -2.5}
    assert press("still") == still
    assert slide("time", 0) != still
    assert state_of(page)["at"] == 1000
    assert slide("time", 1) == still
    press("near")
    assert page.locator("#neighbours figure").count() == 6

    page.get_by_text("Images", exact=True).click()
    page.locator("#file").set_input_files(pictures / "picture-001.png")
    used.add("file")
    page.get_by_role("heading", name="picture-001.png").wait_for()
    shown(page)
    assert "PSNR" in page.locator("#compared").inner_text()
    assert page.locator("#compared figure").count() == 3
    assert page.locator("#unseen > button").count() == 4
    chosen(page, "unseen", 1).click()
    shown(page)
    assert page.locator("#subject-title").inner_text() == "Unseen image 2"
    assert page.locator("#unseen-later").is_disabled()  # there are four in all
    assert page.locator("#unseen-earlier").is_disabled()
    used.update(("unseen-later", "unseen-earlier"))

    page.get_by_text("Samples", exact=True).click()
    for index in (0, 1, 3):
        chosen(page, "seeds", index).click()
        press("corner")
    page.locator("#square img").nth(63).wait_for()
    page.locator("#frame").wait_for()
    page.get_by_role("button", name="Remove corner 2").click()
    shown(page)
    assert page.locator("#square img").count() == 8
    assert saved("save-square").name == "between.png"
    with np.load(saved("save-corners")) as file:
        assert file["latents"].shape == (2, 16)
    if page.locator("#play").inner_text() == "Play":
        press("play")
    assert page.locator("#play").inner_text() == "Pause"
    slide("place", 3)
    assert page.locator("#play").inner_text() == "Play"
    assert page.locator("#place-value").inner_text() == "4 of 32"
    press("play")
    slide("fps", 30)
    select("ending", "png")
    assert saved("save-walk").read_bytes()[1:4] == b"PNG"
    page.get_by_role("button", name=re.compile("^Corner 1")).click()
    shown(page)

    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    press("link")
    assert page.evaluate("navigator.clipboard.readText()") == page.url
    assert press("reset") == first
    assert "#" not in page.url
    assert used == controls()


def controls() -> set[str]:
    """Every button, field and choice of the page; radio buttons have no id."""
    source = PAGE.read_text(encoding="utf-8")
    return set(re.findall(r'<(?:button|select|input)[^>]* ?id="([\w-]+)"', source))


def test_a_link_restores_what_was_seen_in_another_browser(tab):
    page = tab()
    chosen(page, "seeds", 5).click()
    page.locator("#corner").click()
    chosen(page, "seeds", 6).click()
    page.locator("#corner").click()
    page.get_by_label("hat", exact=True).fill("-4")
    page.get_by_label("Component 2", exact=True).fill("1.5")
    page.locator("#truncation").fill("0.7")
    picture = shown(page)
    other = tab(page.url.partition("/#")[2] and "#" + page.url.partition("#")[2])
    assert shown(other) == picture
    assert other.locator("#corners .there").count() == 2
    assert other.get_by_label("hat", exact=True).input_value() == "-4"


@pytest.mark.parametrize(
    "link", ["#nonsense", "#%7B%22subject%22%3A7%2C%22corners%22%3A%5B1%5D%2C%22x%22%3A1%7D", "#[]"]
)
def test_a_link_that_is_broken_shows_the_page_as_it_is_at_first(tab, link):
    assert shown(tab(link)) == shown(tab())


def test_a_bad_file_is_a_sentence_that_a_good_one_takes_away(tab, tmp_path, pictures):
    page = tab()
    page.get_by_text("Images", exact=True).click()
    (tmp_path / "bad.png").write_bytes(b"<html>no image</html>")
    page.locator("#file").set_input_files(tmp_path / "bad.png")
    problem = page.get_by_role("alert")
    problem.wait_for()
    assert problem.inner_text().startswith("This image cannot be used: not a PNG, JPEG")
    assert page.locator("#sent > button").count() == 0
    page.locator("#file").set_input_files(pictures / "picture-002.png")
    page.locator("#sent > button").wait_for()
    shown(page)
    assert problem.is_hidden()


def test_an_image_that_is_dropped_becomes_the_subject(tab, png):
    page = tab()
    drop = """(bytes) => {
      const files = new DataTransfer();
      files.items.add(new File([new Uint8Array(bytes)], "dropped.png"));
      document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true}));
    }"""
    page.evaluate(drop, list(png))
    page.get_by_role("heading", name="dropped.png").wait_for()
    shown(page)
    assert page.locator("#images").is_visible()


def test_two_tabs_at_once_each_show_their_own_and_the_last_request_wins(tab):
    one = tab()
    other = tab(context=one.context)
    counts = {one: 0, other: 0}

    def count(page) -> None:
        counts[page] += 1

    for page, seed in ((one, 1), (other, 2)):
        chosen(page, "seeds", seed).click()
        shown(page)
        page.on("request", lambda request, page=page: count(page))
    drag = """(value) => {
      const slider = document.querySelector('[aria-label="Component 1"]');
      for (let i = 1; i <= 40; i++) {
        slider.value = value * i / 40;
        slider.dispatchEvent(new Event("input"));
      }
      slider.dispatchEvent(new Event("change"));
    }"""
    one.evaluate(drag, 2.0)
    other.evaluate(drag, -3.0)
    found = {page: shown(page) for page in (one, other)}
    assert max(counts.values()) < 10  # most of forty were never sent
    for page, value in ((one, 2.0), (other, -3.0)):
        assert state_of(page)["components"] == {"0": value}
        page.reload()
        page.locator("#sliders .ends img").first.wait_for()
        assert shown(page) == found[page]
    assert found[one] != found[other]


def test_the_page_is_used_by_keyboard_alone(tab):
    page = tab()
    first = shown(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link to the picture
    chosen(page, "seeds", 1).focus()
    page.keyboard.press("Enter")
    chosen_one = shown(page)
    assert chosen_one != first
    assert chosen(page, "seeds", 1).get_attribute("aria-pressed") == "true"
    page.get_by_label("Component 1", exact=True).focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert shown(page) != chosen_one
    assert state_of(page)["components"] == {"0": 0.5}
    for _ in range(6):
        page.keyboard.press("Control+z")
        shown(page)
    assert shown(page) == first


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_has_a_name_and_fits_its_window_in_light_and_dark(tab, scheme):
    page = tab(color_scheme=scheme)
    for index in (0, 1):
        chosen(page, "seeds", index).click()
        page.locator("#corner").click()
    page.locator("#frame").wait_for()
    for width in (360, 800, 1400):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 249)"
    assert light == (scheme == "light")
    for role in ("button", "slider", "combobox", "spinbutton", "radio", "img"):
        named = page.get_by_role(role, name=re.compile(r"\S"))
        assert named.count() == page.get_by_role(role).count(), role


def test_a_page_goes_on_when_a_killed_server_is_started_again(tab, server, pictures):
    page = tab()
    page.get_by_text("Images", exact=True).click()
    page.locator("#file").set_input_files(pictures / "picture-004.png")
    page.get_by_role("heading", name="picture-004.png").wait_for()
    before = shown(page)
    server.end(signal.SIGKILL)
    page.get_by_label("Component 1", exact=True).fill("2")
    page.get_by_role("alert").wait_for()
    assert "Start `pgvae explore` again" in page.get_by_role("alert").inner_text()
    server.start()
    page.get_by_role("alert").wait_for(state="hidden")
    moved = shown(page)
    assert moved != before
    page.locator("#undo").click()
    assert shown(page) == before  # of an image that the new server was not sent by hand
