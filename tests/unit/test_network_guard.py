from __future__ import annotations

import socket

import pytest


def test_unit_tests_cannot_connect_to_the_network() -> None:
    with socket.socket() as connection, pytest.raises(pytest.fail.Exception, match="network"):
        connection.connect(("127.0.0.1", 9))


def test_unit_tests_cannot_look_up_a_host() -> None:
    with pytest.raises(pytest.fail.Exception, match="host name"):
        socket.getaddrinfo("host.invalid", 443)


def test_unit_tests_may_use_unix_sockets() -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
        assert right.recv(1) == b"x"
