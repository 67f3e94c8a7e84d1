"""Encoder or generator as one file that runs without pgvae: ONNX, or torch.export's .pt2."""

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from pgvae import ops
from pgvae.choices import ExportFormat, ExportPart
from pgvae.errors import InputError
from pgvae.files import atomic_path, require_utf8
from pgvae.inference import Model

ENDINGS = {"onnx": ".onnx", "torch-export": ".pt2"}
TOLERANCE = 1e-3
_BATCH, _BATCHES = "batch", (1, 2, 5)


class _Encoder(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.net, self.alpha = model.encoder, model.alpha

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images, self.alpha).mean


class _Generator(nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.net, self.alpha = model.generator, model.alpha

    def forward(self, latents: Tensor) -> Tensor:
        return self.net(latents, self.alpha).clamp(-1, 1)


def export(model: Model, part: ExportPart, form: ExportFormat, path: Path) -> float:
    """Write a part of a model on the CPU; -> the largest difference from it that was seen.

    encoder:   "images" [N, C, R, R] in [-1, 1] -> "latents" [N, d], the posterior's mean.
    generator: "latents" [N, d] -> "images" [N, C, R, R], clamped to [-1, 1].

    N is free, an axis called "batch" in ONNX. The file is checked with batches of 1, 2 and 5, ONNX
    in onnxruntime: InputError where its packages are missing, RuntimeError (and no file) where a
    difference is above `TOLERANCE`.
    """
    require_utf8(path)
    if part == "encoder":
        model.require_encoder()
    if form == "onnx":
        _require_packages()
    wrapped = (_Encoder if part == "encoder" else _Generator)(model).eval()
    net = copy.deepcopy(wrapped).to(memory_format=torch.contiguous_format)
    source, result = ("images", "latents") if part == "encoder" else ("latents", "images")
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(max(_BATCHES), model.latent_dim, generator=rng, dtype=torch.float32)
    if model.config.head == "sphere":
        latents = nn.functional.normalize(latents, dim=1)
    example = model.decode(latents) if part == "encoder" else latents
    batch = torch.export.Dim(_BATCH, min=1, max=2**16)
    with ops.using("reference"), torch.no_grad(), _quiet():
        program = torch.export.export(net, (example,), dynamic_shapes={source: {0: batch}})
    with atomic_path(path) as aside:
        if form == "onnx":
            _write_onnx(program, source, result, aside)
        else:
            _write_program(program, aside)
        run = (_in_onnxruntime if form == "onnx" else _in_torch)(aside)
        parts = [example[:n] for n in _BATCHES]
        differences = torch.stack([(wrapped(x) - run(x)).abs().max() for x in parts])
        difference = differences.max().item()  # NaN where any is
        if not difference <= TOLERANCE:
            raise RuntimeError(f"the exported {part} differs from the model by {difference:.3g}")
    return difference


def _require_packages() -> None:
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"onnx needs the package {error.name}: pip install 'pgvae[export]', or take --format "
            "torch-export"
        ) from error


def _write_onnx(
    program: torch.export.ExportedProgram, source: str, result: str, path: Path
) -> None:
    with _quiet():
        names = {"input_names": [source], "output_names": [result]}
        written = torch.onnx.export(program, verbose=False, **names).model_proto
    graph = written.graph
    own = graph.input[0].type.tensor_type.shape.dim[0].dim_param  # torch's name of the free axis
    for value in (*graph.input, *graph.output, *graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param == own:
                axis.dim_param = _BATCH
    path.write_bytes(written.SerializeToString())


def _write_program(program: torch.export.ExportedProgram, path: Path) -> None:
    """By way of memory: where a disk is full or fails, torch's own writer ends the process."""
    written = io.BytesIO()
    with _quiet():
        torch.export.save(program, written)
    with written.getbuffer() as view:
        path.write_bytes(view)


def _in_onnxruntime(path: Path) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    [source] = session.get_inputs()
    return lambda inputs: torch.from_numpy(session.run(None, {source.name: inputs.numpy()})[0])


def _in_torch(path: Path) -> Callable[[Tensor], Tensor]:
    with path.open("rb") as file, _quiet():
        return torch.export.load(file).module()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what the exporter says of packages that it could also have used."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
