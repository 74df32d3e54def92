"""What is downloaded."""

import gzip
import io
import random
from zipfile import ZIP_DEFLATED, ZipFile

from tests.clients.served import Served

#: The document of all of them.
DOCUMENT = "files"
#: Of each of the larger ones, so that what is cut off in its middle cannot be in the buffers of some socket.
LENGTH = 8 * 2**20

NOISE = random.Random(11).randbytes(LENGTH)
#: Of a type that CouchDB compresses, and half as long.
TEXT = NOISE[: LENGTH // 4].hex("\n", 32).encode()

#: In the middle of the archive.
README = b"read me\n" * 1000


def _archive() -> bytes:
    archive = io.BytesIO()
    with ZipFile(archive, "w") as zip_file:
        zip_file.writestr("first.bin", NOISE[: LENGTH // 2])
        zip_file.writestr("read me.txt", README, ZIP_DEFLATED)
        zip_file.writestr("last.bin", NOISE[LENGTH // 2 :])
    return archive.getvalue()


FILES = {"noise.bin": NOISE, "text.txt": TEXT, "upload.txt": TEXT, "archive.zip": _archive()}


def upload(served: Served) -> None:
    served.put(DOCUMENT, "noise.bin", NOISE, "application/octet-stream")
    served.put(DOCUMENT, "text.txt", TEXT, "text/plain")
    served.put(DOCUMENT, "upload.txt", gzip.compress(TEXT, 1), "text/plain", Content_Encoding="gzip")
    served.put(DOCUMENT, "archive.zip", FILES["archive.zip"], "application/zip")
