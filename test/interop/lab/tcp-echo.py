"""A MiB of TCP there and back: `tcp-echo.py serve HOST` sends back what one client sent, `tcp-echo.py send FROM HOST [text]` says whether it came back intact."""

import os
import socket
import sys
import time

PORT = 5201
OCTETS = 1 << 20
SECONDS = 15


def receive(connection):
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def serve(host):
    with socket.create_server((host, PORT), family=family_of(host)) as listener:
        listener.settimeout(SECONDS)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(SECONDS)
            connection.sendall(receive(connection))


def send(source, host, kind="random"):
    # What can be compressed is no repetition that a lost segment could hide in.
    data = os.urandom(OCTETS // 2).hex().encode() if kind == "text" else os.urandom(OCTETS)
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            connection = socket.create_connection((host, PORT), SECONDS, (source, 0))
            break
        except ConnectionRefusedError:
            # The other end is about to listen.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    with connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        print("intact" if receive(connection) == data else "damaged")


{"serve": serve, "send": send}[sys.argv[1]](*sys.argv[2:])
