"""Known names, dates and numbers, searched for in every form in which bytes can hold them."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from echofm_jax.errors import InputError

SHORTEST = 3  # letters of a name that is searched for in texts
LONG = 8  # bytes of what is searched for among pixels: in millions they hold the rest by chance


def read_known(path: Path | None) -> list[str]:
    """The lines of a file – a name, a date or a number each – and the words of each line.

    Raises:
      InputError: the file cannot be read, or has nothing to search for.
    """
    if path is None:
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # some editors begin with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "") or "not UTF-8"
        raise InputError(f"--known {path}: {reason}; give a text file, a name a line") from None
    known = {line.strip() for line in lines}
    known |= {word for line in known for word in re.split(r"[\s^,;=\\]+", line)}
    known |= {form for line in known for form in date_forms(line)}
    known = {word for word in known if len(word) >= SHORTEST}
    if not known:
        raise InputError(f"--known {path}: no line of {SHORTEST} or more letters")
    return sorted(known)


def date_forms(text: str) -> list[str]:
    """A date as DICOM (20230817) or ISO (2023-08-17) has it, in other notations."""
    found = re.fullmatch(r"((?:19|20)\d\d)([-./]?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])", text)
    if not found:
        return []
    year, _, month, day = found.groups()
    orders = ((year, month, day), (day, month, year), (month, day, year))
    return [mark.join(order) for order in orders for mark in ("", "-", ".", "/")]


class Search:
    """Says that a known name, or the salt, stands somewhere, and in what form; never which."""

    def __init__(self, known: Iterable[str], salt: bytes = b""):
        self.names = sorted(known)
        forms = {(b, f"a known name ({form})") for n in self.names for form, b in encoded(n)}
        if salt:
            forms |= {(b, f"the salt ({form})") for form, b in encoded(salt.decode("latin-1"))}
        # What is sought begins with one of few pairs of bytes, and one of few comes next: two
        # tables find the few places that are worth a comparison, however many names there are.
        self.begins: dict[bytes, list[tuple[bytes, str]]] = {}
        self.pairs = np.zeros((2, 1 << 16), bool)
        for sought, what in sorted(forms):
            if len(sought) >= LONG:
                self.begins.setdefault(sought[:4], []).append((sought, what))
                self.pairs[[0, 1], np.frombuffer(sought[:4], "<u2")] = True

    def among_pixels(self, data: bytes) -> set[str]:
        """What is found in bytes that hold compressed or raw pixels: names of LONG bytes."""
        if not self.begins or len(data) < LONG:
            return set()
        data = data.lower()
        values = np.frombuffer(data, np.uint8).astype(np.uint16)
        pairs = values[:-1] | values[1:] << 8
        places = np.flatnonzero(self.pairs[0][pairs[:-2]] & self.pairs[1][pairs[2:]])
        return {
            what
            for at in places.tolist()
            for sought, what in self.begins.get(data[at : at + 4], ())
            if data.startswith(sought, at)
        }

    def in_text(self, data: bytes) -> set[str]:
        """What is found in bytes that are text or metadata: short names too."""
        folded = data.lower()
        short = {f"a known name ({form})" for name in self.names if len(name) < LONG
                 for form, sought in encoded(name) if sought in folded}  # fmt: skip
        return short | self.among_pixels(data)

    def in_ids(self, ids: Iterable[str]) -> bool:
        """Whether an id is a known number, or a hash of a name that anybody can make."""
        made = {digest for name in self.names for digest in (name.zfill(16), *unsalted(name))}
        return not made.isdisjoint(ids)


def encoded(name: str) -> Iterator[tuple[str, bytes]]:
    """(form, lower-case bytes) of a name: encodings, backwards, as a number."""
    for text in {name, name.lower(), name.upper()}:  # bytes are folded in ASCII only
        yield "plain", text.encode().lower()
        if not text.isascii():
            yield "Latin-1", text.encode("latin-1", "replace").lower()
        yield "UTF-16", text.encode("utf-16-le").lower()
        yield "UTF-16, big endian", text.encode("utf-16-be").lower()
        yield "backwards", text[::-1].encode().lower()
        yield "hexadecimal", text.encode().hex().encode()
        for shift in range(3 if len(name) >= LONG else 0):
            # Without its ends, which depend on what stands beside.
            data = base64.b64encode(bytes(shift) + text.encode()).rstrip(b"=")
            yield "base64", data[4 * (shift > 0) : -1].lower()
    # A short number is two bytes or three and zeros then, and so are pixels at an edge.
    if re.fullmatch(f"0*[1-9][0-9]{{{LONG - 1},17}}", name):
        yield "binary", int(name).to_bytes(8, "little").lower()
        yield "two digits a byte", bytes.fromhex(name[: len(name) // 2 * 2]).lower()


def unsalted(name: str) -> Iterator[str]:
    """The first 16 digits of usual hashes of a name."""
    for text in {name, name.lower(), name.upper()}:
        for method in ("md5", "sha1", "sha256", "sha512", "blake2b"):
            yield hashlib.new(method, text.encode(), usedforsecurity=False).hexdigest()[:16]
