"""Times with a zone: a zone that this machine lacks becomes its offset."""

import struct
from datetime import datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from livingai.errors import CorruptRecordError, StateEncodingError
from livingai.serial import pack, unpack
from tests.support.serialized import BERLIN, Foreign, shown


def test_foreign_tzinfo_becomes_its_offset() -> None:
    before = datetime(2024, 1, 1, tzinfo=Foreign())
    after = unpack(pack(before))
    assert after == before
    assert shown(after) == shown(datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=5))))


def test_time_without_any_offset_is_refused() -> None:
    with pytest.raises(StateEncodingError, match=r"state\[0\]: .*time.*no offset"):
        pack([time(1, tzinfo=Foreign())])


def test_zone_that_this_machine_lacks_becomes_its_offset() -> None:
    known = datetime(2024, 1, 1, tzinfo=BERLIN)
    packed = pack(known).replace(b"Europe/Berlin", b"Europe/Nowher")
    after = unpack(packed)
    assert after == known
    assert isinstance(after, datetime)
    assert after.tzinfo == timezone(timedelta(hours=1))
    assert after.tzname() == "Europe/Nowher"


@pytest.mark.parametrize("key", [b"Europe", b"Europe/Berlin/x", b"x" * 300])
def test_zone_key_that_leads_to_no_file_becomes_its_offset(key: bytes) -> None:
    known = datetime(2024, 1, 1, tzinfo=BERLIN)
    payload = pack(known)[3:].replace(b"Europe/Berlin", key)
    assert unpack(b"\xc8" + struct.pack(">HB", len(payload), 8) + payload) == known


def test_time_in_a_zone_that_this_machine_lacks_is_refused() -> None:
    packed = pack(time(1, tzinfo=BERLIN)).replace(b"Europe/Berlin", b"Europe/Nowher")
    with pytest.raises(CorruptRecordError, match="Nowher"):
        unpack(packed)


def test_error_does_not_repeat_what_hostile_bytes_say() -> None:
    payload = pack(datetime(2024, 1, 1, tzinfo=BERLIN))[3:].replace(b"Europe/Berlin", b"a/" * 5000)
    with pytest.raises(CorruptRecordError) as caught:
        unpack(b"\xc8" + struct.pack(">HB", len(payload), 8) + payload)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("key", [b"../../etc/pass", b"/etc/passwd\0..", b"\xff" * 14])
def test_zone_key_that_is_no_key_is_refused(key: bytes) -> None:
    packed = pack(datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Vilnius")))
    with pytest.raises(CorruptRecordError):
        unpack(packed.replace(b"Europe/Vilnius", key))
