"""What some settings may be: the commands show it, and PyTorch need not be imported for that."""

from typing import Literal

Animation = Literal["gif", "png", "mp4"]
CelebaHqSplit = Literal["pioneer", "introvae"]  # by whose protocol images are held out
Codec = Literal["webp", "png", "jpeg", "raw"]  # of stored images above 128 px
Crop = Literal["center", "celeba", "pad"]
ExportFormat = Literal["onnx", "torch-export"]
ExportPart = Literal["encoder", "generator"]
Fit = Literal["probe", "difference"]  # how the directions of attributes are estimated
Likeness = Literal["l1", "ssim", "features"]  # by what images are each other's neighbours
Prior = Literal["fitted", "training"]  # what latents are drawn from
PriorKind = Literal["gaussian", "mixture"]  # what is fitted to them
TrackerKind = Literal["tensorboard", "wandb", "mlflow", "none"]  # what shows a run while it goes
Sampling = Literal["langevin", "rejection"]  # how latents with given attributes are drawn
PROJECTION_STEPS = 200  # that find the latent of an image without an encoder
LANGEVIN_STEPS, LANGEVIN_STEP_SIZE = 5000, 2e-4  # of a chain to latents with given attributes
MOST_AT_ONCE = 10_000_000  # images or latents: more are a slip
MOST_SEED = 2**63 - 1  # PyTorch takes it and its complement
