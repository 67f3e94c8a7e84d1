"""TensorBoard's file of a run."""

import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

_numbers = itertools.count()  # a process may train more than once in a second


class Board:
    """Writes events in this thread: an error of the drive is raised where it happens.

    TensorBoard drops what files of before have after `images_seen`.
    """

    def __init__(self, run_dir: Path, images_seen: int) -> None:
        about = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._file = (run_dir / f"events.out.tfevents.{about}").open("wb")
        self._records = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step=images_seen + 1, session_log=start)

    def scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """As of any `tracker.Tracker`; handed to the system, so that a kill leaves whole events."""
        for name, value in values.items():
            self._add(step=images_seen, summary=summary.scalar(name, value))
        self._file.flush()

    def picture(self, name: str, grid: np.ndarray, images_seen: int) -> None:
        """As of any `tracker.Tracker`."""
        self._add(step=images_seen, summary=summary.image(name, grid, dataformats="HWC"))

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _add(self, **event: object) -> None:
        record = event_pb2.Event(wall_time=time.time(), **event)
        self._records.write(record.SerializeToString())
