"""Complete histories of threads in one file: fill it, resume it, read it, convert it, look at it."""

from asyncruns.archive._archive import Archive, ThreadRecord
from asyncruns.archive._convert import convert
from asyncruns.archive._exporter import Exporter, export
from asyncruns.archive._options import Options, OptionWords
from asyncruns.archive._otel import emit_spans
from asyncruns.archive._progress import Progress
from asyncruns.archive._records import Walk
from asyncruns.archive._report import write_report
from asyncruns.archive._verify import Findings, verify

__all__ = [
    "Archive",
    "Exporter",
    "Findings",
    "OptionWords",
    "Options",
    "Progress",
    "ThreadRecord",
    "Walk",
    "convert",
    "emit_spans",
    "export",
    "verify",
    "write_report",
]
