"""What the account of a machine's store knows of the disk."""

from __future__ import annotations

from zactor.core.stored import Disk


def test_a_disk_has_room_up_to_its_limit_and_remembers_what_did_not_fit() -> None:
    disk = Disk(10)
    assert disk.has(10)
    disk.take(6)
    assert not disk.is_full
    assert not disk.has(5)
    assert disk.is_full
    disk.give(6)
    disk.try_anew()
    assert (disk.is_full, disk.has(10)) == (False, True)


def test_a_disk_that_said_it_was_full_has_no_room_until_it_is_tried_anew() -> None:
    disk = Disk(10)
    disk.is_full_now()
    assert (disk.has(1), disk.is_full) == (False, True)
    disk.try_anew()
    assert disk.has(1)


def test_where_nothing_may_go_to_disk_that_is_not_called_full() -> None:
    disk = Disk(0)
    assert (disk.has(1), disk.is_full) == (False, False)
