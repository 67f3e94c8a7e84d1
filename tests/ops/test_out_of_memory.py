"""What our kernels say where there is no memory for their results."""

import subprocess
import sys

import pytest
import torch

from pgvae.ops import native

# In a process of its own, whose address space has no room for another tensor of 64 MiB.
PROGRAM = """
import resource
import torch
from pgvae import ops
from pgvae.errors import is_out_of_memory

wide = {"memory_format": torch.channels_last}
x = torch.randn(64, 64, 64, 64).contiguous(**wide)
small = x[:, :, ::2, ::2].contiguous(**wide)
z, bias, weight = torch.randn(64, 2**18), torch.zeros(64), torch.randn(64, 64, 3, 3)
calls = {
    "bias_act": lambda: ops.bias_act(x, bias),
    "bias_act_pixel_norm": lambda: ops.bias_act_pixel_norm(x, bias),
    "bias_act_avg_pool2": lambda: ops.bias_act_avg_pool2(x, bias),
    "conv3x3": lambda: ops.conv3x3(x, weight),
    "up2_conv3x3": lambda: ops.up2_conv3x3(x, weight),
    "up2_blend": lambda: ops.up2_blend(small, x, 0.5),
    "gaussian_kl_reparam": lambda: ops.gaussian_kl_reparam(z, z, z),
}
ops.bias_act(x[:1], bias)
used = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + 2**23, used + 2**23))
for name, call in calls.items():
    try:
        call()
    except (RuntimeError, MemoryError) as error:
        assert is_out_of_memory(error), (name, error)
        print(name)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux has them")
def test_it_is_known_that_memory_ran_out():
    if not native.is_loaded(torch.empty(0)):
        pytest.skip("needs the native ops")
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.split()) == 7, found.stdout
