"""A small zip reader that trusts nothing it reads; see :mod:`.archive` for why.

The format is PKWARE's APPNOTE: the members, each behind a local header, then the directory, then
the end record. Sizes are taken from the directory, once it is known that the members it lists lie
one after the other inside the file; local headers only have to agree.
"""

from __future__ import annotations

import os
import struct

from ...errors import ModelFormatError

MAX_MEMBERS = 65_535
"""More arrays than any network has, and as many as a zip directory can name without ZIP64."""

EXPANSION_FLOOR = 64 << 20
EXPANSION_RATIO = 20
"""Compressed members may expand to max(FLOOR, RATIO * file size) bytes, all together."""

REWRITE = "write the file again with numpy.savez or Model.save"

STORED, DEFLATED = 0, 8
_METHODS = {9: "deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 99: "AES"}
_ENCRYPTED, _UTF8 = 0x1, 0x800
_ZIP64_EXTRA = 1
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "too large for this field: see the ZIP64 record"

# The records, little-endian and unpadded (APPNOTE 4.3.7, .12, .16, .15, .14).
_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")

_BEGINNINGS = (
    (b"\x93NUMPY", "is a single .npy array, not an .npz of named ones"),
    (b"\x80", "is a Python pickle (an old PyTorch checkpoint?), which is never opened"),
    (b"\x89HDF", "is an HDF5 file"),
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the model itself (git lfs pull fetches it)",
    ),
)


class Member:
    """One entry of the directory. `stored` bytes in the file become `size` bytes.

    `data` is where they begin, once the local header at `start` has been checked.
    """

    __slots__ = ("checksum", "data", "method", "name", "raw_name", "size", "start", "stored")

    def __init__(
        self, name: str, raw_name: bytes, method: int, checksum: int, stored: int, size: int, start: int
    ) -> None:
        self.name = name
        self.raw_name = raw_name
        self.method = method
        self.checksum = checksum
        self.stored = stored
        self.size = size
        self.start = start
        self.data: int | None = None


class ZipReader:
    """A zip file open for reading, by several threads and processes at once; a context manager.

    Parameters
    ----------
    path : str or os.PathLike

    Raises
    ------
    OSError
        The file is missing or cannot be read.
    ModelFormatError
        It is not a zip file, or a damaged or malicious one. The message does not name the path.
    """

    members: dict[str, Member]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.size = os.fstat(self._file).st_size
            self.members = self._read_directory()
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                error.filename = os.fspath(path)  # what reads by a descriptor does not know it
            raise

    def __enter__(self) -> ZipReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, once; nothing can be read afterwards."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def read(self, member: Member, most: int | None = None) -> bytes:
        """The first `most` bytes of a member, or all, decompressed; unverified."""
        most = member.size if most is None else min(most, member.size)
        start = self._data(member)
        if member.method == STORED:
            return self._bytes(start, most)
        # An incompressible beginning is stored in a few bytes more than it has.
        enough = member.stored if most == member.size else min(member.stored, 2 * most + 1024)
        return self._inflate(member, self._bytes(start, enough), most)

    def read_into(self, member: Member, skip: int, target: memoryview) -> None:
        """Fill `target` with the bytes of a stored member, from `skip` on."""
        start, done = self._data(member) + skip, 0
        while done < target.nbytes:  # one call reads 2 GiB at most
            count = os.preadv(self._file, [target[done:]], start + done)
            if not count:
                raise self.error("became shorter while it was read", member)
            done += count

    def error(self, what: str, member: Member | None = None) -> ModelFormatError:
        """An error that names the member, the fault and the remedy; the caller adds the path."""
        where = f"member {member.name!r:.200} " if member else ""
        return ModelFormatError(f"{where}{what}; {REWRITE}")

    # The directory -------------------------------------------------------------------------------

    def _read_directory(self) -> dict[str, Member]:
        self._check_beginning()
        count, size, start = self._read_end()
        if count > MAX_MEMBERS:
            raise self.error(f"has {count} members; at most {MAX_MEMBERS} are read")
        directory = self._bytes(start, size)
        members: dict[str, Member] = {}
        at = 0
        for _ in range(count):
            member, at = self._read_entry(directory, at)
            if member.name in members:
                raise self.error("occurs twice", member)
            members[member.name] = member
        if at != size:
            raise self.error("is damaged: its zip directory is longer than its entries")
        self._check_extents(members, start)
        return members

    def _check_beginning(self) -> None:
        beginning = self._bytes(0, min(self.size, 64))
        if beginning[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            return
        if not beginning:
            raise self.error("is empty")
        for magic, what in _BEGINNINGS:
            if beginning.startswith(magic):
                raise self.error(what)
        raise self.error("is not an .npz file")

    def _read_end(self) -> tuple[int, int, int]:
        """Find the end record; return the directory's number of entries, size and offset."""
        # It is the file's last, but for a comment of up to 65 535 bytes.
        tail_start = max(0, self.size - _END.size - _FULL16)
        tail = self._bytes(tail_start, self.size - tail_start)
        found = tail.rfind(b"PK\x05\x06", 0, max(0, len(tail) - _END.size + 4))
        while found >= 0:
            _, disk, its_disk, here, count, size, start, comment = _END.unpack_from(tail, found)
            if found + _END.size + comment == len(tail):
                break
            found = tail.rfind(b"PK\x05\x06", 0, found)
        else:
            raise self.error("is cut short: the zip directory at its end is missing")
        end = tail_start + found
        if _FULL16 in (here, count) or _FULL32 in (size, start):
            end, here, count, size, start = self._read_end64(end)
            disk = its_disk = 0
        if disk or its_disk or here != count:
            raise self.error("is one part of a zip that was split")
        if start + size != end:
            raise self.error("is damaged: its zip directory is not where the end record says")
        return count, size, start

    def _read_end64(self, end: int) -> tuple[int, int, int, int, int]:
        locator = self._bytes(end - _LOCATOR64.size, _LOCATOR64.size)
        magic, _, end64, _ = _LOCATOR64.unpack(locator)
        if magic != b"PK\x06\x07":
            raise self.error("is damaged: a ZIP64 record is announced but missing")
        record = _END64.unpack(self._bytes(end64, _END64.size))
        if record[0] != b"PK\x06\x06":
            raise self.error("is damaged: its ZIP64 record is not one")
        here, count, size, start = record[6:]
        return end64, here, count, size, start

    def _read_entry(self, directory: bytes, at: int) -> tuple[Member, int]:
        """Parse the entry at `at`; return it with the position of the next."""
        if at + _ENTRY.size > len(directory):
            raise self.error("is damaged: its zip directory ends early")
        fields = _ENTRY.unpack_from(directory, at)
        magic, _, _, flags, method, _, _, checksum, stored, size = fields[:10]
        name_length, extra_length, comment_length = fields[10:13]
        start = fields[16]
        name_end = at + _ENTRY.size + name_length
        end = name_end + extra_length + comment_length
        if magic != b"PK\x01\x02" or end > len(directory):
            raise self.error("is damaged: an entry of its zip directory is not one")
        raw_name = directory[name_end - name_length : name_end]
        try:
            name = raw_name.decode("utf-8" if flags & _UTF8 or raw_name.isascii() else "cp437")
        except UnicodeDecodeError:
            raise self.error(f"has a member whose name is not UTF-8: {raw_name!r:.80}") from None
        if _FULL32 in (size, stored, start):
            extra = directory[name_end : name_end + extra_length]
            size, stored, start = _widen(extra, size, stored, start)
        member = Member(name, raw_name, method, checksum, stored, size, start)
        if flags & _ENCRYPTED:
            raise self.error("is encrypted", member)
        if method not in (STORED, DEFLATED):
            how = _METHODS.get(method, f"method {method}")
            raise self.error(f"is compressed with {how}; only deflate is read", member)
        if method == STORED and size != stored:
            raise self.error(f"is not compressed, yet claims {size} bytes and has {stored}", member)
        return member, end

    def _check_extents(self, members: dict[str, Member], end: int) -> None:
        """Members lie one after the other before `end`, and do not expand beyond the limit."""
        for member in sorted(members.values(), key=lambda m: m.start, reverse=True):
            if member.start + _LOCAL.size + len(member.raw_name) + member.stored > end:
                raise self.error(
                    f"claims {member.stored} bytes at offset {member.start}, but the next member "
                    f"or the zip directory begins at {end}",
                    member,
                )
            end = member.start
        expanded = sum(m.size for m in members.values() if m.method == DEFLATED)
        limit = max(EXPANSION_FLOOR, EXPANSION_RATIO * self.size)
        if expanded > limit:
            raise self.error(
                f"claims to expand to {expanded} bytes; compressed arrays may take {limit} in a "
                "file of this size, uncompressed ones (numpy.savez) any number"
            )

    # One member ----------------------------------------------------------------------------------

    def _data(self, member: Member) -> int:
        """Offset of the data, behind the local header, which must agree with the directory."""
        if member.data is not None:
            return member.data
        behind = _LOCAL.size + len(member.raw_name)
        header = self._bytes(member.start, behind)
        fields = _LOCAL.unpack_from(header)
        magic, method, name_length, extra_length = fields[0], fields[3], fields[9], fields[10]
        start: int = member.start + _LOCAL.size + name_length + extra_length
        if magic != b"PK\x03\x04" or method != member.method or start + member.stored > self.size:
            raise self.error("is not where the zip directory says", member)
        if header[_LOCAL.size :] != member.raw_name or name_length != len(member.raw_name):
            raise self.error("has another name in its local header", member)
        member.data = start
        return start

    def _inflate(self, member: Member, stored: bytes, most: int) -> bytes:
        import zlib  # only compressed files need it

        whole = most == member.size
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            # Room for one byte more than announced shows a member that is longer than that.
            data = inflater.decompress(stored, most + 1 if whole else most)
        except zlib.error as error:
            raise self.error(f"cannot be decompressed ({error})", member) from None
        if len(data) != most or (whole and not inflater.eof):
            raise self.error(f"does not decompress to the {member.size} bytes announced", member)
        return data

    def _bytes(self, start: int, size: int) -> bytes:
        if start < 0 or start + size > self.size:
            raise self.error("is cut short, or points beyond its end")
        data = os.pread(self._file, size, start)
        while len(data) < size:
            more = os.pread(self._file, size - len(data), start + len(data))
            if not more:
                raise self.error("became shorter while it was read")
            data += more
        return data


def _widen(extra: bytes, *fields: int) -> list[int]:
    """Replace the fields that were too large by those of the ZIP64 extra field, in this order."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        at += 4
        if kind == _ZIP64_EXTRA:
            count = min(length, len(extra) - at) // 8
            wide = iter(struct.unpack_from(f"<{count}Q", extra, at))
            return [next(wide, field) if field == _FULL32 else field for field in fields]
        at += length
    return list(fields)
