"""What the registered ops do with memory: nothing uninitialised is read, and all sums repeat."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tests.ops.cases import OPS as TABLE
from tests.ops.cases import Op, on_each_device, outputs_and_gradients
from tests.ops.inputs import incoming

SHAPES = {False: [(2, 3, 7, 5), (1, 130, 3, 3), (3, 16, 8, 6)], True: [(7, 16), (3, 130)]}
LARGE = {False: (3, 48, 43, 39), True: (300, 500)}  # several tasks for each of two threads
OPS = {name: op for name, op in TABLE.items() if op.kernel and not op.is_for_cpus}


@pytest.fixture
def poison() -> Iterator[None]:
    """New tensors are NaN, 255 where bytes, also those that the C++ kernels ask for.

    Those come from torch's own `empty`, through its stable ABI. That it works was shown by a copy
    of csrc/cpu/bias_act_avg_pool2.cpp whose backward does not clear the odd last row and column:
    they were NaN in the tests below, and whatever the memory had held without this fixture.
    """
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled


def bytes_of(tensors: tuple[Tensor, ...]) -> list[bytes]:
    """In order of index, without what lies between the numbers of a sparse layout."""
    return [
        t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes() for t in tensors
    ]


def run(op: Op, inputs: list[Tensor], kind: str = "like the output") -> list[bytes]:
    outputs, gradients, _ = outputs_and_gradients(op, inputs, kind)
    return bytes_of((*outputs, *gradients))


@on_each_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", OPS)
def test_nothing_depends_on_uninitialised_memory(device, dtype, name, poison) -> None:
    """Values and gradients stay finite, and are equal to the bit, in memory full of NaN."""
    op = OPS[name]
    for layout in op.layouts()[:3]:
        for shape in SHAPES[op.widens]:
            inputs = op.make(shape, dtype, layout, device)
            assert torch.empty(3, device=device).isnan().all()  # the poison works
            outputs, gradients, _ = outputs_and_gradients(op, inputs, "the other format")
            assert all(t.isfinite().all() for t in (*outputs, *gradients)), (shape, layout)
            poisoned = bytes_of((*outputs, *gradients))
            torch.utils.deterministic.fill_uninitialized_memory = False
            assert run(op, inputs, "the other format") == poisoned, (shape, layout)
            torch.utils.deterministic.fill_uninitialized_memory = True


@on_each_device
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_an_odd_last_row_and_column_get_a_gradient_of_zero(device, layout, poison) -> None:
    op = OPS["bias_act_avg_pool2"]
    for shape in ((2, 3, 7, 4), (2, 3, 4, 7), (2, 3, 7, 5)):
        for dtype in (torch.float32, torch.bfloat16):
            x, bias = op.make(shape, dtype, layout, device)
            _, (gx, _), _ = outputs_and_gradients(op, [x, bias], "like the output")
            h, w = shape[2] // 2 * 2, shape[3] // 2 * 2
            assert gx[:, :, h:].eq(0).all()
            assert gx[:, :, :, w:].eq(0).all()
            assert gx[:, :, :h, :w].ne(0).all()


@on_each_device
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", OPS)
def test_two_runs_give_the_same_bytes(device, dtype, name) -> None:
    op = OPS[name]
    for layout in op.layouts()[:2]:
        inputs = op.make(LARGE[op.widens], dtype, layout, device)
        assert run(op, inputs) == run(op, inputs), layout


@pytest.fixture
def one_thread_after() -> Iterator[None]:
    """However a test ends, the next has one thread."""
    yield
    torch.set_num_threads(1)


@pytest.mark.native
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", OPS)
def test_one_and_two_threads_give_the_same_bytes(dtype, name, one_thread_after) -> None:
    """Not so for the gradient of alpha, a sum of torch's."""
    op = OPS[name]
    for layout in op.layouts()[:2]:
        inputs = op.make(LARGE[op.widens], dtype, layout, "cpu")
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert torch.get_num_threads() == threads
            found.append(run(op, inputs)[: 3 if name == "up2_blend" else None])
        assert found[0] == found[1] == found[2], layout


@on_each_device
@pytest.mark.parametrize("name", OPS)
def test_inputs_and_incoming_gradients_are_left_as_they_were(device, name) -> None:
    op = OPS[name]
    for layout in op.layouts():
        inputs = op.make(SHAPES[op.widens][0], torch.float32, layout, device)
        before = bytes_of(tuple(inputs))
        outputs, _, came_in = outputs_and_gradients(op, inputs, "like the output")
        assert bytes_of(tuple(inputs)) == before, layout
        again = [incoming(out.detach(), "like the output", 10 + i) for i, out in enumerate(outputs)]
        assert bytes_of(tuple(came_in)) == bytes_of(tuple(again)), layout
