"""`pgvae generate`: its options, samples, reconstructions, interpolations, as a user meets them."""

import shutil

import numpy as np
import pytest
from commands import contents
from generated import RIGHT, as_images, as_pixels, cells, names_in, near, pixels

from pgvae.cli import main
from pgvae.inference import Model, load


def test_samples_are_one_file_each_and_a_grid(desk, generate, capsys):
    assert generate("samples", "--count", "5") == 0
    assert names_in(desk / "o") == [*(f"sample-{i:04d}.png" for i in range(5)), "samples.png"]
    assert pixels(desk / "o" / "sample-0000.png").shape == (8, 8, 3)
    assert capsys.readouterr().out == "samples from the fitted prior\no/samples.png\n"
    assert generate("samples", "--count", "2", "--no-grid", out="p") == 0
    assert names_in(desk / "p") == ["sample-0000.png", "sample-0001.png"]
    assert capsys.readouterr().out.splitlines()[-1] == "p: 2 images"


def test_the_first_samples_are_the_same_for_any_count(desk, generate):
    for count in (1, 3, 7):
        assert generate("samples", "--count", count, out=str(count)) == 0
    for index in range(3):
        name = f"sample-{index:04d}.png"
        assert near(pixels(desk / "3" / name), pixels(desk / "7" / name))
    assert near(pixels(desk / "1" / "sample-0000.png"), pixels(desk / "7" / "sample-0000.png"))


def test_any_count_of_samples_goes_through_the_networks_in_batches(desk, generate, monkeypatch):
    sizes, decode = [], Model.decode
    monkeypatch.setattr(Model, "batch_size", 4)

    def noted(model, latents):
        sizes.append(len(latents))
        return decode(model, latents)

    monkeypatch.setattr(Model, "decode", noted)
    assert generate("samples", "--count", "10") == 0
    assert sizes == [4, 4, 2]
    assert len(names_in(desk / "o")) == 11


def test_of_many_samples_the_grid_shows_the_first(desk, generate, capsys, monkeypatch):
    monkeypatch.setattr("pgvae.cli.session._SHOWN", 4)
    assert generate("samples", "--count", "6") == 0
    assert "o/samples.png shows the first 4 of 6\n" in capsys.readouterr().out
    assert pixels(desk / "o" / "samples.png").shape == (128, 128, 3)


def test_an_image_of_each_seed_is_the_first_of_that_seed(desk, generate):
    words = ("--truncation", "0.5")
    assert generate("samples", "--seeds", "7,1-2,1", *words) == 0
    names = [*(f"seed-{seed:04d}.png" for seed in (1, 2, 7)), "samples.png"]
    assert names_in(desk / "o") == sorted(names)
    for seed in (1, 7):
        assert generate("--seed", seed, "samples", "--count", "3", *words, out=f"s{seed}") == 0
        first = pixels(desk / f"s{seed}" / "sample-0000.png")
        assert near(pixels(desk / "o" / f"seed-{seed:04d}.png"), first)
    grid = cells(pixels(desk / "o" / "samples.png"))
    assert near(grid[0, 0], pixels(desk / "o" / "seed-0007.png"))  # in the order that was asked for


def test_samples_are_the_default(desk):
    with pytest.raises(SystemExit) as caught:
        main(["--snapshot", "v.safetensors"], command="generate")
    assert caught.value.code == 0
    assert len(list((desk / "out" / "00000-samples").glob("sample-*.png"))) == 64


def test_without_a_folder_each_command_gets_a_new_one(desk, run_pgvae, capsys):
    words = ("generate", "--snapshot", "v.safetensors")
    for own in (("samples", "--count", "3"), ("reconstruct", "a.png"), ("samples", "--count", "1")):
        assert run_pgvae(*words, *own) == 0
    assert names_in(desk / "out") == ["00000-samples", "00001-reconstruct", "00002-samples"]
    assert names_in(desk / "out" / "00002-samples") == ["sample-0000.png", "samples.png"]
    assert "out/00002-samples/samples.png\n" in capsys.readouterr().out


def test_what_is_replaced_is_named_and_what_is_left_from_before_too(desk, generate, capsys):
    assert generate("samples", "--count", "5") == 0
    (desk / "o" / "sample-mine.png").write_bytes(b"")  # not of the series
    assert "replaced" not in capsys.readouterr().out
    assert generate("samples", "--count", "2") == 0
    first, *told = capsys.readouterr().out.splitlines()[1:]
    assert first == "o/samples.png"
    assert told == [
        "replaced in o: sample-0000.png, sample-0001.png and 1 more",
        "o has older files beside these: sample-0002.png, sample-0003.png and 1 more",
    ]
    assert generate("reconstruct", "a.png") == 0
    assert generate("reconstruct", "a.png") == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == "replaced in o: a-pair.png, a-reconstruction.png and 1 more"


def test_options_of_all_commands_stand_before_one_or_after_it_and_the_later_goes_first(
    desk, run_pgvae
):
    own = ("samples", "--count", "2")
    here, there = (
        ("--snapshot", "v.safetensors", "--seed", "3"),
        ("--snapshot", "no", "--seed", "4"),
    )
    for out, *words in (
        ("before", *here, "--out", "before", *own),
        ("after", *own, *here, "--device", "cpu", "--out", "after"),
        ("both", *here[:2], "--out", "both", *own, *here[2:]),
        ("later", *there, "--device", "foo", "--out", "o", *own, *here, "--device", "cpu",
         "--out", "later"),
    ):  # fmt: skip
        assert run_pgvae("generate", *words) == 0
        assert contents(desk / out) == contents(desk / "before")
    assert run_pgvae("generate", *here[:2], "--seed", "4", "--out", "other", *own) == 0
    assert contents(desk / "other") != contents(desk / "before")
    assert not (desk / "o").exists()


@pytest.mark.parametrize(
    "words",
    [
        "samples --count 4",
        f"{' '.join(RIGHT)} --count 4",
        "conditional --with glasses=1 --steps 3 --sure 0.1 --count 4",
        "walk --count 3 --steps 2",
        "walk --count 3 --steps 2 --format png",
        "neighbours --dataset tiny",
    ],
)
def test_the_seed_repeats_pictures_byte_for_byte(words, desk, generate):
    for out, seed in (("first", 7), ("again", 7), ("other", 8)):
        assert generate("--seed", seed, *words.split(), out=out) == 0
    first, again, other = (contents(desk / out) for out in ("first", "again", "other"))
    assert first == again
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_a_run_directory_means_its_newest_snapshot(classified, desk, generate):
    assert len(list(classified.glob("snapshot-*"))) > 1
    assert generate("samples", "--count", "2", snapshot=classified, out="run") == 0
    assert generate("samples", "--count", "2", out="file") == 0
    assert contents(desk / "run") == contents(desk / "file")


def test_a_file_is_reconstructed_beside_its_original(desk, generate, capsys):
    assert generate("reconstruct", "a.png") == 0
    out = capsys.readouterr().out
    assert "a.png: RMSE " in out
    assert "1 images at 8 px: RMSE " in out
    assert "against the mean training image" in out
    pair = pixels(desk / "o" / "a-pair.png")
    assert pair.shape == (8, 16, 3)
    original, again = pair[None, :, :8], pair[None, :, 8:]
    assert (pixels(desk / "o" / "a-reconstruction.png") == again[0]).all()
    model = load(desk / "v.safetensors")
    assert near(again, as_pixels(model.reconstruct(as_images(original))))
    told = float(out.split("RMSE ")[1].split("/")[0])
    assert told == pytest.approx(((original - again) ** 2).mean() ** 0.5, abs=0.5)


def test_an_image_of_a_long_name_has_files_of_a_shorter_one(desk, generate):
    name = "e\u0301" * 80
    shutil.copy(desk / "a.png", desk / f"{name}.png")
    assert generate("reconstruct", f"{name}.png") == 0
    found = sorted(path.name for path in (desk / "o").iterdir())
    assert [n.rpartition("-")[2] for n in found] == [
        "pair.png",
        "reconstruction.png",
        "reconstructions.png",
    ]
    assert all(n.startswith(name[:100]) for n in found[:2])


def test_a_folder_is_reconstructed(pictures, desk, generate, capsys):
    assert generate("reconstruct", pictures, "--count", "10") == 0
    assert "10 images at 8 px" in capsys.readouterr().out
    assert len(list((desk / "o").glob("*-pair.png"))) == 10
    assert (desk / "o" / "reconstructions.png").is_file()


def test_of_a_prepared_set_the_unseen_images_are_reconstructed(data_root, desk, generate, capsys):
    assert generate("reconstruct", data_root / "tiny") == 0
    assert "4 images at 8 px" in capsys.readouterr().out
    assert len(list((desk / "o").glob("tiny-*-pair.png"))) == 4


def test_a_prepared_set_is_found_by_its_name(desk, generate, capsys):
    for words in ("reconstruct", "interpolate", "walk --steps 1", "edit --attribute glasses",
                  "encode"):  # fmt: skip
        assert generate(*words.split(), "tiny", out="name") == 0
        by_name = capsys.readouterr().out
        assert generate(*words.split(), "datasets/tiny", out="path") == 0
        assert by_name.replace("name/", "path/") == capsys.readouterr().out
    assert contents(desk / "name") == contents(desk / "path")
    assert generate("reconstruct", "faces", "--data-root", "elsewhere", out="o") == 2
    assert "no such folder or file: faces" in capsys.readouterr().err


def test_a_name_is_the_set_of_that_name_and_a_path_the_folder(desk, generate, run_pgvae, capsys):
    """For every command alike."""
    (desk / "tiny").mkdir()
    for name in "abcd":
        shutil.copy(desk / f"{name}.png", desk / "tiny")
    taken = "datasets/tiny is taken, not tiny, which may have other images: ./tiny takes them"
    for words in ("reconstruct", "interpolate", "walk --steps 1", "edit --attribute glasses",
                  "encode"):  # fmt: skip
        assert generate(*words.split(), "tiny", out="name") == 0
        said = capsys.readouterr().out.splitlines()
        assert said[:2] == [taken, "4 unseen images of datasets/tiny"]
        assert generate(*words.split(), "./tiny", out="folder") == 0
        assert not {taken, said[1]} & {*capsys.readouterr().out.splitlines()}
    assert {"a-edit.png", "a-pair.png"} <= {*names_in(desk / "folder")}
    assert not {"a-edit.png", "a-pair.png"} & {*names_in(desk / "name")}
    publish = ("publish", "--snapshot", "v.safetensors", "--out", "m", "--dataset", "tiny")
    assert run_pgvae(*publish) == 0
    assert capsys.readouterr().out.startswith(taken)


@pytest.mark.parametrize(
    ("words", "ending"), [("reconstruct", "pair"), ("edit --attribute glasses", "edit")]
)
def test_images_of_one_name_do_not_overwrite_each_other(words, ending, desk, generate):
    paths = ["x/me.png", "y/me.png", "z/me-2.png"]
    for path, source in zip(paths, "abc", strict=True):
        (desk / path).parent.mkdir()
        shutil.copy(desk / f"{source}.png", desk / path)
    assert generate(*words.split(), *paths) == 0
    found = sorted(path.name for path in (desk / "o").glob(f"*-{ending}.png"))
    assert found == [f"me-2-2-{ending}.png", f"me-2-{ending}.png", f"me-{ending}.png"]


def test_between_two_images_there_is_a_strip(desk, generate, capsys):
    assert generate("interpolate", "a.png", "b.png", "--steps", "5") == 0
    assert "between a.png, b.png" in capsys.readouterr().out
    assert pixels(desk / "o" / "interpolation.png").shape == (64, 5 * 64, 3)


def test_between_four_images_there_is_a_grid_with_them_as_corners(desk, generate):
    names = ["a.png", "b.png", "c.png", "d.png"]
    assert generate("interpolate", *names, "--steps", "3") == 0
    assert generate("reconstruct", *names) == 0
    grid = cells(pixels(desk / "o" / "interpolation.png"))
    assert grid.shape[:2] == (3, 3)
    again = np.stack([pixels(desk / "o" / f"{name[0]}-pair.png")[:, 8:] for name in names])
    assert near(grid[::2, ::2].reshape(again.shape), again)


def test_of_a_folder_the_first_four_are_the_corners(pictures, desk, generate, capsys):
    assert generate("interpolate", pictures, "--steps", "2") == 0
    assert capsys.readouterr().out.count("picture-") == 4
    assert pixels(desk / "o" / "interpolation.png").shape == (128, 128, 3)
