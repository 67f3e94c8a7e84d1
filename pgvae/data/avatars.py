"""Cartoon faces with exact labels, drawn on the spot: data for a first try, on any machine.

The parts are python_avatars' (MIT licence), drawn by resvg; both come with the extra `[demo]`.
"""

import math
import re
from collections.abc import Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from pgvae.data.labels import Table
from pgvae.errors import InputError

ATTRIBUTES = ("glasses", "facial_hair", "hat")
_SHARES = {"glasses": 0.4, "facial_hair": 0.3, "hat": 0.25}
_VIEW = "36 12 192 192"  # of the drawing's 264x280: the head, large in the frame

_GLASSES = ("KURT", "PRESCRIPTION_1", "PRESCRIPTION_2", "ROUND", "SUNGLASSES", "WAYFARERS")
_FACIAL_HAIR = (
    "BEARD_LIGHT",
    "BEARD_MAGESTIC",
    "BEARD_MEDIUM",
    "MOUSTACHE_FANCY",
    "MOUSTACHE_MAGNUM",
)
_HATS = ("HAT", "TURBAN", "WINTER_HAT_1", "WINTER_HAT_2", "WINTER_HAT_3", "WINTER_HAT_4")
_HAIR = (
    "BOB",
    "BUN",
    "CAESAR",
    "CAESAR_SIDE_PART",
    "CURLY",
    "CURVY",
    "DREADS",
    "LONG_NOT_TOO_LONG",
    "SHAGGY",
    "SHORT_CURLY",
    "SHORT_FLAT",
    "SHORT_ROUND",
    "SHORT_WAVED",
    "SIDES",
    "STRAIGHT_1",
    "STRAIGHT_2",
    "STRAIGHT_STRAND",
    "NONE",
)
_MOUTHS = ("DEFAULT", "SERIOUS", "SMILE", "TWINKLE", "SAD", "CONCERNED")
_EYES = ("DEFAULT", "HAPPY", "SIDE", "SQUINT", "SURPRISED")
_BROWS = ("DEFAULT", "DEFAULT_NATURAL", "FLAT_NATURAL", "RAISED_EXCITED", "SAD_CONCERNED")
_CLOTHES = ("BLAZER_SHIRT", "BLAZER_SWEATER", "COLLAR_SWEATER", "HOODIE", "SHIRT_CREW_NECK")
_VISIBLE = 90  # least distance in RGB at which a beard stands out from the skin at 32 px
_SKINS = ("TANNED", "PALE", "LIGHT", "BROWN", "DARK_BROWN", "BLACK")
_BACKGROUNDS = ("#b6d7f2", "#f2d9b6", "#c9e8c4", "#e6c8ea", "#f4f0d0", "#d5dbe3")


class AvatarSource:
    """A source of `count` drawings of `resolution` px. Image i depends on (seed, i) alone."""

    def __init__(self, count: int, seed: int, resolution: int) -> None:
        self._drawing = _import()
        self.seed, self.resolution = seed, resolution
        self.names: Sequence[str] = [f"avatar-{seed}-{i:06d}.png" for i in range(count)]
        self.skipped: list[dict[str, str]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_drawing"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _drawing=_import())

    @cached_property
    def labels(self) -> Table:
        """Columns glasses, facial_hair, hat, 0 or 1."""
        has = [self._has(i) for i in range(len(self.names))]
        values = [[row[name] for name in ATTRIBUTES] for row in has]
        return Table(ATTRIBUTES, np.array(values, np.float32).reshape(-1, len(ATTRIBUTES)))

    def read(self, index: int) -> bytes:
        """The drawing as a PNG file."""
        parts, resvg = self._drawing
        svg = self._avatar(parts, index).render()
        svg = re.sub(r'viewBox="[^"]*"', f'viewBox="{_VIEW}"', svg, count=1)
        svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
        svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
        rng = np.random.default_rng([self.seed, index, 2])
        return resvg.svg_to_bytes(
            svg_string=svg,
            background=_BACKGROUNDS[rng.integers(len(_BACKGROUNDS))],
            width=self.resolution,
            height=self.resolution,
            skip_system_fonts=True,
        )

    tables: Sequence[str] = ()
    held = None

    def columns(self) -> None:
        """Its labels are exact, and not read from anything."""

    def side_file(self, name: str) -> None:
        """There is none."""

    def size(self, index: int) -> tuple[int, int]:
        """As asked for."""
        return self.resolution, self.resolution

    def fingerprint(self) -> str:
        """Seed, size and count say it all."""
        return f"avatars-{self.seed}-{self.resolution}-{len(self.names)}"

    def close(self) -> None:
        """Nothing stays open."""

    def _has(self, index: int) -> dict[str, bool]:
        rng = np.random.default_rng([self.seed, index, 0])
        return {name: bool(rng.random() < share) for name, share in _SHARES.items()}

    def _avatar(self, parts: ModuleType, index: int) -> Any:
        has = self._has(index)
        rng = np.random.default_rng([self.seed, index, 1])

        def pick(kind: str, names: Sequence[str] = ()) -> Any:
            options = [getattr(getattr(parts, kind), n) for n in names] or [*getattr(parts, kind)]
            return options[rng.integers(len(options))]

        hair_color, skin = pick("HairColor"), pick("SkinColor", _SKINS)
        if _distance(hair_color.value, skin.value) < _VISIBLE:
            dark = sum(_rgb(skin.value)) < 300
            hair_color = parts.HairColor.PLATINUM if dark else parts.HairColor.BLACK
        hair, hat = pick("HairType", _HAIR), pick("HatType", _HATS)
        glasses, beard = pick("AccessoryType", _GLASSES), pick("FacialHairType", _FACIAL_HAIR)
        return parts.Avatar(
            style=parts.AvatarStyle.TRANSPARENT,
            top=hat if has["hat"] else hair,
            hat_color=pick("ClothingColor"),
            hair_color=hair_color,
            facial_hair=beard if has["facial_hair"] else parts.FacialHairType.NONE,
            facial_hair_color=hair_color,
            accessory=glasses if has["glasses"] else parts.AccessoryType.NONE,
            skin_color=skin,
            eyes=pick("EyeType", _EYES),
            eyebrows=pick("EyebrowType", _BROWS),
            mouth=pick("MouthType", _MOUTHS),
            nose=parts.NoseType.DEFAULT,
            clothing=pick("ClothingType", _CLOTHES),
            clothing_color=pick("ClothingColor"),
        )


def _rgb(color: str) -> tuple[int, int, int]:
    """ "#RRGGBB" as three numbers."""
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _distance(one: str, other: str) -> float:
    """Euclidean distance of two "#RRGGBB" colours."""
    return math.dist(_rgb(one), _rgb(other))


def _import() -> tuple[ModuleType, ModuleType]:
    try:
        import python_avatars
        import resvg_py
    except ImportError as error:
        raise InputError(
            f"the recipe avatars needs {error.name}: pip install 'pgvae[demo]'"
        ) from error
    return python_avatars, resvg_py
