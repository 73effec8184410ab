"""Ports of 127.0.0.1 that nothing listens on."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port that was free a moment ago, for TCP and UDP."""
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        return int(tcp.getsockname()[1])
