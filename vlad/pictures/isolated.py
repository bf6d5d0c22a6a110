"""Reading in processes of their own, each with a limit of time and memory: what a decoder does with a hostile file, it does not do here.

Decoders are large programs in C, and what a file costs them is not always seen from its header. A thread cannot be stopped and has no
memory of its own, so there is a process: it costs half a second once and some 40 MB, and 0.07 s for 12 megapixels.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import numpy as np

from vlad.errors import ImageReadError, noting, warn

_ASKED, _TOLD = struct.Struct("<QQQ"), struct.Struct("<?QQQ")  # bytes, max_pixels, white level or 0; is there a picture, its height and
# width or letters and 0, and letters of notes
_MEMORY_A_PIXEL, _MEMORY = 64, 2**28  # bytes; the reader itself takes up to 20 a pixel, 52 of deep colour
_CODE = "import sys; sys.path.append(sys.argv[1]); from vlad.pictures.isolated import work; work()"


class IsolatedReader:
    """`read_image` of bytes in other processes, started when they are needed; from any number of threads."""

    def __init__(self, processes: int = 2) -> None:
        self._idle: queue.LifoQueue[subprocess.Popen[bytes] | None] = queue.LifoQueue()
        for _ in range(processes):
            self._idle.put(None)

    def read(self, data: bytes, *, max_pixels: int, seconds: float, wait: float, white_level: int | None = None) -> np.ndarray:
        """As `read_image`, its warnings included.

        Args:
            seconds: that the decoder may take.
            wait: seconds for those who came before.

        Raises:
            ImageReadError: as `read_image`, or it took too much time or memory.
            TimeoutError: all processes were busy for so long.
        """
        try:
            process = self._idle.get(timeout=wait)
        except queue.Empty:
            raise TimeoutError(f"other pictures were being read for {wait:.0f} seconds") from None
        try:
            if process is None or process.poll() is not None:
                process = _start()
            return _ask(process, data, max_pixels, seconds, white_level)
        finally:
            self._idle.put(process)

    def close(self) -> None:
        """End the processes that have nothing to do; they end by themselves when this one does."""
        with contextlib.suppress(queue.Empty):
            for _ in range(self._idle.qsize()):
                process = self._idle.get_nowait()
                self._idle.put(None)
                if process is not None:
                    _end(process)


def _start() -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(  # -P: nothing is imported from the folder where the server was started
        [sys.executable, "-P", "-c", _CODE, root], stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, env=environment
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def _ask(process: subprocess.Popen[bytes], data: bytes, max_pixels: int, seconds: float, white_level: int | None) -> np.ndarray:
    assert process.stdin is not None and process.stdout is not None
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    try:
        timer.start()
        process.stdin.write(_ASKED.pack(len(data), max_pixels, white_level or 0))
        process.stdin.write(data)
        process.stdin.flush()
        there, first, second, letters = _TOLD.unpack(_exactly(process.stdout, _TOLD.size))
        answer = _exactly(process.stdout, first * second * 3 if there else first)
        notes = _exactly(process.stdout, letters).decode()
    except (OSError, EOFError) as error:
        _end(process)
        why = f"takes more than {seconds:.0f} s to decode" if late.is_set() else "made its decoder fail"
        raise ImageReadError(f"{why}; save it again as an ordinary PNG or JPEG") from error
    except BaseException:
        _end(process)  # what it still writes would be taken for the next answer
        raise
    finally:
        timer.cancel()
    if not there:
        raise ImageReadError(answer.decode())
    for note in notes.splitlines():
        warn(note)
    return np.frombuffer(answer, np.uint8).reshape(first, second, 3)


def _exactly(stream: IO[bytes], size: int) -> bytearray:
    data = bytearray(size)
    view, place = memoryview(data), 0
    while place < size:
        count = stream.readinto(view[place:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        place += count
    return data


def work() -> None:
    """The other process: picture after picture from standard input, until that ends."""
    import warnings

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, whose end is seen as the end of the input
    warnings.simplefilter("ignore")
    asked, told = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a stray word would be taken for an answer
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            length, max_pixels, white = _ASKED.unpack(_exactly(asked, _ASKED.size))
            data = bytes(_exactly(asked, length))
            _limit_memory(_MEMORY + _MEMORY_A_PIXEL * max_pixels)
            told.writelines(_answer(data, max_pixels, white or None))
            told.flush()
            del data


def _answer(data: bytes, max_pixels: int, white_level: int | None) -> tuple[bytes, bytes | memoryview, bytes]:
    from vlad.pictures.reading import read_image

    try:
        with noting() as said:
            picture = read_image(data, max_pixels=max_pixels, white_level=white_level)
        notes = "\n".join(note.removeprefix("bytes: ") for note in said).encode()
        return _TOLD.pack(True, *picture.shape[:2], len(notes)), picture.data.cast("B"), notes
    except (ImageReadError, MemoryError) as error:
        text = (str(error).removeprefix("bytes: ") or "takes too much memory; make it smaller").encode()
        return _TOLD.pack(False, len(text), 0, 0), text, b""


def _limit_memory(more: int) -> None:
    """Let this process have so many bytes beyond what it has now. Where the system counts no address space there is no such limit."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        wanted = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    except (ImportError, OSError, ValueError):
        return
