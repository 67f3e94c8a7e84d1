"""TensorBoard's file of a run."""

import itertools
import os
import socket
import time
from pathlib import Path

import numpy as np
from tensorboard.compat.proto import event_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

_numbers = itertools.count()  # a process may train more than once in a second


class Board:
    """Writes events in this thread: an error of the drive is raised where it happens.

    TensorBoard drops what files of before have at `purge_step` and later.
    """

    def __init__(self, run_dir: Path, purge_step: int) -> None:
        about = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._file = (run_dir / f"events.out.tfevents.{about}").open("wb")
        self._records = RecordWriter(self._file)
        self._add(file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step=purge_step, session_log=start)

    def scalar(self, name: str, value: float, step: int) -> None:
        """One number."""
        self._add(step=step, summary=summary.scalar(name, value))

    def picture(self, name: str, grid: np.ndarray, step: int) -> None:
        """A picture, uint8 [H, W, C]."""
        self._add(step=step, summary=summary.image(name, grid, dataformats="HWC"))

    def flush(self) -> None:
        """Hand all of it to the system, so that a kill leaves whole events."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close."""
        self._file.close()

    def _add(self, **event: object) -> None:
        record = event_pb2.Event(wall_time=time.time(), **event)
        self._records.write(record.SerializeToString())
