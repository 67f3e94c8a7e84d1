"""Public fused operations, each with `impl="auto" | "native" | "reference"`.

"auto" takes the fastest implementation for its inputs; "native" raises where it is not built;
"reference" is the plain PyTorch truth of `pgvae.ops.reference`.
"""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor

from pgvae.ops import reference, winograd


def _fast_conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    use = winograd if winograd.pays_off(x, weight) else reference
    return use.conv3x3(x, weight)


_OPS = (
    "conv3x3",
    "bias_act",
    "bias_act_pixel_norm",
    "bias_act_avg_pool2",
    "up2_conv3x3",
    "up2_blend",
    "moment_kl",
    "gaussian_kl_reparam",
)
_FAST = {"conv3x3": _fast_conv3x3}
_WHY_REFERENCE = "this version has no native ops"


def _public(name: str) -> Callable[..., Any]:
    truth = getattr(reference, name)
    fast = _FAST.get(name, truth)

    @functools.wraps(truth)
    def op(*args: Any, impl: str = "auto", **kwargs: Any) -> Any:
        if impl not in ("auto", "native", "reference"):
            raise ValueError(f"impl is {impl!r}: choose auto, native or reference")
        if impl == "native":
            raise RuntimeError(f"{name} has no native implementation here: {_WHY_REFERENCE}")
        return (fast if impl == "auto" else truth)(*args, **kwargs)

    return op


conv3x3 = _public("conv3x3")
bias_act = _public("bias_act")
bias_act_pixel_norm = _public("bias_act_pixel_norm")
bias_act_avg_pool2 = _public("bias_act_avg_pool2")
up2_conv3x3 = _public("up2_conv3x3")
up2_blend = _public("up2_blend")
moment_kl = _public("moment_kl")
gaussian_kl_reparam = _public("gaussian_kl_reparam")


def status() -> dict[str, str]:
    """What runs for each op, and why: {"bias_act": "reference (this version ...)", ...}."""
    plain = dict.fromkeys(_OPS, f"reference ({_WHY_REFERENCE})")
    return plain | {"conv3x3": f"reference, Winograd for wide layers on a CPU ({_WHY_REFERENCE})"}
