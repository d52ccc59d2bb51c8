"""Which other machines have stopped to answer this process, by what the kernel says of its TCP connections."""

import contextlib
import ipaddress
import os
import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil

TABLES = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
RETRIES = 6  # sendings of the same data without an answer: some 12 s, which no healthy network needs
MOST_ADDRESSES = 32
SOCKET = re.compile(r"socket:\[(\d+)\]")


def own_addresses() -> list[str]:
    """The addresses under which other machines reach this one."""
    found: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        for one in (address for addresses in psutil.net_if_addrs().values() for address in addresses):
            if one.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(one.address.partition("%")[0])
                if not address.is_loopback:
                    found.append(str(address))
    return found[:MOST_ADDRESSES]


def unanswered(tables: Iterable[str] = TABLES) -> set[str]:
    """The addresses that do not acknowledge what this process sent them; empty where the kernel does not say so."""
    own, found = _sockets(), set()
    for table in tables:
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                retries, inode = int(fields[6], 16), fields[9]
                if retries >= RETRIES and inode in own:
                    found.add(_address(fields[2].partition(":")[0]))
    return found


def _sockets() -> set[str]:
    """The inodes of this process's sockets."""
    found = set()
    with contextlib.suppress(OSError):
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # closed in the meantime
                if match := SOCKET.fullmatch(os.readlink(f"/proc/self/fd/{name}")):
                    found.add(match[1])
    return found


def _address(words: str) -> str:
    """An address as the kernel writes it: words of four bytes in hexadecimal, each in the machine's byte order."""
    raw = bytes.fromhex(words)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    address = ipaddress.ip_address(raw)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
