"""The routes of the page: what each answers, and what it refuses."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from client import Client
from PIL import Image

from pgvae.data import Store
from pgvae.explore import Explorer, app
from pgvae.explore import explorer as explorer_module
from pgvae.explore.app import make_app
from pgvae.explore.points import Point
from pgvae.inference import load

PAGE = Path(app.__file__).parent
SEED, UNSEEN = {"seed": 3}, {"unseen": 1}
CORNERS = [{"seed": 1}, {"seed": 2, "attributes": {"hat": 2}}, {"unseen": 0}]


def pixels(address: str) -> np.ndarray:
    data = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(data)) as file:
        return np.asarray(file)


def test_the_page_and_its_parts_are_served_and_nothing_else(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    parts = re.findall(r'(?:href|src)="([\w.]+)"', page.text)
    assert {"page.css", "page.js"} <= set(parts)
    scripts = [file.name for file in PAGE.glob("*.js")]
    for name in {*parts, *scripts}:
        assert client.get(f"/{name}").body == (PAGE / name).read_bytes()
    for path in ("/app.py", "/../app.py", "/page.html", "/%2e%2e/app.py", "/api", "/api/about"):
        assert client.get(path).status in (404, 405), path


def test_the_page_asks_for_nothing_of_a_network_and_is_small():
    files = [file for file in PAGE.iterdir() if file.suffix in (".html", ".css", ".js")]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    assert not any(re.search(r"https?://|//cdn|@import", text) for text in texts.values())
    lines = sum(len(t.splitlines()) for name, t in texts.items() if name.endswith(".js"))
    assert lines < 800


def test_about_says_what_there_is(client):
    about = client.ask("about").json()
    assert about["title"] == "00000-faces-vac-16px"
    assert about["snapshots"] == [1000, 2000]
    assert (about["unseen"], about["training"]) == (4, 20)
    assert about["attributes"] == ["glasses", "hat"]
    assert about["priors"] == about["truncates"] == ["fitted", "training"]


def test_a_look_is_pictures_and_certainties(client, explorer):
    answer = client.ask("look", points=[SEED, UNSEEN], side=8).json()
    assert [pixels(image).shape for image in answer["images"]] == [(8, 8, 3)] * 2
    full = client.ask("look", points=[SEED]).json()
    expected = explorer.look([Point("seed", 3)])
    levels = ((expected.images[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(pixels(full["images"][0]), levels)
    assert full["sure"] == [pytest.approx(expected.sure[0].tolist())]


def test_a_sent_image_is_reconstructed(client, png):
    sent = client.send("/api/images", [png[:100], png[100:]]).json()
    point = {"image": sent["image"]}
    found = client.ask("reconstruction", point=point).json()
    np.testing.assert_array_equal(pixels(found["original"]), pixels(sent["picture"]))
    assert pixels(found["error"]).shape == pixels(found["again"]).shape == (16, 16, 3)
    error = pixels(found["original"]).astype(float) - pixels(found["again"])
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()), abs=0.5)
    assert found["psnr"] == pytest.approx(20 * np.log10(255 / found["rmse"]), abs=0.01)


def test_an_image_of_before_is_gone_and_comes_back_when_sent_again(client):
    point = {"image": "0123456789abcdef"}
    answer = client.ask("look", points=[point])
    assert (answer.status, answer.json()["error"]) == (
        410,
        "That image is no longer here: choose its file again.",
    )


def test_between_and_walk_have_so_many_pictures(client):
    square = client.ask("between", corners=CORNERS, steps=3, at=1000, side=64).json()
    assert (len(square["images"]), square["columns"]) == (9, 3)
    assert pixels(square["images"][0]).shape == (8, 8, 3)
    assert len(client.ask("walk", corners=CORNERS, steps=2).json()["images"]) == 6


def test_ends_and_neighbours_come(client):
    ends = client.ask("ends").json()
    assert [len(row) for row in ends["components"]] == [4] * 12
    assert len(ends["attributes"]) == 2
    assert ends["of"] == "training images"
    near = client.ask("nearest", point=UNSEEN).json()
    assert len(near["images"]) == len(near["names"]) == len(near["distances"]) == 6


def test_files_are_saved_under_names_that_say_what_they_are(client, explorer):
    def saved(**asked):
        answer = client.ask("save", **asked)
        assert answer.status == 200, answer.text
        return answer.headers["content-disposition"].split('"')[1], answer.body

    name, data = saved(what="picture", points=[SEED])
    assert (name, data[1:4]) == ("seed-3.png", b"PNG")
    name, data = saved(what="latents", points=CORNERS)
    assert name == "seed-1-and-2-more.npz"
    with np.load(io.BytesIO(data)) as file:
        points = [Point("seed", 1), Point("seed", 2, attributes={"hat": 2.0}), Point("unseen", 0)]
        np.testing.assert_array_equal(file["latents"], explorer.latents(points))
        assert json.loads(str(file["points"][1])) == {"seed": 2, "attributes": {"hat": 2.0}}
        assert json.loads(file["model"].item())["snapshot"] == "snapshot-000002000.safetensors"
    name, data = saved(what="between", corners=CORNERS, steps=2)
    assert (name, data[1:4]) == ("between.png", b"PNG")
    name, data = saved(what="walk", corners=CORNERS, steps=2, ending="gif", fps=8)
    assert (name, data[:3]) == ("walk.gif", b"GIF")


@pytest.mark.parametrize(
    ("name", "asked", "said"),
    [
        ("look", {}, "Points is None"),
        ("look", {"points": []}, "use 1 to 64 points, not 0"),
        ("look", {"points": [SEED] * 65}, "use 1 to 64 points, not 65"),
        ("look", {"points": [SEED], "side": 4000}, "side is 4000"),
        ("look", {"points": [SEED], "at": "../x"}, "at is '../x'"),
        ("look", {"points": [SEED], "at": 3}, "no snapshot after 3 images"),
        ("look", {"points": [{"unseen": 4}]}, "there are 4 unseen images"),
        ("look", {"points": [{"seed": 1, "attributes": {"hair": 1}}]}, "no attribute 'hair'"),
        ("look", {"points": [{"seed": 1, "components": {"12": 1}}]}, "no component 13"),
        ("look", {"points": [{"seed": 1, "prior": "best"}]}, "prior"),
        ("reconstruction", {"point": SEED}, "a sample is no image"),
        ("originals", {"points": [SEED]}, "a sample is no image"),
        ("between", {"corners": [SEED], "steps": 3}, "use 2 to 4 points"),
        ("between", {"corners": CORNERS, "steps": 99}, "steps is 99"),
        ("walk", {"corners": CORNERS, "steps": 86}, "steps is 86"),
        ("save", {"what": "/etc/passwd"}, "what"),
        ("save", {"what": "walk", "corners": CORNERS, "steps": 2, "ending": "exe"}, "animations"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_a_sentence(client, name, asked, said):
    answer = client.ask(name, **asked)
    assert answer.status == 400
    sentence = answer.json()["error"]
    assert said.lower() in sentence.lower()
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'"text"'])
def test_what_is_no_json_is_refused(client, body):
    answer = client.send("/api/look", [body])
    assert (answer.status, "JSON" in answer.json()["error"]) == (400, True)


def test_a_bad_image_is_refused_in_a_sentence(client):
    answer = client.send("/api/images", [b"<svg></svg>"])
    assert answer.status == 400
    assert answer.json()["error"].startswith("This image cannot be used: not a PNG, JPEG")


def test_what_is_too_large_is_refused_before_it_has_all_come(client):
    parts = [bytes(1 << 20)] * 40
    answer = client.send("/api/images", parts, ends=False)
    assert (answer.status, "32 MiB at most" in answer.json()["error"]) == (413, True)
    assert client.send("/api/look", [b" " * (1 << 19)]).status == 413


def test_what_takes_too_long_to_come_is_refused(client):
    answer = client.send("/api/images", [b"\x89PNG"], ends=False)
    assert (answer.status, "0.3 s" in answer.json()["error"]) == (408, True)


def test_a_fault_of_our_own_is_a_sentence_and_shows_in_the_terminal(explorer, monkeypatch):
    from client import Client

    monkeypatch.setattr(explorer_module.Explorer, "look", lambda *_: 1 / 0)
    answers = []
    with Client(make_app(explorer)) as client:
        with pytest.raises(ZeroDivisionError):
            answers.append(client.ask("look", points=[SEED]))
        assert client.ask("about").status == 200  # and the next one is answered


def test_pictures_are_not_made_for_those_who_left(explorer, monkeypatch):
    made = []
    monkeypatch.setattr(explorer_module.Explorer, "look", lambda *_: made.append(1))
    import asyncio

    messages = [{"type": "http.request", "body": b'{"points": [{"seed": 1}]}', "more_body": False}]

    async def receive():
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    sent = []

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/look",
        "raw_path": b"/api/look",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
        "server": ("localhost", 1),
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
    }
    asyncio.run(make_app(explorer)(scope, receive, send))
    assert sent[0]["status"] == 499
    assert made == []


def test_a_set_that_is_moved_away_is_told_of_in_a_sentence(run, faces, tmp_path, capfd):
    shutil.copytree(faces, tmp_path / "faces")
    explorer = Explorer(load(run), run, Store(tmp_path / "faces"))
    (tmp_path / "faces").rename(tmp_path / "moved")
    with Client(make_app(explorer)) as client:
        answer = client.ask("nearest", point=SEED)
    said = answer.json()["error"]
    assert answer.status in (400, 503)
    assert str(tmp_path / "faces") in said
    assert len(said.splitlines()) == 1
    assert "Traceback" not in capfd.readouterr().err


def test_a_file_that_cannot_be_read_is_told_of_in_a_sentence(explorer, monkeypatch, capfd):
    def gone(*_):
        raise FileNotFoundError(2, "No such file or directory", "sets/faces/names.json")

    monkeypatch.setattr(explorer, "nearest", gone)
    with Client(make_app(explorer)) as client:
        answer = client.ask("nearest", point=SEED)
    said = "sets/faces/names.json cannot be read (No such file or directory): bring it back"
    assert (answer.status, answer.json()) == (503, {"error": f"{said}."})
    told = capfd.readouterr()
    assert told.out + told.err == f"error: {said}\n"
