"""What a device cannot do is skipped, with the device's own words."""

from collections.abc import Generator

import pytest

from tests.ops.cases import OPS


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Of an op whose kernel is for CPUs there is nothing to see elsewhere."""
    of = item.callspec.params if hasattr(item, "callspec") else {}
    if of.get("device") == "cuda" and of.get("name") in OPS and OPS[of["name"]].is_for_cpus:
        pytest.skip("a kernel for CPUs")


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
