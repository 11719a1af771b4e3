"""Run steps: listed and read, with the text that file search found if asked for."""

import pytest

from asyncruns import FileSearchToolCall, MessageCreationStepDetails, NotFoundError, RunStep, ToolCallsStepDetails

CONTENT = "step_details.tool_calls[*].file_search.results[*].content"


@pytest.fixture
async def run(session, emulator):
    """Give the test a completed run that searched files and wrote a message."""
    thread = await session.threads.create(messages=[{"role": "user", "content": "find it"}])
    run = await session.runs.create(thread.id, assistant_id="asst_1", tools=[{"type": "file_search"}])
    emulator.clock.advance(10)
    run = await session.runs.retrieve(thread.id, run.id)
    emulator.requests.clear()
    return run


async def test_list(session, run):
    """In both orders, as objects to match on."""
    steps = await session.steps.list(run.thread_id, run.id, order="asc").collect()
    assert all(isinstance(step, RunStep) and step.run_id == run.id for step in steps)
    match [step.step_details for step in steps]:
        case [ToolCallsStepDetails(tool_calls=[FileSearchToolCall()]), MessageCreationStepDetails()]:
            pass
        case other:
            pytest.fail(f"other steps: {other}")
    assert await session.steps.list(run.thread_id, run.id).collect() == steps[::-1]


async def test_retrieve(session, run):
    """One step, the same as in the listing."""
    for step in await session.steps.list(run.thread_id, run.id).collect():
        assert await session.steps.retrieve(run.thread_id, run.id, step.id) == step
    with pytest.raises(NotFoundError):
        await session.steps.retrieve(run.thread_id, run.id, "step_nope")


async def test_include(session, run, emulator):
    """What file search found is told only if asked for, in lists and alone."""
    plain = (await session.steps.list(run.thread_id, run.id, order="asc")).data[0]
    listed = (await session.steps.list(run.thread_id, run.id, order="asc", include=[CONTENT])).data[0]
    alone = await session.steps.retrieve(run.thread_id, run.id, plain.id, include=[CONTENT])
    assert plain.step_details.tool_calls[0].results[0].content == ()
    assert listed.step_details.tool_calls[0].results[0].content[0].text
    assert alone == listed
    encoded = "include%5B%5D=step_details.tool_calls%5B%2A%5D.file_search.results%5B%2A%5D.content"
    assert (await session.steps.list(run.thread_id, run.id, order="asc", include=None)).data[0] == plain
    assert await session.steps.retrieve(run.thread_id, run.id, plain.id, include=None) == plain
    assert [target.partition("?")[2] for _, target in emulator.requests[:3]] == [
        "limit=100&order=asc",
        f"limit=100&order=asc&{encoded}",
        encoded,
    ]


@pytest.mark.parametrize("include", [CONTENT, b"x", [1], [None], 5])
async def test_include_that_is_no_list_of_strings(session, run, emulator, include):
    """One string is not sent letter by letter; nothing is sent."""
    emulator.requests.clear()
    with pytest.raises(TypeError, match="include must be a list of strings"):
        session.steps.list(run.thread_id, run.id, include=include)
    with pytest.raises(TypeError, match="include must be a list of strings"):
        await session.steps.retrieve(run.thread_id, run.id, "step_1", include=include)
    with pytest.raises(TypeError, match="include must be a list of strings"):
        await session.runs.create(run.thread_id, assistant_id="a", include=include)
    assert emulator.requests == []
