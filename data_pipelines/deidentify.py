"""Identities become salted hashes; the salt never lies with the data.

Without the salt no identifier can be confirmed or guessed back: short patient numbers are easy to
enumerate, so an unsalted hash would protect nobody.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

import numpy as np

from echofm_jax.errors import InputError


def default_salt_file() -> Path:
    """`$ECHOFM_SALT_FILE`, or a file of this user's own."""
    return Path(os.environ.get("ECHOFM_SALT_FILE", Path.home() / ".config" / "echofm" / "salt"))


def read_salt(path: Path) -> bytes:
    """The salt in `path`; made (32 random bytes, for this user's eyes only) if there is none.

    Raises:
      InputError: the file cannot be read or made, or is too short to protect anything.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            made = path.with_name(f"{path.name}.{os.getpid()}")
            made.touch(0o600, exist_ok=False)
            made.write_text(secrets.token_hex(32))
            made.replace(path)
        salt = path.read_bytes().strip()
    except OSError as error:
        raise InputError(
            f"salt file {path}: {error.strerror}; give --salt_file a file you can write"
        ) from None
    if len(salt) < 16:
        raise InputError(f"salt file {path} holds fewer than 16 bytes: use a longer secret")
    return salt


def keyed_hash(salt: bytes, kind: str, *parts: str | bytes) -> str:
    """HMAC-SHA256 of the parts as 16 hexadecimal digits; `kind` keeps uses apart."""
    message = hmac.new(salt, kind.encode(), hashlib.sha256)
    for part in parts:
        # A file's name need not be text: its bytes come as surrogates.
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        message.update(len(data).to_bytes(8, "big") + data)
    return message.hexdigest()[:16]


def patient_hash(salt: bytes, patient: str) -> str:
    """The id under which a patient appears in shards."""
    return keyed_hash(salt, "patient", patient)


def clip_hash(salt: bytes, frames: np.ndarray) -> str:
    """The id of a clip: of its pixels, whatever its name, place or patient."""
    pixels = hashlib.sha256(np.ascontiguousarray(frames)).digest()
    return keyed_hash(salt, "clip", str(frames.shape), pixels)
