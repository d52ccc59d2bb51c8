"""What the kernel's table of connections says, from a table that the tests write and from a real one."""

import ipaddress
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from engine.process import connections

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="NOT TESTED: the table below is little-endian")

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(remote: str, retries: int, inode: int) -> str:
    return (
        f"   0: 0100007F:1F90 {remote}:C350 01 00000100:00000000 01:00000014 {retries:08X}     0        0 {inode} 2 0\n"
    )


@pytest.fixture
def own() -> Iterator[int]:
    """The inode of a socket of this process."""
    with socket.socket() as mine:
        yield os.fstat(mine.fileno()).st_ino


def test_an_address_that_acknowledges_nothing_is_found(own: int, tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    lost, slow, foreign = row("0200630A", 6, own), row("0300630A", 2, own), row("0400630A", 9, own + 10**9)
    table.write_text(HEAD + lost + slow + foreign)
    assert connections.unanswered([str(table)]) == {"10.99.0.2"}


@pytest.mark.parametrize("address", ["fd00::7", "::ffff:10.99.0.2"])
def test_an_address_of_the_sixth_version_is_read(own: int, tmp_path: Path, address: str) -> None:
    raw = ipaddress.IPv6Address(address).packed
    words = "".join(raw[at : at + 4][::-1].hex().upper() for at in range(0, 16, 4))
    (tmp_path / "tcp6").write_text(HEAD + row(words, 7, own))
    assert connections.unanswered([str(tmp_path / "tcp6")]) == {address.removeprefix("::ffff:")}


@pytest.mark.parametrize("content", ["", HEAD, HEAD + "x\n", HEAD + "a b c d e f g h i j\n"])
def test_a_table_of_another_kind_says_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "tcp").write_text(content)
    assert connections.unanswered([str(tmp_path / "tcp"), str(tmp_path / "none")]) == set()


@pytest.mark.parametrize("address", ["zz", "0200", ""])
def test_an_address_that_cannot_be_read_is_none(own: int, tmp_path: Path, address: str) -> None:
    (tmp_path / "tcp").write_text(HEAD + row(address, 9, own))
    assert connections.unanswered([str(tmp_path / "tcp")]) == set()


def test_a_process_whose_peers_answer_misses_nobody() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        client.sendall(b"x")
        assert connections.unanswered() == set()


def test_own_addresses_are_those_that_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = {
        "lo": [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")],
        "eth0": [
            (socket.AF_PACKET, "52:54:00:12:34:56"),
            (socket.AF_INET, "10.0.0.1"),
            (socket.AF_INET6, "fe80::1%eth0"),
        ],
    }
    found = {
        name: [SimpleNamespace(family=family, address=address) for family, address in entries]
        for name, entries in listed.items()
    }
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: found)
    assert connections.own_addresses() == ["10.0.0.1", "fe80::1"]
