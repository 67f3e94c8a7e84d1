"""Public fused operations, each with `impl="auto" | "native" | "reference"`.

"auto" takes the fastest implementation for its inputs; "native" demands the compiled kernels and
raises RuntimeError, saying why, where they are missing (the two convolutions use them where they
help, and PyTorch's own convolution in narrow layers); "reference" is the plain PyTorch truth of
`pgvae.ops.reference`. `using("reference")` sets what "auto" means for a block of code.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

from torch import Tensor

from pgvae.ops import native, phases, reference, registered, winograd
from pgvae.ops.moments import Moments

Impl = Literal["auto", "native", "reference"]
_preferred: Impl = "auto"


@contextlib.contextmanager
def using(impl: Impl) -> Iterator[None]:
    """Within the block, "auto" means `impl`: to compare whole steps, or to rule kernels out.

    >>> import torch
    >>> with using("reference"):
    ...     bias_act(torch.ones(1, 1, 1, 1), torch.ones(1)).item()
    2.0
    """
    global _preferred
    _check(impl)
    before, _preferred = _preferred, impl
    try:
        yield
    finally:
        _preferred = before


def _check(impl: str) -> None:
    if impl not in get_args(Impl):
        raise ValueError(f"impl is {impl!r}: choose auto, native or reference")


def _public(
    truth: Callable[..., Any],
    compiled: Callable[..., Any],
    plain: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """The op that runs `compiled`, else `plain` (by default `truth`), as `impl` asks."""
    first = next(iter(inspect.signature(truth).parameters))

    @functools.wraps(truth)
    def op(*args: Any, impl: Impl = "auto", **kwargs: Any) -> Any:
        _check(impl)
        impl = _preferred if impl == "auto" else impl
        if impl == "reference":
            return truth(*args, **kwargs)
        x = args[0] if args else kwargs[first]
        problem = native.why_not(x)
        if impl == "native" and problem:
            raise RuntimeError(f"{truth.__name__} has no native kernel here: {problem}")
        if not problem:
            return compiled(*args, **kwargs)
        # A loaded library would refuse the dtype also where only a part of `plain` calls it.
        return (truth if plain is None or native.is_loaded(x) else plain)(*args, **kwargs)

    return op


bias_act = _public(reference.bias_act, registered.bias_act)
bias_act_pixel_norm = _public(reference.bias_act_pixel_norm, registered.bias_act_pixel_norm)
bias_act_avg_pool2 = _public(reference.bias_act_avg_pool2, registered.bias_act_avg_pool2)
conv3x3 = _public(reference.conv3x3, winograd.conv3x3)
up2_conv3x3 = _public(reference.up2_conv3x3, winograd.up2_conv3x3, phases.up2_conv3x3)
up2_blend = _public(reference.up2_blend, registered.up2_blend)
moment_kl = _public(reference.moment_kl, registered.moment_kl)
gaussian_kl_reparam = _public(reference.gaussian_kl_reparam, registered.gaussian_kl_reparam)
_mean_and_m2 = _public(reference.mean_and_m2, registered.mean_and_m2)


def moments(z: Tensor, impl: Impl = "auto") -> Moments:
    """The batch's moments: z [N, d] -> Moments, mergeable over micro-batches and ranks.

    >>> import torch
    >>> moments(torch.tensor([[1.0], [3.0]]))
    Moments(count=2, mean=tensor([2.]), m2=tensor([2.]))
    """
    return Moments(len(z), *_mean_and_m2(z, impl=impl))


def status() -> dict[str, str]:
    """What runs for each op, and why: {"bias_act": "native on CPU; not on CUDA (...)", ...}.

    >>> "CPU" in status()["bias_act"]
    True
    """
    names = (
        "bias_act",
        "bias_act_pixel_norm",
        "bias_act_avg_pool2",
        "up2_conv3x3",
        "up2_blend",
        "moments",
        "moment_kl",
        "gaussian_kl_reparam",
    )
    convolution = f"{native.summary('cpu')}, in wide layers; PyTorch's own on CUDA"
    return dict.fromkeys(names, native.summary()) | {"conv3x3": convolution}
