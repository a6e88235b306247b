"""The size of the picture that a code stream of the JPEG family announces.

Codecs take memory for what a stream announces, whatever the DICOM header says; some end the
process when they get none. So the stream is asked first.
"""

import struct

SIZ = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 or HTJ2K code stream, and its first segment
JP2 = b"jP  "  # a file around it, which DICOM does not allow and some write
STARTS_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # 0xF7 is JPEG-LS
LONELY = {0x01, *range(0xD0, 0xD9)}  # markers without a segment


def coded_size(data: bytes) -> tuple[int, int] | None:
    """Height and width that JPEG, JPEG lossless, JPEG-LS, JPEG 2000 or HTJ2K announces.

    None where there is no such code stream, or it breaks off before it tells.
    """
    try:
        if data[:4] == SIZ or data[4:8] == JP2:
            right, bottom, left, top = struct.unpack_from(">4I", data, data.index(SIZ) + 8)
            return bottom - top, right - left
        at = 2
        while data[:2] == b"\xff\xd8" and data[at] == 0xFF:
            marker = data[at + 1]
            if marker in STARTS_OF_FRAME:
                return struct.unpack_from(">2H", data, at + 5)
            if marker == 0xFF:  # padding
                at += 1
            elif marker in LONELY:
                at += 2
            else:
                at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    except (IndexError, ValueError, struct.error):
        pass
    return None
