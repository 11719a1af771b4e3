"""Unpack a gzip or deflate body in small pieces, and know whether its end came."""

import zlib
from collections.abc import Iterator

from asyncruns.errors import DecodeError

ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})
"""Values of `Content-Encoding` that can be unpacked."""

_PIECE = 2**18
_GZIP, _ZLIB, _RAW = 31, 15, -15


class Unpacker:
    """Takes a packed body as it arrives and gives it unpacked; a body that is not packed passes through.

    Attributes:
        is_complete: Whether what came so far is a whole body.
    """

    __slots__ = ("_encoding", "_inflate", "is_complete")

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._inflate = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
        self.is_complete = True

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data* unpacks to, in pieces of at most 256 KiB, each made only when asked for.

        Raises:
            DecodeError: It is not what its encoding says.
        """
        if self._encoding in ("", "identity"):
            yield data
            return
        try:
            yield from self._unpacked(data)
        except zlib.error:
            raise DecodeError(f"The body cannot be unpacked: it is not {self._encoding}.") from None

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inflate is None:
                self._inflate = zlib.decompressobj(self._window(data))
            yield self._inflate.decompress(data, _PIECE)
            data = self._inflate.unconsumed_tail
            self.is_complete = self._inflate.eof
            if self.is_complete:
                data = self._inflate.unused_data  # A gzip body may have several members (RFC 1952, section 2.2).
                self._inflate = None

    def _window(self, data: bytes) -> int:
        """Tell zlib what to expect; some servers send deflate without the zlib header that RFC 9110 asks for."""
        if self._encoding == "gzip":
            return _GZIP
        return _ZLIB if data[0] & 0x0F == 8 else _RAW
