"""What the commands that use a snapshot refuse: in one line, with the right code, nothing touched.

`pgvae train`, `data` and `convert` have tables of their own.
"""

import errno
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from generated import GLASSES, RIGHT
from PIL import Image

# Each line of a block continues the command above it: arguments | words of the message | ...
REFUSED = {
    "": """
        paint | no command 'paint'
        generat samples | no command 'generat': did you mean 'generate'?
        samples | no command 'samples': did you mean 'generate samples'?
        runs/0 samples | no command 'runs/0': write a path after a command: train, generate
        --seed 3 train | pgvae has no option --seed: it belongs after train, generate, evaluate
        data prepare pics/a.png pics/b.png | RECIPE|PATH takes one path: pics/b.png is another
        report runs/0 runs/1 | RUN takes one path: runs/1 is another; name one run
        export --part encoder | Missing option '--snapshot'
        """,
    "generate": """
        | give --snapshot PATH: a .safetensors snapshot or a run directory
        samples | give --snapshot PATH
        --snapshot | --snapshot
        v.safetensors samples | no command 'v.safetensors': write a path after --snapshot, or after
        --snapshot runs/0 runs/1 samples | --snapshot takes one path: runs/1 is another; name one
        samples --snapshot runs/0 runs/1 runs/2 | --snapshot takes one path: runs/1 is another
        reconstruct --snapshot v.safetensors runs | runs is a run, not images | --snapshot takes one
        --count 3 samples | generate has no option --count: it belongs after samples, reconstruct
        """,
    "generate --snapshot v.safetensors": """
        paint | no command 'paint'
        sample | no command 'sample': did you mean 'samples'?
        --bogus | generate has no option --bogus: see --help
        --seeds 3 samples | generate has no option --seeds: it belongs after samples
        --seed -1 | --seed | -1
        --seed 9223372036854775808 samples | --seed | is not in the range
        --device foo | foo
        samples --sed 3 | samples has no option --sed: did you mean --seed?
        samples --seeds x | 'x' is no seed and no range
        samples --seeds 1,,2 | '' is no seed and no range
        samples --seeds 1.5 | '1.5' is no seed
        samples --seeds -3 | '-3' is no seed
        samples --seeds 9-3 | '9-3': give the lower seed first
        samples --seeds 9223372036854775808 | a seed is 9223372036854775807 at most
        samples --count 99999999999999999999 | --count | is too many: use 10000000 at most
        samples --seeds 0-100000 | '0-100000': | 100,000 seeds at most
        samples --seeds 3 --count 2 | --count and --seeds: give one of them
        samples --seeds 3 --seed 4 | --seed and --seeds: give one of them
        --seed 0 samples --seeds 3 | --seed and --seeds: give one of them
        conditional --with glasses=1 --method rejection --steps 3 | --steps 3 is of --method
        conditional --with glasses=1 --method rejection --step-size 0.1 | --step-size 0.1 is of
        samples --out walk.gif | --out walk.gif is the name of a file: --out takes a folder, such as
        samples --out a.png | cannot write to a.png: a.png is a file; use another --out
        samples --out a.png/deep/er | cannot write to a.png/deep/er: a.png is a file; use another
        reconstruct tinny | no such folder or file: tinny, nor a set in datasets (did you mean 'tiny
        encode a.png --name a.csv | a.csv: a file of latents ends in .npz or .npy; name another
        encode a.png --name o/a.npz | --name o/a.npz: give a name; --out says the folder
        encode | PATHS
        decode | FILE
        decode no.npz | no such file of latents: no.npz
        decode a.png | a.png: a file of latents ends in .npz or .npy
        samples --steps 3 | samples has no option --steps: it belongs after reconstruct
        samples nine | samples takes no 'nine': leave it out
        samples --count 0 | --count | 0
        samples --count -1 | --count | -1
        samples --count x | --count | x
        samples --snapshot no.safetensors | no such snapshot: no.safetensors
        reconstruct | PATHS
        reconstruct empty | holds no images
        reconstruct nowhere | no such folder or file: nowhere
        reconstruct a.png --count 0 | --count | 0
        reconstruct a.png blank.png | blank.png
        reconstruct a.png text.png | text.png
        reconstruct a.png broken.png | broken.png
        reconstruct half.png | half.png
        interpolate | PATHS
        interpolate empty | holds no images
        interpolate nowhere | no such folder or file: nowhere
        interpolate a.png b.png --steps 1 | --steps | 1
        interpolate a.png blank.png | blank.png
        interpolate a.png text.png | text.png
        interpolate a.png broken.png | broken.png
        interpolate a.png | 2 or 4 images: got 1
        interpolate a.png b.png c.png | 2 or 4 images: got 3
        """,
    "generate --snapshot v.safetensors edit": """
        a.png | Missing option '--attribute'
        --attribute glasses | PATHS
        a.png --attribute glases | no attribute 'glases' | did you mean 'glasses'?
        a.png --attribute zzz | no attribute 'zzz' | known: glasses, hat
        a.png --attribute glasses --attribute zzz | no attribute 'zzz'
        no.png --attribute glasses | no such folder or file: no.png
        s.safetensors --attribute glasses | s.safetensors
        """,
    "generate --snapshot v.safetensors edit a.png --attribute glasses": """
        --delta 1 --delta 2 | --delta is given 2 times for 1 attributes | one for each
        --attribute hat --attribute glasses --delta 1 --delta 2 | --delta is given 2 times for 3
        --delta x | --delta | 'x'
        --delta nan | --delta nan: use numbers from -1000 to 1000
        --delta inf | --delta inf: use numbers from -1000
        --delta 1e39 --remove | --delta 1e+39: use
        --attribute hat --delta 1 --delta nan | --delta 1.0, nan: use numbers
        --to 0.9 --delta 3 | --to and --delta: give one of them
        --to 1.0 | --to | 1.0 is not in the range 0.5<x<1
        --to 0.5 | --to | 0.5 is not in the range 0.5<x<1
        --to 0.4 | --to | 0.4 is not in the range
        --to nan | nan
        --strip 1 | --strip | 1 is not in the range
        --count 0 | --count | 0 is not in the range
        """,
    "generate --snapshot v.safetensors conditional": """
        | Missing option '--with'
        --with glasses | --with | 'glasses' is not NAME=1 or NAME=0
        --with glasses=2 | 'glasses=2' is not NAME=1 or NAME=0
        --with glasses= | 'glasses=' is not
        --with =1 | '=1' is not
        --with glasses=1, | '' is not NAME=1
        --with glasses=1,hat | 'hat' is not
        --with glasses=1,glasses=0 | --with | 'glasses' stands twice
        --with glasses=1,hat=0,glasses=1 | 'glasses' stands twice
        --with glasses=1,hatt=0 | no attribute 'hatt' | did you mean 'hat'?
        --with glasses=1 --count 0 | --count | 0 is not in the range
        --with glasses=1 --method gibbs | --method | 'gibbs' | langevin | rejection
        --with glasses=1 --steps 0 | --steps | 0 is not in the range
        --with glasses=1 --step-size 0 | --step-size | '0' is not a positive
        --with glasses=1 --step-size nan | 'nan' is not a positive, finite number
        --with glasses=1 --sure 0 | --sure | 0.0 is not in the range 0<x<1
        --with glasses=1 --sure 1 | --sure | 1.0 is not in the range
        """,
    "generate --snapshot v.safetensors walk": """
        a.png | walk needs 2 or more images: got a.png
        no.png | no such folder or file: no.png
        --count 1 | --count | 1 is not in the range
        --steps 0 | --steps | 0 is not in the range
        --fps 0 | --fps | 0 is not in the range 1<=x<=100
        --fps -1 | --fps | -1 is not in the range
        --fps 101 | --fps | 101 is not in the range
        --fps 200 | --fps | 200 is not in the range
        --fps nan | --fps | 'nan' is not a valid integer
        --fps 0.00001 | --fps | '0.00001' is not a valid integer
        --fps 12.5 | --fps | '12.5' is not a valid integer
        --format avi | --format | 'avi' | gif | png | mp4
        """,
    "generate --snapshot v.safetensors neighbours": """
        | Missing option '--dataset'
        --dataset tinny | no data set 'tinny' | did you mean 'tiny'?
        --dataset tiny --count 0 | --count | 0 is not in the range
        --dataset tiny --nearest 0 | --nearest | 0 is not in the range
        --dataset tiny --nearest 21 | --nearest 21: tiny has 20 training images | ask for fewer
        --dataset tiny --by l2 | --by | 'l2' | l1 | ssim | features
        --dataset tiny --by features --inception-weights no.pth | no.pth | no such file | pt_incep
        """,
    "evaluate --snapshot s.safetensors --dataset tiny": """
        --metrics psnrr | unknown metric 'psnrr' | did you mean 'psnr'?
        --metrics , | --metrics | ','
        --metrics psnr,swd | swd needs 16 px or more: these images have 8
        --split test | --split | 'test' | val | train
        --count 1 | --count | 1 is not in the range x>=2
        --count 0 | --count | 0 is not in the range
        --seed -1 | --seed | -1 is not in the range
        --dataset tinny | no data set 'tinny' | did you mean 'tiny'?
        --device foo | unknown device 'foo'
        --metrics fid --inception-weights no.pth | no.pth | no such file | pt_inception-2015-12-05
        --metrics fid --inception-weights a.png | a.png: SHA-256 is
        --json no/e.json | no such folder: no; make it, or give another file
        --json a.png/e.json | no such folder: a.png
        --json . | . is a folder: give a file
        """,
    "directions --snapshot s.safetensors --dataset faces": """
        | label 'always' does not say both yes and no
        --attribute glases | faces has no label 'glases' | did you mean 'glasses'?
        --attribute glasses --attribute glasses | glasses, glasses | one stands twice
        --attribute glasses --count 1 | --count | 1 is not in the range x>=2
        --attribute glasses --method svm | --method | 'svm' | probe | difference
        --attribute glasses --label-thresholds 0.5 | --label-thresholds | 2 values
        --attribute glasses --label-thresholds a,b | --label-thresholds | 'a'
        --attribute glasses --label-thresholds 0.9,0.1 | lower one first
        --attribute glasses --label-thresholds nan,nan | lower one first
        --attribute glasses --label-thresholds -1,2 | 'glasses' does not say both
        --attribute glasses --device foo | unknown device 'foo'
        --dataset tiny | tiny has no labels: prepare it with --labels
        --dataset tinny | did you mean 'tiny'?
        """,
    "export --snapshot s.safetensors": """
        | Missing option '--part'
        --part decoder | --part | 'decoder' | encoder | generator
        --part encoder --format pickle | --format | 'pickle' | onnx | torch-export
        --part encoder --out e.pt2 | e.pt2: a file of format onnx ends in .onnx
        --part encoder --out e | e: a file of format onnx ends in .onnx
        --part encoder --format torch-export --out e.onnx | e.onnx: | torch-export ends in .pt2
        --part encoder --out no/e.onnx | no such folder: no
        --part encoder --out a.png/e.onnx | no such folder: a.png
        --part encoder --out mine.onnx | mine.onnx is there already: give another file, or --force
        --part encoder --out empty.onnx | empty.onnx is a folder: give a file
        --part encoder --out empty.onnx --force | empty.onnx is a folder: give a file
        --part generator | generator.onnx is there already: give another file, or --force
        --part generator --format torch-export | generator.pt2 is there already: give another file
        """,
    # What is asked for is looked at before the model is read.
    "generate --snapshot no.safetensors": """
        edit a.png --attribute glasses --delta nan | --delta nan: use numbers
        walk --steps 0 | --steps | 0 is not in the range
        """,
    # Where to write is looked at before what to read.
    "export --snapshot no.safetensors": """
        --part encoder --out no/e.onnx | no such folder: no;
        --part generator | generator.onnx is there already
        """,
    "evaluate --snapshot no.safetensors --dataset more": """
        --json no/e.json | no such folder: no
        --json empty.onnx | empty.onnx is a folder
        """,
}


CASES = [
    f"{start} {line.strip()}"
    for start, block in REFUSED.items()
    for line in block.strip("\n ").split("\n")
]


@pytest.fixture
def faulty(desk, pictures) -> None:
    """What no command can use, and files that none may replace."""
    (desk / "blank.png").write_bytes(b"")
    (desk / "text.png").write_bytes(b"no image at all")
    (desk / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (desk / "half.png").write_bytes((desk / "a.png").read_bytes()[:200])
    for name in ("mine.onnx", "generator.onnx", "generator.pt2"):
        (desk / name).write_bytes(b"mine")
    for name in ("empty", "empty.onnx", "runs"):
        (desk / name).mkdir()
    shutil.copy(desk / "s.safetensors", desk / "runs" / "snapshot-000000001.safetensors")
    shutil.copy(desk / "a.png", desk / "runs")
    (desk / "more").symlink_to(pictures)


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_done_is_refused(case, rejected, faulty):
    line, *words = case.split(" | ")
    message = rejected(*line.split())
    for word in words:
        assert word in message


# What several commands share

USERS = (
    "generate samples",
    "evaluate --dataset tiny",
    "directions --dataset faces",
    "export --part encoder",
)


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize("user", USERS)
def test_a_snapshot_that_cannot_be_read_is_refused_and_never_executed(user, rejected, desk):
    (desk / "model.pkl").write_bytes(pickle.dumps(Trap()))
    torch.save(Trap(), desk / "model.pt")
    (desk / "empty").mkdir()
    (desk / "short.safetensors").write_bytes((desk / "s.safetensors").read_bytes()[:-100])
    for name, words, code in (
        ("no.safetensors", "no such snapshot: no.safetensors", 2),
        ("model.pkl", "is a pickle", 2),
        ("model.pt", "is a pickle", 2),
        ("empty", "no snapshot-*.safetensors in empty", 2),
        ("short.safetensors", "truncated", 3),
    ):
        assert words in rejected(*user.split(), "--snapshot", name, code=code)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"channels": 1}, "tiny has no 1-channel images at 8 px: it has 4, 8 px, 3 channels"),
        ({"resolution": 16}, "tiny has no 3-channel images at 16 px: it has 4, 8 px, 3 channels"),
    ],
)
@pytest.mark.parametrize(
    "user",
    ["generate neighbours --dataset", "generate reconstruct", "evaluate --dataset",
     "directions --dataset"],
)  # fmt: skip
def test_a_set_of_other_images_is_refused(user, settings, words, rejected, desk, sketch, small):
    sketch(desk / "other.safetensors", **settings)
    assert words in rejected(*user.split(), small, "--snapshot", "other.safetensors")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("user", USERS[:3])
def test_a_cuda_device_that_is_not_here_is_refused(user, rejected):
    words = (*user.split(), "--snapshot", "s.safetensors", "--device", "cuda")
    assert "device cuda is not here" in rejected(*words)


@pytest.mark.parametrize("objective", ["vae", "age"])
def test_a_model_that_knows_no_attributes_says_how_to_find_them(objective, rejected, desk, sketch):
    head = "gaussian" if objective == "vae" else "sphere"
    sketch(desk / "plain.safetensors", objective=objective, head=head)
    for words in (("edit", "a.png", *GLASSES), RIGHT):
        message = rejected("generate", *words, "--snapshot", "plain.safetensors")
        assert f"objective {objective} knows no attributes" in message
        assert "`pgvae directions --snapshot plain.safetensors --dataset NAME`" in message


WRITERS = {
    "samples --count 2": "samples.png",
    "reconstruct b.png": "b-pair.png",
    "interpolate b.png c.png --steps 2": "interpolation.png",
    "edit b.png --attribute glasses": "edits.png",
    "conditional --with glasses=1 --method rejection --sure 0.1 --count 2": "conditional.png",
    "walk b.png c.png --steps 1": "walk.gif",
    "walk b.png c.png --steps 1 --format mp4": "walk.mp4",
    "neighbours --dataset tiny": "neighbours-l1.png",
}


@pytest.mark.parametrize("line", WRITERS)
def test_pictures_that_cannot_be_written_are_refused(line, rejected, generate, desk, capsys):
    if "mp4" in line:
        pytest.importorskip("imageio_ffmpeg")
    words = ("generate", "--snapshot", "v.safetensors", *line.split(), "--out")
    for out in ("a.png", "a.png/out"):
        assert f"cannot write to {out}: " in rejected(*words, out)
    (desk / "o" / WRITERS[line]).mkdir(parents=True)
    capsys.readouterr()
    assert generate(*line.split()) == 2
    [message] = capsys.readouterr().err.splitlines()
    assert message == f"error: cannot write to o/{WRITERS[line]}: Is a directory; use another --out"


def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("line", WRITERS)
def test_a_full_disk_is_named_with_the_picture(line, generate, desk, capsys, monkeypatch):
    save = Image.Image.save

    def save_or_fail(picture: Image.Image, path: Path, *about: object, **more: object) -> None:
        full() if WRITERS[line] in str(path) else save(picture, path, *about, **more)

    monkeypatch.setattr(Image.Image, "save", save_or_fail)
    if "mp4" in line:  # by another library
        pytest.importorskip("imageio_ffmpeg")
        monkeypatch.setattr("shutil.copyfile", lambda _, path: path.write_bytes(b"") or full())
    assert generate(*line.split()) == 4
    [message] = capsys.readouterr().err.splitlines()
    assert message.startswith(f"error: disk full while writing o/{WRITERS[line]}: ")
