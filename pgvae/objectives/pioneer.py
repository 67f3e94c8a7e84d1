"""PIONEER (Heljakka et al., 2018): AGE's game, grown, with spectral norm and an image pool."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pgvae.objectives.age import Age


@dataclass(frozen=True)
class Pioneer(Age):
    """AGE's losses under PIONEER's stabilisers; lambda_x is 15 after growth."""

    name: ClassVar[str] = "pioneer"
    pool: ClassVar[bool] = True
    grows: ClassVar[bool] = True

    def stage_settings(self, resolution: int, *, faded: bool, grown: bool) -> Mapping[str, Any]:
        return {"lambda_x": 15.0} if grown else {}

    def model_settings(self, attributes: int = 0) -> dict[str, Any]:
        return {"head": "sphere", "encoder_norm": "spectral", "generator_norm": "pixel"}
