"""The unpacking of bodies: in small pieces, whole or not, garbage refused."""

import gzip
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncruns import DecodeError
from asyncruns._unpack import Unpacker


def unpack(encoding, pieces):
    """Return what the pieces unpack to, and whether that is all."""
    unpacker = Unpacker(encoding)
    return b"".join(b"".join(unpacker.feed(piece)) for piece in pieces), unpacker.is_complete


PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes, "": bytes}


@given(body=st.binary(max_size=200), encoding=st.sampled_from(sorted(PACK)), cuts=st.lists(st.integers(0, 250)))
def test_any_split_unpacks_to_the_same(body, encoding, cuts):
    """However a packed body is cut on its way, it is the same body."""
    packed = PACK[encoding](body)
    edges = sorted({0, len(packed), *(cut for cut in cuts if cut < len(packed))})
    pieces = [packed[a:b] for a, b in pairwise(edges)]
    assert unpack(encoding, pieces) == (body, True)


@given(body=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "deflate"]), data=st.data())
def test_no_beginning_of_a_packed_body_is_complete(body, encoding, data):
    """A packed body whose end is missing is never taken for whole, be it short of a single byte."""
    packed = PACK[encoding](body)
    unpacked, is_complete = unpack(encoding, [packed[: data.draw(st.integers(1, len(packed) - 1))]])
    assert body.startswith(unpacked)
    assert not is_complete


@given(encoding=st.sampled_from(["gzip", "deflate"]), pieces=st.lists(st.binary(max_size=50)))
def test_any_bytes_unpack_or_are_refused(encoding, pieces):
    """Garbage gives an error of ours, and nothing else."""
    with suppress(DecodeError):
        unpack(encoding, pieces)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_pieces_are_small(encoding):
    """However well a body is packed, only a quarter of a mebibyte is unpacked at a time."""
    packed = PACK[encoding](bytes(20 * 2**20))
    sizes = [len(piece) for piece in Unpacker(encoding).feed(packed)]
    assert sum(sizes) == 20 * 2**20
    assert max(sizes) <= 2**18


def test_a_gzip_body_may_have_several_members():
    """RFC 1952 allows a body of several gzip members, also where they meet within a piece."""
    assert unpack("gzip", [gzip.compress(b"one ") + gzip.compress(b"two ")[:5], gzip.compress(b"two ")[5:]]) == (
        b"one two ",
        True,
    )


def test_deflate_without_its_header():
    """Some servers send the bare deflate stream."""
    assert unpack("deflate", [zlib.compress(b"bare")[2:-4]]) == (b"bare", True)


def test_nothing_at_all_is_whole():
    """An empty body needs no packing."""
    assert unpack("gzip", []) == (b"", True)
