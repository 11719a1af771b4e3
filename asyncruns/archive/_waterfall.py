"""One run drawn over time: when it waited in the queue, what each step took, and when it waited for us."""

from collections.abc import Iterable, Sequence

import msgspec

from asyncruns.archive._facts import reader_of
from asyncruns.archive._figures import RunRow, moment, tool_calls, word
from asyncruns.archive._html import kind_of_status, span, text


class StepSpan(msgspec.Struct, gc=False):
    """The parts of a step that are drawn."""

    id: str
    type: object = None
    created_at: object = None
    completed_at: object = None
    failed_at: object = None
    cancelled_at: object = None
    expired_at: object = None
    step_details: object = None

    @property
    def ended_at(self) -> float | None:
        """When it ended; None when it has not, or the server does not say."""
        ends = (self.completed_at, self.failed_at, self.cancelled_at, self.expired_at)
        return next((end for end in map(moment, ends) if end is not None), None)

    @property
    def calls(self) -> list[tuple[str, str]]:
        """Type and name of its tool calls."""
        return [(kind, word(inner.get("name", kind))) for kind, inner in tool_calls(self.step_details)]


_read_step = reader_of(StepSpan)


def waterfall(run: RunRow, blobs: Iterable[bytes]) -> str:
    """Return a run with its steps as a block that opens."""
    steps = sorted((_read_step(blob) for blob in blobs), key=lambda step: moment(step.created_at) or 0.0)
    begin, end = _ends(run, steps)
    rows, waited = _bars(run, steps, begin, end)
    status, seconds = word(run.status), run.seconds
    told = [
        "time not known" if seconds is None else span(seconds),
        f"{len(steps)} step{'' if len(steps) == 1 else 's'}",
    ]
    if waited:
        told.append(f"waited {span(waited)} for tool outputs")
    facts = (f"<code>{text(word(run.thread_id))}</code>", text(word(run.model), 80), f"{run.tokens:,} tokens")
    axis = f'<div class="axis" aria-hidden="true"><span>0</span><span>{span(end - begin)}</span></div>' if rows else ""
    return (
        f'<details class="run"><summary><i class="{kind_of_status(status)}"></i>'
        f"<code>{text(run.id)}</code> <span>{text(status, 40)}</span> "
        f'<span class="told">{" · ".join(told)}</span></summary>'
        f'<p class="note" id="{anchor(run)}">Thread {" · ".join(f"<span>{fact}</span>" for fact in facts)}</p>'
        f'<ol class="bars fall">{"".join(rows)}</ol>{axis}</details>'
    )


def anchor(run: RunRow) -> str:
    """Return what a link to the block of a run names, fit for an attribute."""
    return text("-".join(("run", *run.place)))


def _ends(run: RunRow, steps: Sequence[StepSpan]) -> tuple[float, float]:
    """Return the first and the last moment of a run that are known."""
    made, started = moment(run.created_at), moment(run.started_at)
    moments = [made, started, *(moment(step.created_at) for step in steps), *(step.ended_at for step in steps)]
    known = [at for at in moments if at is not None]
    begin = min(known, default=0.0)
    return begin, max([*known, (started or made or begin) + (run.seconds or 0.0)])


def _bars(run: RunRow, steps: Sequence[StepSpan], begin: float, end: float) -> tuple[list[str], float]:
    """Return a bar for the queue and for each step, and the seconds for which the run waited for us."""
    scale, waited = 100 / max(end - begin, 1.0), 0.0
    made, started = moment(run.created_at), moment(run.started_at)
    rows = []
    if made is not None and started is not None and started > made:
        rows.append(_row("in the queue", "w-queue", (made - begin) * scale, (started - made) * scale, started - made))
    for step in steps:
        at, until = moment(step.created_at), step.ended_at
        kind, name = _what(step)
        if at is None:
            rows.append(f"<li>{_label(name, 'no time given')}</li>")
            continue
        took = max(0.0, (until if until is not None else end) - at)
        waited += took if kind == "w-us" else 0.0
        rows.append(_row(name, kind, (at - begin) * scale, took * scale, took))
    return rows, waited


def _what(step: StepSpan) -> tuple[str, str]:
    """Return the class and the name of a step's bar."""
    calls = step.calls
    if not calls:
        return "w-model", "writes a message" if step.type == "message_creation" else word(step.type)
    name = ", ".join(name for _, name in calls)
    return ("w-us", f"waits for {name}") if any(kind == "function" for kind, _ in calls) else ("w-tool", name)


def _row(name: str, kind: str, left: float, width: float, seconds: float) -> str:
    width = min(max(width, 0.6), 100.0)
    return (
        f"<li>{_label(name, span(seconds))}"
        f'<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" x="{min(left, 100 - width):.2f}" width="{width:.2f}" height="1"/></svg></li>'
    )


def _label(name: str, told: str) -> str:
    return f'<span class="name">{text(name, 80)}</span><span class="told">{told}</span>'
