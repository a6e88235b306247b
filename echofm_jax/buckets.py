"""gs://BUCKET/X is read and written at /gcs/BUCKET/X, where `launch/mount_buckets.sh` mounts it.

So every file is a file: logs are appended to, finished folders are renamed into place. Another
place than /gcs is given by ECHOFM_BUCKETS.
"""

import os
import re
from pathlib import Path

from echofm_jax.errors import InputError


def local_path(name: str | Path) -> Path:
    """A path as it is, or the mounted place of a gs:// one.

    Raises:
      InputError: the bucket is not mounted, or the address is none.
    """
    if not re.match("gs:/", str(name)):
        return Path(name)
    address = re.fullmatch(r"gs://([a-z0-9][\w.-]*)(?:/(.*))?", str(name))
    if address is None:
        raise InputError(f"{name}: not an address such as gs://BUCKET/FOLDER")
    bucket, rest = address[1], address[2] or ""
    place = Path(os.environ.get("ECHOFM_BUCKETS", "/gcs")) / bucket
    if not place.is_mount():
        raise InputError(
            f"{name}: no bucket is mounted at {place}: run launch/mount_buckets.sh {bucket} first"
        )
    return place / rest
