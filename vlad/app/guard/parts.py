"""What a multipart body holds, followed as it comes: Gradio keeps what is no file in memory, without a limit."""

from __future__ import annotations

from typing import Any


class Parts:
    """Counts.

    Attributes:
        files: parts with a file name so far.
        words: bytes of all others.
    """

    def __init__(self, content_type: str) -> None:
        """A body that is not multipart, or damaged, is not followed: it is refused by who reads it."""
        from python_multipart.multipart import MultipartParser, parse_options_header

        self.files = self.words = 0
        self._is_file, self._name, self._value = False, bytearray(), bytearray()
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        self._parser: Any = None
        if kind == b"multipart/form-data" and boundary:
            self._parser = MultipartParser(boundary, {
                "on_part_begin": self._begin, "on_header_field": self._field, "on_header_value": self._content,
                "on_header_end": self._end, "on_headers_finished": self._headers, "on_part_data": self._data,
            })  # fmt: skip

    def feed(self, piece: bytes) -> None:
        """The next piece of the body."""
        from python_multipart.exceptions import FormParserError

        if self._parser is not None:
            try:
                self._parser.write(piece)
            except FormParserError:
                self._parser = None

    def _begin(self) -> None:
        self._is_file = False

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _content(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end(self) -> None:
        from python_multipart.multipart import parse_options_header

        if bytes(self._name).lower() == b"content-disposition":
            self._is_file = b"filename" in parse_options_header(bytes(self._value))[1]
        self.words += len(self._name) + len(self._value)
        self._name.clear()
        self._value.clear()

    def _headers(self) -> None:
        self.files += self._is_file

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file:
            self.words += end - start
