"""Processes by the port they listen on. Shapes: proc(5), /proc/net/tcp and /proc/pid/fd."""

from __future__ import annotations

from pathlib import Path

from intertie.agent.machine.listeners import Listeners

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def table(*rows: tuple[str, str, int]) -> str:
    """Lines of local address, state and inode."""
    return HEAD + "".join(
        f"   {i}: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 {inode} 1 0\n"
        for i, (local, state, inode) in enumerate(rows)
    )


def machine(folder: Path, sockets: dict[int, int]) -> Path:
    """A /proc in which process -> inode of its socket."""
    (folder / "net").mkdir()
    (folder / "net/tcp").write_text(table(("0100007F:2CAA", "0A", 501), ("0100007F:2CAA", "01", 777)))
    (folder / "net/tcp6").write_text(table(("00000000000000000000000001000000:1F40", "0A", 502)))
    (folder / "self").mkdir()
    for pid, inode in sockets.items():
        (folder / str(pid) / "fd").mkdir(parents=True)
        (folder / str(pid) / "fd/0").symlink_to("/dev/null")
        (folder / str(pid) / "fd/3").symlink_to(f"socket:[{inode}]")
    (folder / "99").mkdir()  # somebody else's: its open files are not shown
    return folder


def test_who_listens_on_a_port_is_found(tmp_path: Path) -> None:
    """11434 over IPv4, 8000 over IPv6; a connection from that port is no listener."""
    listeners = Listeners(machine(tmp_path, {10: 501, 11: 502, 12: 777}))
    assert listeners.pids([11434]) == {10}
    assert listeners.pids([11434, 8000]) == {10, 11}
    assert listeners.pids([1]) == set()
    assert listeners.pids([]) == set()


def test_answers_are_kept_until_the_process_is_gone(tmp_path: Path) -> None:
    """Looking through all open files is dear."""
    listeners = Listeners(machine(tmp_path, {10: 501}))
    assert listeners.pids([11434]) == {10}
    (tmp_path / "10/fd/3").unlink()
    assert listeners.pids([11434]) == {10}
    (tmp_path / "10/fd/0").unlink()
    (tmp_path / "10/fd").rmdir()
    (tmp_path / "10").rmdir()
    assert listeners.pids([11434]) == set()


def test_a_system_without_these_tables_has_no_answer(tmp_path: Path) -> None:
    """And no error."""
    assert Listeners(tmp_path).pids([80]) == set()
