"""Reading in another process, and the turn at the model that others have meanwhile."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from waiting import LIMIT, wait_until

pytest.importorskip("gradio", reason="the demo needs the extra vlad-anomaly[demo]")

from vlad.app import uploads
from vlad.app.notes import quietly
from vlad.app.service import BusyError, Limits, Service, aside
from vlad.app.uploads import read_bytes
from vlad.errors import ImageReadError, VladWarning, warn
from vlad.pictures import isolated
from vlad.pictures.isolated import IsolatedReader
from vlad.pictures.reading import read_image

PIXELS = 1_000_000


def png(value: int = 90, side: int = 64) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side + 1, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def reader():
    reader = IsolatedReader()
    yield reader
    reader.close()


def read(reader: IsolatedReader, data: bytes, *, max_pixels: int = PIXELS, seconds: float = LIMIT, wait: float = LIMIT) -> np.ndarray:
    return reader.read(data, max_pixels=max_pixels, seconds=seconds, wait=wait)


def test_pictures_and_errors_are_those_of_the_reader(reader):
    found = read(reader, png())
    assert np.array_equal(found, read_image(png())) and found.flags.writeable
    for data, pixels, reason in (
        (b"no picture", PIXELS, "^is none of"),
        (b"", PIXELS, "^is empty"),
        (png(), 9, "4,160 pixels, the limit is 9"),
    ):
        with pytest.raises(ImageReadError, match=reason):
            read(reader, data, max_pixels=pixels)
    with ThreadPoolExecutor(8) as pool:
        assert [int(picture[0, 0, 0]) for picture in pool.map(lambda value: read(reader, png(value)), range(40))] == list(range(40))


def test_who_takes_too_long_is_stopped_and_the_next_is_read(reader, monkeypatch):
    monkeypatch.setattr(isolated, "_CODE", "import time; time.sleep(600)")
    with pytest.raises(ImageReadError, match=r"takes more than 0 s to decode; save it again"):
        read(reader, png(), seconds=0.01)
    monkeypatch.undo()
    assert read(reader, png()).shape == (64, 65, 3)


def test_a_decoder_that_dies_takes_nobody_along(reader, monkeypatch):
    monkeypatch.setattr(isolated, "_CODE", "import os; os.abort()")
    with pytest.raises(ImageReadError, match="made its decoder fail"):
        read(reader, png() + bytes(10**6))
    monkeypatch.undo()
    assert read(reader, png()).shape == (64, 65, 3)


@pytest.mark.skipif("not __import__('pathlib').Path('/proc/self/statm').exists()", reason="the system counts no address space")
def test_memory_has_a_limit(reader, monkeypatch):
    """An AVIF whose header is small and whose picture is not: nobody sees that before it is decoded."""
    file = io.BytesIO()
    Image.new("RGB", (5_000, 5_000), (9, 80, 3)).save(file, "AVIF", speed=10)
    data, place = bytearray(file.getvalue()), -1
    while (place := data.find(b"ispe", place + 1)) != -1:
        data[place + 8 : place + 16] = (64).to_bytes(4, "big") * 2
    scarce = "; from vlad.pictures import isolated; isolated._MEMORY = 2**25; from "
    monkeypatch.setattr(isolated, "_CODE", isolated._CODE.replace("; from ", scarce))
    with pytest.raises(ImageReadError, match=r"cannot be read|decoder fail|memory"):
        read(reader, bytes(data), max_pixels=10_000)
    assert read(reader, png(), max_pixels=10_000).shape == (64, 65, 3)
    monkeypatch.undo()
    reader.close()
    assert read(reader, bytes(data), max_pixels=10_000).shape == (64, 64, 3)  # so it was the limit


def test_who_comes_when_all_are_busy_is_told(monkeypatch):
    reader = IsolatedReader(processes=0)
    with pytest.raises(TimeoutError):
        read(reader, png(), wait=0)
    monkeypatch.setattr(uploads, "_READER", reader)
    with pytest.raises(BusyError, match="Too many pictures are being read"):
        read_bytes(png(), Limits(seconds=0), "part.png")


@pytest.fixture
def service():
    service = Service(SimpleNamespace(model_name="none"), limits=Limits(seconds=LIMIT))
    yield service
    service.close()


class SlowReader:
    """Reads until it is told to end."""

    def __init__(self) -> None:
        self.reading, self.end = threading.Event(), threading.Event()

    def read(self, data: bytes, **_: object) -> np.ndarray:
        self.reading.set()
        assert self.end.wait(LIMIT)
        if not data:
            raise ImageReadError("is empty")
        return np.zeros((16, 16, 3), np.uint8)


@pytest.mark.parametrize("data", [b"x", b""])
def test_others_have_the_model_while_a_batch_decodes(service, data, monkeypatch):
    """As `vlad.app.batches` reads: inside a turn, which another visitor gets meanwhile; a picture that cannot be read ends no batch."""
    slow, done = SlowReader(), []
    monkeypatch.setattr(uploads, "_READER", slow)

    def batch() -> None:
        with service.turn(), quietly():
            try:
                read_bytes(data, service.limits, "part.png")
            except ImageReadError as error:
                done.append(str(error))
            with pytest.raises(BusyError), ThreadPoolExecutor(1) as other:  # it has the turn again
                other.submit(visit_at_once).result()
            done.append("batch")

    def visit_at_once() -> None:
        hasty = service.limits
        service.limits = Limits(seconds=0)
        try:
            with service.turn():
                pytest.fail("two at once")
        finally:
            service.limits = hasty

    thread = threading.Thread(target=batch)
    thread.start()
    assert slow.reading.wait(LIMIT)
    with service.turn():
        done.append("visitor")
    slow.end.set()
    thread.join(LIMIT)
    assert done == ["visitor", *(["part.png: is empty"] if not data else []), "batch"]
    with service.turn():  # free again
        pass


def test_a_turn_that_does_not_come_again_is_given_up_once(service):
    with pytest.raises(BusyError), service.turn(), aside():
        service.limits = Limits(seconds=0)
        taken, leave = threading.Event(), threading.Event()

        def other() -> None:
            with service.turn():
                taken.set()
                assert leave.wait(LIMIT)

        thread = threading.Thread(target=other)
        thread.start()
        assert taken.wait(LIMIT)
    assert service._busy  # still the other's
    leave.set()
    thread.join(LIMIT)
    wait_until(lambda: not service._busy, "the model was free")


def test_warnings_come_back_however_those_who_kept_quiet_leave(recwarn):
    first, second = quietly(), quietly()
    first.__enter__(), second.__enter__()
    first.__exit__(None, None, None)
    warn("not heard")
    second.__exit__(None, None, None)
    with pytest.warns(VladWarning, match="heard again"):
        warn("heard again")
    assert not [one for one in recwarn if "not heard" in str(one.message)]
