"""TensorBoard's file, by its own reader; its loaders pass over an end that is cut."""

from pathlib import Path

from tensorboard.compat.tensorflow_stub import errors
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New


def records_of(file: Path) -> list[bytes]:
    """The events of a file; DataLossError where one is cut or its sum is wrong."""
    reader, found = PyRecordReader_New(str(file)), []
    while True:
        try:
            reader.GetNext()
        except errors.OutOfRangeError:  # the end
            return found
        found.append(reader.record())
