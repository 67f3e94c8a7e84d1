"""Images as the page shows and saves them."""

import base64
import io

import numpy as np
import torch
from PIL import Image

from pgvae.explore import shown


def image(seed: int = 0, side: int = 8, channels: int = 3) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 256, (1, channels, side, side)).astype(np.float32)
    return torch.from_numpy(levels) / 127.5 - 1


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as file:
        return np.asarray(file)


def test_an_address_holds_every_pixel():
    for channels in (3, 1):
        x = image(channels=channels)
        [address] = shown.addresses(x)
        start, _, data = address.partition(",")
        found = pixels(base64.b64decode(data)).reshape(8, 8, channels)
        assert start == "data:image/png;base64"
        levels = ((x[0] + 1) * 127.5).round().permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, levels)


def test_errors_are_white_at_none_and_darker_and_darker_up_to_64_levels():
    levels = torch.arange(0, 81, 8) / 127.5
    other = levels.view(1, 1, 1, -1).expand(1, 3, 1, -1)
    luma = shown.error_map(torch.zeros_like(other), other)[0, 0].astype(float).sum(axis=1)
    assert luma[0] == 252 + 252 + 250
    assert (np.diff(luma[:9]) < 0).all()
    assert luma[8] == luma[9] == luma[10] == 80


def test_an_error_is_the_mean_over_channels():
    a, b = torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1)
    a[:, 0] = 0.6
    b[:] = 0.2
    one, other = (shown.error_map(x, torch.zeros(1, 3, 1, 1)) for x in (a, b))
    np.testing.assert_array_equal(one, other)


def test_one_image_is_saved_as_it_is_and_several_as_a_grid():
    assert pixels(shown.png(image())).shape == (8, 8, 3)
    assert pixels(shown.png(torch.cat([image(), image(1)]), 2)).shape == (64, 128, 3)


def test_an_animation_has_every_frame():
    frames = torch.cat([image(seed) for seed in range(3)])
    with Image.open(io.BytesIO(shown.animation(frames, "gif", 10))) as film:
        assert (film.format, film.n_frames) == ("GIF", 3)


def test_saved_latents_are_read_without_pickles():
    latents = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    data = shown.archive(latents, ["a", "b"], {"snapshot": "s"})
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["latents"], latents)
        assert file["points"].tolist() == ["a", "b"]
