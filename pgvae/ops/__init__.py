"""Public fused operations, each with `impl="auto" | "native" | "reference"`.

"auto" takes the native op where it is built and the reference otherwise; "native" raises
where it is not built; "reference" is the plain PyTorch truth of `pgvae.ops.reference`.
"""

import functools
from collections.abc import Callable
from typing import Any

from pgvae.ops import reference

_OPS = (
    "bias_act",
    "bias_act_pixel_norm",
    "bias_act_avg_pool2",
    "up2_conv3x3",
    "up2_blend",
    "moment_kl",
    "gaussian_kl_reparam",
)
_WHY_REFERENCE = "this version has no native ops"


def _public(name: str) -> Callable[..., Any]:
    truth = getattr(reference, name)

    @functools.wraps(truth)
    def op(*args: Any, impl: str = "auto", **kwargs: Any) -> Any:
        if impl not in ("auto", "native", "reference"):
            raise ValueError(f"impl is {impl!r}: choose auto, native or reference")
        if impl == "native":
            raise RuntimeError(f"{name} has no native implementation here: {_WHY_REFERENCE}")
        return truth(*args, **kwargs)

    return op


bias_act = _public("bias_act")
bias_act_pixel_norm = _public("bias_act_pixel_norm")
bias_act_avg_pool2 = _public("bias_act_avg_pool2")
up2_conv3x3 = _public("up2_conv3x3")
up2_blend = _public("up2_blend")
moment_kl = _public("moment_kl")
gaussian_kl_reparam = _public("gaussian_kl_reparam")


def status() -> dict[str, str]:
    """What runs for each op, and why: {"bias_act": "reference (this version ...)", ...}."""
    return dict.fromkeys(_OPS, f"reference ({_WHY_REFERENCE})")
