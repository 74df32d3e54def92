"""Make the demo's three attachments again: ``python docs/make_demo_media.py [folder]``.

Needs ffmpeg (with libmp3lame and libx264) and DejaVu Sans Mono Bold (Debian's fonts-dejavu-core, or the file
named by DEMO_FONT).  Nothing in them is third-party.  The same ffmpeg makes the same bytes again.
"""

import hashlib
import math
import os
import shlex
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "txcouchdl" / "demo" / "media"
FONT = os.environ.get("DEMO_FONT", "/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf")
LINES, WIDTH, TEXT = 400, 80, 64  # lines of the story, bytes in each, bytes of text in each
RATE, SECONDS = 44100, 13  # of the melody
PROSE = """
THE DOWNLOAD THAT STOPPED, or The Train Enters the Tunnel
- Every line of this file is 80 bytes long, newline included, and begins with its number and the offset of its
first byte: line N starts at byte 80 x (N - 1). Whatever slice you ask for, the slice says where it was cut.
Ask for bytes=16000-16079 and you hold line 201, whole, and nothing else. If you hold anything else, somebody
has miscounted, and it was not the file.
- 1. RANGES. A file is a row of bytes, and HTTP numbers them from zero. A range names its first byte and its
last, both included. So bytes=0-0 is not nothing but one byte, and bytes=0-99 is a hundred. Whoever orders
bytes=0-100 gets a hundred and one, and stays one fence post ahead of himself for the rest of the file.
- There are three shapes. bytes=100-199 says from here to there. bytes=100- says from here to the end.
bytes=-100 is the sly one: that is no minus but a missing number, and it means the last hundred bytes.
- The answer is 206 Partial Content, and its Content-Range says which part: bytes 100-199/32000. Believe the
answer, not your question. A server may ignore any Range and send 200 and the whole file, as politely as if
you had said nothing. A client that appends a 200 to what it holds owns a file with two beginnings.
- Ask this file for bytes=32000- and, as its last byte is number 31999, you get 416 Range Not Satisfiable and
Content-Range: bytes */32000. It is a rare error: it may be good news.
- Two ranges at once come as multipart/byteranges: parcels in a parcel, each with its own label. For two
hundred overlapping ones the server may conclude that you are not reading but up to something.
- The last letter of café is two bytes: see the crooked border.
- Cut between them and you hold half a letter. Glued, it is whole again: bytes bear no grudge.
- 2. RESUMING. The train enters the tunnel and you hold 20000 bytes, numbers 0 to 19999. The first you lack is
number 20000: the length of what you have is the offset of what you want. (Here counting from zero pays its
rent.) Send Range: bytes=20000-, append what comes, arrive. Unless, of course, the file changed while you were
in the tunnel. Then you sew the head of yesterday's horse to the tail of today's fish. Both halves are
genuine, the length may even be right, and it will not gallop.
- 3. CONDITIONS. An ETag is the name of one version of a file. A strong tag promises: same tag, same bytes,
every one. A weak tag, W/"like this", promises much the same, which will do for reading, not for sewing.
- If-Range: "tag", sent with a Range, says: the slice if it is still that file, else all of the new one. On
206 append, on 200 start afresh. One trip, no fish.
- If-Match: "tag" is the stern sister: that very file or nothing, and nothing is 412 Precondition Failed.
- If-None-Match: "tag" is the lazy one: call me if there is something new. If not, she gets 304 Not Modified
and no body. The fastest download is the one that does not happen.
- Dates serve too (If-Unmodified-Since, If-Modified-Since, If-Range itself). But HTTP dates tick in seconds,
and a file saved twice within one wears the same date both times.
- 4. DIGESTS. A tag says that nothing changed on the server. A digest says that nothing changed on the way to
your disk: it is reckoned from every byte, so that one wrong byte spoils it. Repr-Digest (RFC 9530) is about
the whole file, even on a 206 that carries a slice: check the sewn file against it. Content-Digest is about
this one message.
- CouchDB keeps an MD5 of each attachment. MD5 still catches accidents; it no longer catches scoundrels. And
mind what it was taken of: the bytes as stored. Text such as this CouchDB likes to store gzipped; then the MD5
is the gzip's, ranges are declined (Accept-Ranges: none), and you see what gateways are for.
- 5. TRY IT, with this file's address in $URL
-
  curl -r 16000-16079 $URL          line 201
  curl -r -80 $URL                  the last line
  curl -r 0-79,31920-31999 $URL     first and last, in parcels
  curl -o s.txt -r 0-19999 $URL     up to the tunnel
  curl -o s.txt -C - $URL           and out of it again
  head -c 20000 s.txt | sha256sum   compare with line 251
- Next door, melody.mp3 breaks off in the middle of a run, holds its breath, and resumes with the note at
which it stopped. And countdown.mp4 shows its own second, large, so that a seek cannot lie.
- 6. THE TABLE. Each line from here on is a place to stop. It gives the header that resumes from its first
byte, the bytes then still to go, the part you hold, and how the SHA-256 of all bytes before that line begins.
"""
# The tune, in eighths of 0.25 s as (MIDI note or 0 for silence, length): the third bar breaks off in its run.
TUNE = [(67, 2), (69, 1), (71, 1), (74, 2), (71, 2), (72, 2), (76, 1), (74, 1), (71, 2), (67, 2)]
TUNE += [(69, 1), (71, 1), (72, 1), (0, 5), (72, 1), (74, 1), (76, 1), (78, 1), (79, 2), (76, 2)]
TUNE += [(74, 1), (71, 1), (72, 1), (69, 1), (71, 2), (66, 2), (67, 2), (62, 2), (67, 8)]
BASS = [(43, 4), (47, 4), (48, 4), (43, 4), (50, 3), (0, 5), (50, 4), (48, 4), (50, 4), (50, 4), (43, 12)]


def story() -> bytes:
    """Return the prose, wrapped, then the table, all in lines of WIDTH bytes."""
    lines: list[str] = []
    for paragraph in PROSE.strip().split("\n-"):
        kept, text = paragraph.startswith("\n"), paragraph[1:] if lines else paragraph
        lines += [*(text.split("\n") if kept else textwrap.wrap(text, TEXT, break_on_hyphens=False)), ""]
    out, size = b"", LINES * WIDTH
    for number in range(1, LINES + 1):
        at, digest = len(out), hashlib.sha256(out).hexdigest()[:16]
        text = f"Range: bytes={at}-".ljust(20) + f"{size - at:6} to go {at / size:6.2%}  sha256 {digest}"
        if number <= len(lines):
            text = lines[number - 1]
        elif number == LINES:
            text = f"The end. You have it all: bytes={size}- is a 416 from here."
        out += f"{number:03} {at:06} | ".encode() + text.encode().ljust(TEXT) + b" |\n"
    return out


def melody() -> bytes:
    """Return the tune over its bass as signed 16-bit samples, each note a plucked string of four partials."""
    mix = [0.0] * (RATE * SECONDS)
    for voice in (TUNE, BASS):
        start = 0
        for note, eighths in voice:
            length = min(eighths * RATE // 4, len(mix) - start)
            step = 2 * math.pi * 440 * 2 ** ((note - 69) / 12) / RATE
            for i in range(length if note else 0):
                loud = 0.3 * min(1, i / 200, (length - i) / 400) * math.exp(-2.2 * i / RATE)
                mix[start + i] += loud * sum(math.sin(k * step * i) / k**1.8 for k in (1, 2, 3, 4))
            start += length
    return b"".join(struct.pack("<h", round(32767 * math.tanh(value))) for value in mix)


def film() -> str:
    """Return the filters that draw the film: a hopping box, bars of its second and of the whole, the digits."""
    text = f"drawtext=fontfile={FONT}:fontcolor=white:x=(w-tw)/2"
    return (
        "color=0x14213d:s=480x270:r=25:d=12[back];color=0xfca311:s=36x36:r=25:d=12[box];"
        "color=0x3fa7d6:s=480x10:r=25:d=12[second];color=0x59cd90:s=480x10:r=25:d=12[whole];"
        "[back][box]overlay=x='222+200*sin(PI*t/2)':y='156-146*abs(sin(PI*t))'[a];"
        "[a][second]overlay=x='W*(mod(t,1)-1)':y=242[b];[b][whole]overlay=x='W*(t/12-1)':y=258[c];"
        rf"[c]{text}:y=52:fontsize=150:text='%{{eif\:t\:d\:2}}',"
        rf"{text}:y=204:fontsize=20:text='second %{{eif\:t\:d}}, %{{eif\:12-trunc(t)\:d}} to go'"
    )


def ffmpeg(arguments: str, output: Path, data: bytes = b"") -> None:
    """Run ffmpeg so that what it writes tells no date or version, nor how many processors there were."""
    same = "-threads 1 -fflags +bitexact -flags:v +bitexact -flags:a +bitexact"
    command = ["ffmpeg", "-v", "error", "-y", *shlex.split(arguments), *shlex.split(same), str(output)]
    subprocess.run(command, input=data, check=True)  # noqa: S603 - our own arguments, and no shell


def main() -> None:
    """Write the three files into the folder named on the command line, or else into the package."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "story.txt").write_bytes(story())
    tune = f"-f s16le -ar {RATE} -ac 1 -i - -c:a libmp3lame -b:a 48k -metadata title='Interrupted Run'"
    ffmpeg(tune, folder / "melody.mp3", melody())
    pips = "aevalsrc=0.3*sin(2*PI*440*pow(2\\,floor(t)/12)*mod(t\\,1))*exp(-9*mod(t\\,1)):s=22050:d=12"
    drawn = f"-f lavfi -i '{pips}' -filter_complex_threads 1 -filter_complex {shlex.quote(film())}"
    coded = "-c:v libx264 -profile:v baseline -preset veryslow -crf 32 -g 25 -pix_fmt yuv420p"
    ffmpeg(f"{drawn} {coded} -c:a aac -b:a 20k -movflags +faststart", folder / "countdown.mp4")


if __name__ == "__main__":
    main()
