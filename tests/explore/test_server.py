"""The server's socket."""

import socket

from pgvae.explore.server import HERE, listening


def test_an_answer_does_not_wait_until_what_was_sent_of_it_before_has_come():
    with listening(HERE, 0) as own, socket.create_connection(own.getsockname()) as browser:
        connection, _ = own.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not browser.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)  # by itself
