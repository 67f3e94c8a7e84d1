"""Signs that a run goes wrong, from the means of its scalars."""

from collections.abc import Mapping

from pgvae.config import Head

TICKS = 10  # in a row, before a sign is told
COLLAPSED = 1.0  # nats

_LOST = (
    f"the KL of real images has been above that of generated ones (kl_gap < 0) for {TICKS} ticks: "
    "the encoder cannot tell them apart; try a lower --lr, a larger --batch or, where there is "
    "one, a larger margin"
)
_COLLAPSE = (
    f"the KL of real images has been below {COLLAPSED:g} nat for {TICKS} ticks: the posterior has "
    "collapsed to the prior; give the reconstruction more weight or the KL less"
)


class Watch:
    """Looks at the means of every tick and tells each sign once, until it is gone.

    - The KL of real images has been above that of generated ones: the encoder has lost the game.
    - The KL of Gaussian posteriors has been under 1 nat. It bounds what a latent tells of its
      image, so fewer than three images could be told apart: the posterior has collapsed.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._rows: dict[str, int] = {}

    def warnings(self, means: Mapping[str, float]) -> list[str]:
        """What there is to say after a tick with these means ("phase/name" -> mean)."""
        latest = {name.rsplit("/", 1)[1]: value for name, value in means.items()}
        gap, kl_real = latest.get("kl_gap"), latest.get("kl_real")
        collapsed = self._head == "gaussian" and kl_real is not None and kl_real < COLLAPSED
        signs = {_LOST: gap is not None and gap < 0, _COLLAPSE: collapsed}
        for sign, seen in signs.items():
            self._rows[sign] = self._rows.get(sign, 0) + 1 if seen else 0
        return [f"warning: {sign}" for sign in signs if self._rows[sign] == TICKS]
