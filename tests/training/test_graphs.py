"""Iterations captured and replayed: on a CPU, by a recorder in the place of CUDA's graphs."""

import gc

import pytest
import torch
from fake_graph import FakeCapture, Recorder, Spy, place_of, tensors_in
from runs import CPU, NO_STORE, all_bytes, random_batch, tiny_config
from torch import Tensor

from pgvae.objectives import OBJECTIVES, objective_from
from pgvae.training.graphs import CudaCapture, Graphs, graphs_on
from pgvae.training.state import TrainState
from pgvae.training.step import iterate, prepare, train_step


def changed_by_iterations(state: TrainState) -> list[Tensor]:
    """Every tensor that lives from one iteration to the next."""
    found = [value for net in state.nets.parts().values() for value in net.state_dict().values()]
    found += [
        v for adam in state.optimizers.values() for m in adam.state.values() for v in m.values()
    ]
    found += tensors_in([vars(state.skips), vars(state.pool), vars(state.dials)])
    return found


def state_at(name: str, images_seen: int, **changes) -> TrainState:
    config = tiny_config(NO_STORE, name, **changes)
    state = TrainState.create(config, CPU, 4)
    state.enter(config.schedule.at(images_seen))
    state.images_seen = images_seen
    return state


def go_on(state: TrainState, take, until: int) -> list[dict[str, float]]:
    """Iterations up to so many images; -> their scalars."""
    objective, found = objective_from(state.config.objective), []
    while state.images_seen < until:
        moment = state.config.schedule.at(state.images_seen)
        state.enter(moment)
        scalars = take(state, objective, moment, random_batch(state), "fp32")
        found.append({name: value.item() for name, value in scalars.items()})
    return found


# From 72 images on: the end of a fade at 80, growth at 104.
@pytest.mark.parametrize("name", OBJECTIVES)
def test_replayed_iterations_are_those_of_the_loop_byte_for_byte(name: str) -> None:
    plain, graphed = state_at(name, 72), state_at(name, 72)
    capture = FakeCapture(lambda: changed_by_iterations(graphed))
    said: list[str] = []
    expected = go_on(plain, train_step, 112)
    assert go_on(graphed, Graphs(said.append, capture).step, 112) == expected
    assert all_bytes(graphed) == all_bytes(plain)
    assert graphed.skips.read() == plain.skips.read() == (0, 0)
    assert (capture.captures, said) == (3, [])  # fading, faded in, grown


@pytest.mark.parametrize("name", ["rivae", "introvae", "age", "pggan"])
def test_augmented_iterations_are_captured_too(name: str) -> None:
    plain, graphed = state_at(name, 104), state_at(name, 104)
    capture = FakeCapture(lambda: changed_by_iterations(graphed))
    step = Graphs(print, capture).step
    for p, until in ((0.0, 116), (0.5, 128), (0.8, 136)):
        plain.augment = graphed.augment = p
        assert go_on(graphed, step, until) == go_on(plain, train_step, until)
    assert all_bytes(graphed) == all_bytes(plain)
    assert capture.captures == 2  # as they are, augmented: whatever p


def test_pretraining_and_parts_of_batches_are_captured_too() -> None:
    states = [state_at("pioneer", 0, pretrain_kimg=0.016) for _ in range(2)]
    for state in states:
        state.batch_gpu = 3
    capture = FakeCapture(lambda: changed_by_iterations(states[1]))
    expected = go_on(states[0], train_step, 40)
    assert go_on(states[1], Graphs(print, capture).step, 40) == expected
    assert all_bytes(states[1]) == all_bytes(states[0])
    assert capture.captures == 2


@pytest.mark.parametrize("images_seen", [60, 88], ids=["fading", "faded in"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_iteration_reads_nothing_and_leaves_no_new_memory(name: str, images_seen: int) -> None:
    state = state_at(name, images_seen)
    moment, objective = (
        state.config.schedule.at(images_seen),
        objective_from(state.config.objective),
    )
    batch = random_batch(state)
    train_step(state, objective, moment, batch, "fp32")
    context = prepare(state, objective, moment, batch)
    noise: dict[int, Tensor] = {}
    drawn = context.noise  # before the iteration, where there are graphs

    def fresh(shape) -> Tensor:
        with torch._C._DisableTorchDispatch():
            return noise.setdefault(len(noise), drawn(shape))

    object.__setattr__(context, "noise", fresh)
    before = {place_of(tensor) for tensor in changed_by_iterations(state)}
    with Recorder() as recorder, Spy() as spy:
        scalars = iterate(state, objective, moment, batch, context, "fp32")
    reads = recorder.reads + spy.calls
    assert not reads, reads
    del recorder.done[:], scalars
    gc.collect()
    assert {place_of(tensor) for tensor in changed_by_iterations(state)} == before


def test_the_recorder_sees_reads_and_the_spy_those_that_a_cpu_does_without() -> None:
    values = torch.tensor([0.0, 1.0])
    with Recorder() as recorder, Spy() as spy:
        values[values > 0].sum().item()
        values.cpu()
        torch.tensor(2.0)
        torch.randn(2, generator=torch.Generator())
    assert len(recorder.reads) == 3  # which ones, how many, the draw
    assert spy.calls == ["item", "cpu", "tensor"]


def test_what_cannot_be_captured_goes_on_without_graphs_and_says_so() -> None:
    class Refusing(FakeCapture):
        def capture(self, work):
            work_is_begun = self.captures = self.captures + 1
            raise RuntimeError(f"operation not permitted\nmore, {work_is_begun}")

    plain, graphed, said = state_at("vae", 0), state_at("vae", 0), []
    expected = go_on(plain, train_step, 16)
    capture = Refusing(list)
    assert go_on(graphed, Graphs(said.append, capture).step, 16) == expected
    assert all_bytes(graphed) == all_bytes(plain)
    assert capture.captures == 1
    assert said == [
        "no graphs from here on: an iteration cannot be captured (operation not permitted)"
    ]


@pytest.mark.parametrize(("device", "processes", "why"), [("cpu", 1, "CUDA"), ("cuda", 2, "share")])
def test_there_are_none_on_a_cpu_or_among_several_processes(device, processes, why) -> None:
    said: list[str] = []
    assert graphs_on(torch.device(device), processes, said.append) is None
    assert why in said[0]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", OBJECTIVES)
def test_on_a_gpu_graphs_give_the_bytes_of_the_loop(name: str) -> None:
    device = torch.device("cuda")
    found = []
    for make in (lambda: train_step, lambda: Graphs(pytest.fail, CudaCapture(device)).step):
        state = TrainState.create(tiny_config(NO_STORE, name), device, 4)
        objective, take = objective_from(state.config.objective), make()
        while state.images_seen < 116:
            moment = state.config.schedule.at(state.images_seen)
            state.enter(moment)
            batch = random_batch(state)
            images = batch.images.to(device)
            labels = None if batch.labels is None else batch.labels.to(device)
            scalars = take(state, objective, moment, type(batch)(images, labels), "fp32")
        weights = [
            p.detach().cpu() for net in state.nets.parts().values() for p in net.parameters()
        ]
        found.append((weights, {name: value.item() for name, value in scalars.items()}))
    (weights, scalars), (graphed, graphed_scalars) = found
    assert graphed_scalars == scalars
    assert all(torch.equal(one, other) for one, other in zip(weights, graphed, strict=True))
