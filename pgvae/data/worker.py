"""A process that works on images for another one: `python -m pgvae.data.worker TASKS RESULTS`."""

import signal
import sys
from multiprocessing.connection import Connection


def serve(tasks: Connection, results: Connection) -> None:
    """Do what comes, a function and indices at a time, until the other process ends."""
    try:
        source = tasks.recv()
        while True:
            work, indices = tasks.recv()
            try:
                answer = [work(source, index) for index in indices]
            except Exception as error:
                answer = error
            results.send(answer)
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other process to handle
    serve(
        Connection(int(sys.argv[1]), writable=False), Connection(int(sys.argv[2]), readable=False)
    )
