"""
Media that say what time it is. A film shows the number of the second as six blocks, white for a bit that is set; a
sound has a pitch for each second. Both are noisy, so that their files are large enough to be loaded in parts.

ffmpeg makes them where it is there; else those are taken that are kept beside this, which
``python -m tests.browser.media`` makes again.
"""

import atexit
import io
import math
import random
import shutil
import subprocess
import tempfile
import wave
from array import array
from functools import cache
from pathlib import Path
from typing import Final

from attrs import frozen

from tests.running import PATIENCE

#: Seconds.
DURATION: Final = 50
#: Hertz: of the first second's tone, and how much higher each next one is.
LOWEST_TONE, STEP = 300, 20
#: Blocks from left to right, the lowest bit first.
BITS: Final = 6

_KEPT: Final = Path(__file__).with_name("media")
_WAV: Final = "tones.wav"
_FILM: Final = (
    f"color=black:size=192x108:rate=10:duration={DURATION},format=gray,"
    f"geq=lum='if(mod(floor(floor(T)/pow(2,floor(X*{BITS}/W))),2),235,16)',noise=alls=30:allf=t,format=yuv420p"
)
_H264: Final = "-c:v libx264 -b:v 47k -maxrate 56k -bufsize 56k -g 10 -c:a aac -b:a 16k"
_VP8: Final = "-c:v libvpx -b:v 51k -minrate 51k -maxrate 51k -g 10 -deadline good -cpu-used 4 -c:a libopus -b:a 12k"


@frozen
class Medium:
    """
    A film or a sound.

    :ivar name: of its file.
    :ivar encoding: ffmpeg's arguments.
    """

    name: str
    content_type: str
    encoding: str

    @property
    def is_film(self) -> bool:
        return self.content_type.startswith("video/")

    @property
    def rate(self) -> int:
        """Bytes a second of a network on which it plays, but is not there before it is asked for."""
        return 3 * len(self.data) // DURATION

    @property
    def data(self) -> bytes:
        return tones() if self.name == _WAV else (_directory() / self.name).read_bytes()


MP4_INDEX_FIRST = Medium("index-first.mp4", "video/mp4", f"{_H264} -movflags +faststart")
MP4_INDEX_LAST = Medium("index-last.mp4", "video/mp4", _H264)
WEBM = Medium("film.webm", "video/webm", _VP8)
OGG = Medium("tones.ogg", "audio/ogg", "-c:a libvorbis -ar 16000 -b:a 80k -minrate 80k -maxrate 80k")
MP3 = Medium("tones.mp3", "audio/mpeg", "-c:a libmp3lame -ar 16000 -b:a 64k")
FLAC = Medium("tones.flac", "audio/flac", "-c:a flac")
WAV = Medium(_WAV, "audio/wav", "")
MEDIA: Final = (MP4_INDEX_FIRST, MP4_INDEX_LAST, WEBM, OGG, MP3, FLAC, WAV)


@cache
def tones() -> bytes:
    """The sound, as a WAV file."""
    rate = 8000
    noise = random.Random(1)
    samples, phase = array("h"), 0.0
    for number in range(DURATION * rate):
        phase += math.tau * (LOWEST_TONE + STEP * (number // rate)) / rate
        # Of 16 bits only the upper ones are used, or FLAC would be too large to keep.
        samples.append((int(80 * math.sin(phase)) + noise.getrandbits(5)) * 256)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


@cache
def _directory() -> Path:
    """Where the media are: made for these tests, or kept."""
    if shutil.which("ffmpeg") is None:
        return _KEPT
    directory = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, directory)
    try:
        make(directory)
    except subprocess.CalledProcessError:
        # Not every ffmpeg has these encoders.
        return _KEPT
    return directory


def make(directory: Path) -> None:
    """Encode the media."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as sound:
        sound.write(tones())
        sound.flush()
        for medium in MEDIA:
            if not medium.encoding:
                continue
            film = ["-f", "lavfi", "-i", _FILM] if medium.is_film else []
            output = directory / medium.name
            command = ["ffmpeg", "-y", "-v", "error", *film, "-i", sound.name, *medium.encoding.split(), str(output)]
            subprocess.run(command, check=True, timeout=10 * PATIENCE)


if __name__ == "__main__":
    make(_KEPT)
