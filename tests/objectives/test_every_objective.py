"""What holds for every objective: who learns in which phase, what decides the numbers."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from world import World, an, phases_of, small_world

from pgvae.objectives import OBJECTIVES
from pgvae.objectives.terms import as_distance

NAMES = sorted(OBJECTIVES)
WITH_A_DISCRIMINATOR = ("ali", "pggan")  # no KL and no code of an image decides what they learn
GAME_OF_AGE = ("age", "pioneer", "balanced_pioneer")


PHASES = [(name, phase) for name in NAMES for phase in phases_of(name)]
IDS = [f"{name}-{phase.name}" for name, phase in PHASES]
every_phase = pytest.mark.parametrize(("name", "phase"), PHASES, ids=IDS)


def numbers(losses: dict[str, Tensor]) -> dict[str, float]:
    return {key: loss.item() for key, loss in losses.items()}


# --- the numbers of a phase


@every_phase
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_a_phase_reaches_every_parameter_that_it_trains_and_no_other(name, phase, alpha) -> None:
    objective = an(name)
    w = small_world(objective, alpha=alpha)
    nets = w.nets.trained()
    for part, net in nets.items():
        net.requires_grad_(part in phase.trains)
    w.total(objective, phase.name, progress=0.1).backward()
    assert w.alphas == {part: {alpha} for part in nets}
    for part, net in nets.items():
        for key, parameter in net.named_parameters():
            if part in phase.trains:
                assert parameter.grad is not None, key
                assert parameter.grad.abs().sum() > 0, key
            else:
                assert parameter.grad is None, key


@every_phase
def test_the_running_average_takes_no_part(name, phase) -> None:
    objective = an(name)
    w = small_world(objective)
    with_average = numbers(w.losses(objective, phase.name))
    for parameter in w.nets.ema.parameters():
        parameter.data.fill_(math.nan)
    assert numbers(w.losses(objective, phase.name)) == with_average


@every_phase
def test_the_contexts_noise_decides_the_numbers(name, phase) -> None:
    objective = an(name)
    w = small_world(objective)
    before = torch.random.get_rng_state()
    first, again, other = (
        numbers({**w.losses(objective, phase.name, seed=seed), **w.reported}) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == again
    autoencoder = name == "ae" or (name in GAME_OF_AGE and phase.name == "pretrain")
    assert (first == other) == autoencoder


@every_phase
def test_only_as_introvae_follows_the_progress_of_the_run(name, phase) -> None:
    objective = an(name)
    w = small_world(objective)
    start, end = (numbers(w.losses(objective, phase.name, progress=p)) for p in (0.0, 1.0))
    assert (start != end) == (name == "as_introvae" and phase.name != "pretrain")


@every_phase
def test_only_objectives_with_a_pool_swap_fakes_and_only_for_the_encoder(name, phase) -> None:
    objective = an(name)
    w = small_world(objective)
    w.losses(objective, phase.name)
    assert objective.pool == (name in ("pioneer", "balanced_pioneer"))
    assert len(w.replayed) == (name in GAME_OF_AGE and phase.name == "encoder")


@every_phase
def test_the_batch_and_the_networks_are_left_as_they_were(name, phase) -> None:
    objective = an(name)
    w = small_world(objective)
    images, labels = w.batch.images.clone(), w.batch.labels.clone()
    nets = [*w.nets.trained().values()]
    states = [{k: v.clone() for k, v in net.state_dict().items()} for net in nets]
    w.losses(objective, phase.name)
    assert torch.equal(w.batch.images, images)
    assert torch.equal(w.batch.labels, labels)
    for net, state in zip(nets, states, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
        assert all(p.requires_grad and p.grad is None for p in net.parameters())


@every_phase
def test_losses_and_reports_are_finite_scalars_of_full_precision(name, phase) -> None:
    objective = an(name)
    w = small_world(objective)
    losses = w.losses(objective, phase.name, progress=0.1)
    for key, value in {**losses, **w.reported}.items():
        assert value.shape == (), key
        assert value.dtype == torch.float32 or (key == "c" and value.dtype == torch.float64), key
        assert math.isfinite(value.item()), key
    assert sum(losses.values()).requires_grad
    assert not any(value.requires_grad for value in w.reported.values())


@every_phase
def test_a_batch_of_2_in_bfloat16_has_finite_losses_and_gradients(name, phase) -> None:
    objective = an(name)
    w = small_world(objective, count=2, resolution=16)
    with torch.autocast("cpu", torch.bfloat16):
        losses = w.losses(objective, phase.name, progress=0.1)
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    for net in phase.trains:
        gradients = [p.grad for p in getattr(w.nets, net).parameters() if p.grad is not None]
        assert gradients
        assert all(gradient.isfinite().all() for gradient in gradients)


@every_phase
def test_bfloat16_changes_the_losses_by_little(name, phase) -> None:
    objective = an(name)
    w = small_world(objective, resolution=16)
    exact = w.losses(objective, phase.name, progress=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = w.losses(objective, phase.name, progress=0.1)
    scale = sum(abs(loss.item()) for loss in exact.values())
    for key, loss in exact.items():
        assert rounded[key].item() == pytest.approx(loss.item(), rel=0.05, abs=0.02 * scale), key


@every_phase
def test_a_batch_of_one_is_finite_or_refused(name, phase) -> None:
    objective = an(name)
    w = small_world(objective, count=1)
    if objective.min_batch == 1 or (phase.name == "pretrain" and name not in GAME_OF_AGE):
        losses = w.losses(objective, phase.name)
        assert all(loss.isfinite() for loss in losses.values())
    else:
        with pytest.raises(ValueError, match=r"2|two"):
            w.losses(objective, phase.name)


@pytest.mark.parametrize("name", NAMES)
def test_only_classifiers_need_labels(name) -> None:
    objective = an(name)
    assert objective.needs_labels == (name in ("vac", "introvac"))
    assert ("classes" in objective.model_settings(2)) == objective.needs_labels
    if not objective.needs_labels:
        w = small_world(objective)
        for phase in phases_of(name):
            labelled = numbers(w.losses(objective, phase.name))
            w.batch = dataclasses.replace(w.batch, labels=None)
            assert numbers(w.losses(objective, phase.name)) == labelled


# --- what a step moves, and what a report is of

# A step down each term moves the KL of some images up or down; "fake" the logit that says fake.
MOVES = {
    "both": {"kl": ("real", -1)},
    "pretrain": {"kl": ("real", -1)},
    "encoder": {
        "kl": ("real", -1),
        "kl_real": ("real", -1),
        "kl_fake": ("fake", 1),
        "hinge_rec": ("rec", 1),
        "hinge_fake": ("fake", 1),
        "kl_hinge": ("fake", 1),
        "exp_rec": ("rec", 1),
        "exp_fake": ("fake", 1),
        "fake": ("fake", 1),
    },
    "generator": {"kl_rec": ("rec", -1), "kl_fake": ("fake", -1), "fake": ("fake", -1)},
}


def images_of(w: World, kind: str) -> Callable[[], Tensor]:
    """Real images, or those of the last call's latents, as the generator now makes them."""
    x = w.batch.images
    if kind == "real":
        return lambda: x
    latents = w.prior() if kind == "fake" else w.latents_of(x).detach()
    return lambda: w.decode(latents)


def says_fake(w: World, images: Tensor) -> Tensor:
    return w.nets.encoder.classify(w.encode(images).mean)[:, -1]


def watched(w: World, term: str, images: Tensor) -> float:
    if term == "fake":
        return says_fake(w, images).mean().item()
    return (w.kl(images) - (w.kl(w.batch.images) if term == "kl_hinge" else 0)).item()


# All but the autoencoder's.
OF_CODES = [(name, phase) for name, phase in PHASES if name not in ("ae", *WITH_A_DISCRIMINATOR)]


@pytest.mark.parametrize(("name", "phase"), OF_CODES, ids=lambda of: getattr(of, "name", of))
def test_a_step_moves_the_kl_of_its_images_the_right_way(world, name, phase) -> None:
    o = OBJECTIVES[name](**({"margin": 1e3} if name == "balanced_pioneer" else {}))
    moves = MOVES[phase.name]
    terms = moves.keys() & world(o).losses(o, phase.name).keys()
    assert terms
    for term in terms:
        w = world(o)
        kind, sign = moves[term]
        loss = w.losses(o, phase.name, progress=1.0)[term]
        images = images_of(w, kind)
        before = watched(w, term, images())
        w.step("generator" if phase.name == "generator" else "encoder", loss)
        assert sign * (watched(w, term, images()) - before) > 0, term


@pytest.mark.parametrize(("phase", "sign"), [("encoder", 1), ("generator", -1)])
def test_the_encoder_parts_the_posteriors_and_the_generator_joins_them(world, phase, sign) -> None:
    o = OBJECTIVES["as_introvae"](beta_rec=0.0, beta_kl=0.0)
    w = world(o, count=16)
    loss = w.total(o, phase)
    x, fakes = w.batch.images, images_of(w, "fake")
    before = as_distance(*w.encode(x), *w.encode(fakes())).item()
    w.step(phase, loss)
    assert sign * (as_distance(*w.encode(x), *w.encode(fakes())).item() - before) > 0


# Of images, those of the prior, and reconstructions. The files of the objectives check the others.
REPORTS = {
    "l1": lambda w, x, x_f, x_r: (x - x_r).abs().sum() / x.numel(),
    "kl_real": lambda w, x, x_f, x_r: w.kl(x),
    "kl_rec": lambda w, x, x_f, x_r: w.kl(x_r),
    "kl_fake": lambda w, x, x_f, x_r: w.kl(x_f),
    "kl_gap": lambda w, x, x_f, x_r: w.kl(x_f) - w.kl(x),
    "as_distance": lambda w, x, x_f, x_r: as_distance(*w.encode(x), *w.encode(x_f)),
    "cosine_distance": lambda w, x, x_f, x_r: 1 - (w.prior() * w.encode(x_f).mean).sum(1).mean(),
    "fakes_found": lambda w, x, x_f, x_r: (says_fake(w, torch.cat([x_r, x_f])) > 0).double().mean(),
}


@pytest.mark.parametrize(
    ("name", "phase"),
    [(name, phase) for name, phase in PHASES if name not in WITH_A_DISCRIMINATOR],
    ids=lambda of: getattr(of, "name", of),
)
def test_reports_are_of_the_images_that_they_name(world, name, phase) -> None:
    o = an(name)
    w = world(o)
    w.losses(o, phase.name)
    x, reported = w.batch.images, w.reported
    x_f = w.decode(w.prior()) if phase.name in ("encoder", "generator") else None
    drawn = o.model_settings(2)["head"] == "gaussian" and name != "ae"
    x_r = w.decode(w.latents_of(x) if drawn else w.encode(x).mean)
    assert reported.keys() <= REPORTS.keys() | {"accuracy", "c", "saturated", "realism_gap"}
    assert "l1" in reported or phase.name == "generator"
    assert "kl_gap" in reported or phase.name != "encoder" or name == "introvac"
    for key in reported.keys() & REPORTS.keys():
        expected = REPORTS[key](w, x, x_f, x_r)
        torch.testing.assert_close(reported[key], expected, check_dtype=False, msg=key)
