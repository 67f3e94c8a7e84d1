"""Fixtures of the tests of objectives."""

import pytest
import torch
from world import smooth_world


@pytest.fixture
def world():
    """Build a smooth `World`, with float64 the default: world(objective, count=5, ...)."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield smooth_world
    torch.set_default_dtype(before)
