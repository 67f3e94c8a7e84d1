"""What a device cannot do is skipped, with the device's own words."""

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """CUDA has no float64 kernels, so gradcheck and the like run on the CPU alone."""
    try:
        return (yield)
    except RuntimeError as error:
        device = getattr(item, "callspec", None) and item.callspec.params.get("device")
        words = ("float32 or bfloat16 is needed", "no cuda kernel for torch.float64")
        if device == "cuda" and any(phrase in str(error) for phrase in words):
            pytest.skip("there are no CUDA kernels for float64")
        raise
