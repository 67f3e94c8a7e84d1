"""PIONEER (Heljakka et al., 2018): AGE's game, grown, with spectral norm and an image pool."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pgvae.objectives.age import Age


@dataclass(frozen=True)
class Pioneer(Age):
    """AGE's losses under PIONEER's stabilisers; lambda_x is 1.5 times higher after growth."""

    name: ClassVar[str] = "pioneer"
    pool: ClassVar[bool] = True
    grows: ClassVar[bool] = True
    grown_weights: ClassVar[Mapping[str, float]] = {"lambda_x": 1.5}

    def model_settings(self) -> dict[str, Any]:
        return {"head": "sphere", "encoder_norm": "spectral"}
