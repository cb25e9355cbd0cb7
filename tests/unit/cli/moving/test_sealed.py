"""What a passphrase seals: read whole or refused, whatever is done to it."""

from __future__ import annotations

import io

import pytest

from cli.moving import sealed
from cli.moving.sealed import MAGIC, PART_BYTES, SALT_BYTES, TAG_BYTES, SealedReader, SealedWriter
from opsdb.errors import UsageError

PASSPHRASE = "correct horse battery staple"
HEAD = len(MAGIC) + SALT_BYTES + TAG_BYTES


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "COST", 2**4)


def seal(data: bytes) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, PASSPHRASE)
    for at in range(0, len(data), 300_000):
        writer.write(data[at : at + 300_000])
    writer.close()
    return file.getvalue()


def unseal(data: bytes, passphrase: str = PASSPHRASE) -> bytes:
    reader = SealedReader(io.BytesIO(data), passphrase, name="room.sealed")
    found = b"".join(iter(lambda: reader.read(70_000), b""))
    reader.check_end()
    return found


@pytest.mark.parametrize("length", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES])
def test_what_was_sealed_comes_back_and_stands_nowhere_in_it(length: int) -> None:
    data = (b"a secret of the room " * (length // 21 + 1))[:length]
    written = seal(data)
    assert unseal(written) == data
    assert b"a secret of" not in written
    assert seal(data) != written  # each file has a key of its own


def test_wrong_passphrase_is_told_apart_from_damage() -> None:
    written = seal(b"x" * PART_BYTES)
    with pytest.raises(UsageError, match=r"the passphrase does not open room\.sealed"):
        unseal(written, PASSPHRASE + "x")
    with pytest.raises(UsageError, match=r"damaged or cut off after"):
        unseal(written[:-1] + bytes([written[-1] ^ 1]))


@pytest.mark.parametrize("at", [len(MAGIC), HEAD - 1, HEAD, HEAD + PART_BYTES, HEAD + PART_BYTES + TAG_BYTES + 5, -1])
def test_changed_bit_is_found_wherever_it_is(at: int) -> None:
    written = bytearray(seal(b"y" * (2 * PART_BYTES + 10)))
    written[at] ^= 0x10
    with pytest.raises(UsageError, match=r"damaged|does not open"):
        unseal(bytes(written))


def test_parts_that_are_cut_off_repeated_or_exchanged_are_found() -> None:
    written = seal(b"1" * PART_BYTES + b"2" * PART_BYTES + b"3" * 5)
    part = PART_BYTES + TAG_BYTES
    head, one, two, rest = written[:HEAD], *(written[HEAD + n * part : HEAD + (n + 1) * part] for n in range(3))
    for forged in (
        head + one,
        head + one + two,
        head + one + one + two + rest,
        head + two + one + rest,
        head,
        written + b"more",
        written[: HEAD - 3],
    ):
        with pytest.raises(UsageError):
            unseal(forged)


@pytest.mark.parametrize("other", [b"", b"PGDMP", MAGIC[:5], b"ops-room-backup-2\n" + b"x" * 100])
def test_file_of_another_kind_is_refused_by_name(other: bytes) -> None:
    with pytest.raises(UsageError, match=r"room\.sealed is not a backup of a room"):
        unseal(other)
