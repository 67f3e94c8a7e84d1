"""What a run says while it goes: log.txt, stats.jsonl, a tracker, the progress bar."""

import contextlib
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pgvae.choices import TrackerKind
from pgvae.files import atomic_path, content_of, require_replaceable
from pgvae.schedule import Moment
from pgvae.terminal import outlived, say
from pgvae.training.tracker import open_tracker


class RunLog:
    """Log of one run directory; on resume, what was logged after the checkpoint is dropped.

    tracker: where figures and pictures are shown besides. config: of the run, for it.
    """

    def __init__(
        self,
        run_dir: Path,
        images_seen: int,
        total_images: int,
        tracker: TrackerKind = "tensorboard",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        for name in ("log.txt", "stats.jsonl"):
            require_replaceable(run_dir / name)  # a pipe would be waited for
        self._text = (run_dir / "log.txt").open("a", encoding="utf-8", errors="backslashreplace")
        self._stats_path = run_dir / "stats.jsonl"
        # Images seen at the last measurement, and the last look, that are in stats.jsonl.
        self.measured = self.looked = 0
        damaged = self._drop_after(images_seen)
        self._stats = self._stats_path.open("a", encoding="utf-8")
        self._tracker = open_tracker(tracker, run_dir, images_seen, config, self.say)
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._since = (time.monotonic(), images_seen)
        self._total = total_images
        self._bar = tqdm(
            total=total_images,
            initial=images_seen,
            unit="img",
            unit_scale=True,
            # No bar where the output is not a terminal: the log lines stay.
            disable=None if sys.stderr else True,
            dynamic_ncols=True,
        )

        if damaged:
            self.say(f"warning: {damaged:,} damaged lines of {self._stats_path.name} are dropped")

    def say(self, text: str) -> None:
        """One line for the reader: to log.txt and the terminal."""
        self._text.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
        self._text.flush()
        with outlived(), tqdm.external_write_mode(file=sys.stdout):
            say(text)

    def step(self, scalars: dict[str, Tensor], images_seen: int, moment: Moment) -> None:
        """Add one iteration's scalars, without reading them from the device."""
        for name, value in scalars.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1
        self._bar.set_postfix_str(f"{moment.resolution}px alpha {moment.alpha:.2f}", refresh=False)
        with outlived():
            self._bar.update(images_seen - self._bar.n)

    def tick(self, images_seen: int, moment: Moment, **more: float) -> dict[str, float]:
        """Write the means of the scalars since the last tick, in one read; -> the means."""
        now, (then, before) = time.monotonic(), self._since
        self._since = (now, images_seen)
        names = list(self._sums)
        values = torch.stack([self._sums[n].float() / self._counts[n] for n in names]).tolist()
        self._sums, self._counts = {}, {}
        speed = (images_seen - before) / max(now - then, 1e-9)
        means = dict(zip(names, values, strict=True))
        about = {"resolution": moment.resolution, "alpha": moment.alpha, "lr": moment.lr}
        self.stats(images_seen, {**about, "img_per_s": speed, **more, **means})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        self.say(
            f"{images_seen / 1000:9.1f} kimg  {moment.resolution:4d}px  alpha {moment.alpha:.2f}  "
            f"{speed:6.0f} img/s  {_duration((self._total - images_seen) / speed)} left  {shown}"
        )
        return means

    def restart_clock(self, images_seen: int) -> None:
        """Leave the time since the last tick (spent on grids and files) out of img/s."""
        self._since = (time.monotonic(), images_seen)

    def stats(self, images_seen: int, values: dict[str, Any]) -> None:
        """One record in stats.jsonl, null where not finite, and the same scalars to the tracker."""
        finite = {name: v if math.isfinite(v) else None for name, v in values.items()}
        record = {"images": images_seen, "time": time.time(), **finite}
        self._stats.write(json.dumps(record, allow_nan=False) + "\n")
        self._stats.flush()
        self._tracker.scalars(values, images_seen)

    def picture(self, name: str, grid: np.ndarray, images_seen: int) -> None:
        """A grid, uint8 [H, W, C], to the tracker."""
        self._tracker.picture(name, grid, images_seen)

    def close(self) -> None:
        """Flush and close all of it, as far as the disk has room."""
        with outlived():
            self._bar.close()
        for part in (self._tracker, self._stats, self._text):
            with contextlib.suppress(OSError):
                part.close()

    def _drop_after(self, images_seen: int) -> int:
        """Drop lines of later images, and damaged ones; -> how many of these."""
        if not self._stats_path.exists():
            return 0
        lines = content_of(self._stats_path).splitlines()
        kept = [line + b"\n" for line in lines if _images_of(line) <= images_seen]
        self.measured, self.looked = (
            max((int(_images_of(line)) for line in kept if what in line), default=0)
            for what in (b'"metric/', b'/psnr_gain"')
        )
        with atomic_path(self._stats_path) as aside:
            aside.write_bytes(b"".join(kept))
        return sum(not math.isfinite(_images_of(line)) for line in lines[:-1])


def _duration(seconds: float) -> str:
    """90 -> "2 min"; at the speed of the moment, so no more than a guess."""
    if seconds < 60:
        return f"{max(0, seconds):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _images_of(line: bytes) -> float:
    """Images seen of a stats line; infinite for one cut short by a kill, or damaged."""
    try:
        return float(json.loads(line)["images"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return float("inf")
