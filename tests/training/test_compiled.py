"""Networks through torch.compile: the same losses, graphs counted, nothing left out in silence."""

import re

import pytest
import torch
from runs import CPU, NO_STORE, all_bytes, random_batch, tiny_config

from pgvae.errors import ResourceError
from pgvae.objectives import OBJECTIVES, objective_from
from pgvae.training.compiled import Compiler
from pgvae.training.state import TrainState
from pgvae.training.step import train_step

# Dynamo does what PyTorch itself says one should not.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning"),
]


def state_at(name: str, images_seen: int) -> TrainState:
    config = tiny_config(NO_STORE, name)
    state = TrainState.create(config, CPU, 4)
    state.enter(config.schedule.at(images_seen))
    state.images_seen = images_seen
    return state


def iteration(state: TrainState, compiler: Compiler | None = None) -> dict[str, float]:
    """One as the loop makes it; -> its scalars."""
    objective = objective_from(state.config.objective)
    moment = state.config.schedule.at(state.images_seen)
    state.enter(moment)
    arguments = (state, objective, moment, random_batch(state), "fp32")
    if compiler is None:
        scalars = train_step(*arguments)
    else:
        with compiler.around(state.nets):
            scalars = train_step(*arguments)
    return {name: value.item() for name, value in scalars.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, kind in OBJECTIVES.items() if not kind.second_order])
def test_losses_are_those_of_eager_networks_and_graphs_are_said(name: str) -> None:
    """At 8 px in mid-fade; traced and differentiated as for Inductor, without its C++."""
    said: list[str] = []
    compiler = Compiler(said.append, backend="aot_eager")
    expected, found = iteration(state_at(name, 60)), iteration(state_at(name, 60), compiler)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert re.fullmatch(r"compiled \d+ graphs at 8 px in \d+ s, the iteration included", said[0])
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_inductor_gives_the_same_losses_with_native_ops_inside_and_the_same_bytes_again() -> None:
    states = [state_at("vae", 0) for _ in range(3)]
    expected, said = [iteration(states[0]) for _ in range(2)], []
    for state in states[1:]:
        compiler = Compiler(said.append)
        found = [iteration(state, compiler) for _ in range(2)]
        for one, other in zip(found, expected, strict=True):
            assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert len(said) == 2  # nothing is compiled in a second iteration
    assert all_bytes(states[1]) == all_bytes(states[2])
    torch._dynamo.reset()


def test_what_cannot_be_compiled_whole_is_an_error_in_words() -> None:
    state = state_at("vae", 0)
    forward = state.nets.encoder.forward

    def with_a_break(images, alpha):
        torch._dynamo.graph_break()
        return forward(images, alpha)

    state.nets.encoder.forward = with_a_break
    with pytest.raises(ResourceError, match="--no-compile") as caught:
        iteration(state, Compiler(print, backend="eager"))
    assert "\n" not in str(caught.value)
    torch._dynamo.reset()


def test_a_new_stage_starts_from_nothing_and_a_stage_compiles_once() -> None:
    state, said = state_at("vae", 72), []
    compiler = Compiler(said.append, backend="eager")
    for _ in range(4):  # the fade ends at 80
        iteration(state, compiler)
    assert len(said) == 2
    assert all(line.startswith("compiled 2 graphs at 8 px") for line in said)
    torch._dynamo.reset()
