"""The whole body of an answer, unpacked and held to a size while it comes."""

import aiohttp

from asyncruns._aiohttp import BROKEN
from asyncruns._protocol import Redact, content_type
from asyncruns._unpack import ENCODINGS, Unpacker
from asyncruns.errors import ProtocolError, ResponseTooLargeError, TruncatedBodyError, UnexpectedContentError

_MAX_ERROR_BYTES = 2**20
"""Decoded bytes of an error's body that are read at most."""


async def read_body(response: aiohttp.ClientResponse, length: int | None, max_bytes: int, redact: Redact) -> bytes:
    """Return the body unpacked; of a refusal as much as can be had, for its status says enough.

    Args:
        response: The answer, of which nothing was read.
        length: The bytes that it says it has, packed if it is packed. None: it does not say.
        max_bytes: Decoded bytes that are read at most.
        redact: Takes the key out of the server's text.

    Raises:
        ResponseTooLargeError: There are more.
        UnexpectedContentError: It is packed in a way that was not asked for.
        TruncatedBodyError, DecodeError: It is packed, and cut short or damaged.
        Exception: One of `BROKEN`, as aiohttp raises it.
    """
    limit = max_bytes if response.status < 400 else _MAX_ERROR_BYTES
    chunks: list[bytes] = []
    try:
        if length is not None and length <= limit and "content-encoding" not in response.headers:
            return await response.read()
        await _read_into(chunks, response, limit, redact)
    except (*BROKEN, ProtocolError, TruncatedBodyError):
        response.close()
        if response.status < 400:
            raise
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _read_into(chunks: list[bytes], response: aiohttp.ClientResponse, limit: int, redact: Redact) -> None:
    told = response.headers.get("content-encoding", "")
    encoding = told.strip().lower()
    if encoding not in ENCODINGS:
        raise UnexpectedContentError(
            "The answer is packed in a way that was not asked for (only gzip and deflate are).",
            status=response.status,
            content_type=content_type(response.headers, redact),
            preview=f"content-encoding: {redact(told)[:80]}",
        )
    unpacker = Unpacker(encoding)
    size = 0
    async for data in response.content.iter_any():
        for piece in unpacker.feed(data):
            size += len(piece)
            if size > limit:
                chunks.clear()  # The error's traceback would keep them.
                raise ResponseTooLargeError(
                    f"The answer is larger than max_response_bytes={limit}; reading stopped there.", limit=limit
                )
            chunks.append(piece)
    if not unpacker.is_complete:
        raise TruncatedBodyError(f"{response.method} {response.url.path}: the packed answer ends in the middle.")
