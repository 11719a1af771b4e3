"""A worker that answers the questions in a folder, and may be killed at any moment: a job never makes two runs.

    python worker.py FOLDER

Each `FOLDER/NAME.json` is a job: `{"question": "..."}`. A job that is finished moves to `FOLDER/done/NAME.json`, with
the answer in it. A worker that starts takes up whatever is not finished, whoever had begun it, so one worker at a time
serves a folder. A file that is no job, or not yet, stays where it is and is told of once. The worker reads
OPENAI_API_KEY, OPENAI_BASE_URL and ASSISTANT_ID from the environment.
"""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import asyncruns

WORKERS = 4

logger = logging.getLogger("worker")


class NotReadableError(Exception):
    """The file is no job, or not yet."""


def look_up(article: str) -> str:
    """Look up the price of an article.

    Args:
        article: Its name.
    """
    return f"{article}: 12.50 euros"


async def do(session: asyncruns.Session, tools: asyncruns.Toolbox, path: Path) -> None:
    """Do one job, or go on with it from wherever the worker before was killed."""
    job = load(path)
    if "thread_id" not in job:
        thread = await session.threads.create(messages=[{"role": "user", "content": job["question"]}])
        job["thread_id"] = thread.id
        save(path, job)  # From here on the job knows where its run is, or would be.
    thread_id = job["thread_id"]
    run = await session.runs.create(
        thread_id, assistant_id=os.environ["ASSISTANT_ID"], tools=tools.tools, request_key=path.stem
    )
    run = await session.runs.drive(thread_id, run.id, tools, timeout=600)
    messages = await session.messages.list(thread_id, run_id=run.id, order="asc").collect()
    job |= {"run_id": run.id, "status": run.status, "answer": "\n".join(message.text for message in messages)}
    save(path, job)
    finish(path)


def find_jobs(folder: Path) -> list[Path]:
    """Return the jobs that are not done."""
    return sorted(folder.glob("*.json"))


def load(path: Path) -> dict[str, Any]:
    """Read the job's file."""
    try:
        job: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise NotReadableError(str(error)) from None
    if not isinstance(job, dict) or "question" not in job:
        raise NotReadableError("It has no question.")
    return job


def finish(path: Path) -> None:
    """Move the job to those that are done."""
    path.replace(path.parent / "done" / path.name)


def save(path: Path, job: dict[str, Any]) -> None:
    """Write the job's file anew, so that whoever is killed here leaves the old one or the new one, never half of it."""
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        json.dump(job, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


async def work(
    session: asyncruns.Session, tools: asyncruns.Toolbox, queue: asyncio.Queue[Path], told: set[Path]
) -> None:
    """Do job after job; one that fails stays in the folder and is tried again later."""
    while True:
        path = await queue.get()
        try:
            await do(session, tools, path)
        except NotReadableError as error:
            if path not in told:
                told.add(path)
                logger.warning("%s is no job: %s", path.name, error)
        except asyncruns.AsyncRunsError as error:
            logger.warning("%s has to wait: %s", path.stem, error)
        except Exception:  # One broken job must not stop the others.
            logger.exception("%s cannot be done", path.stem)
        finally:
            queue.task_done()


async def main(folder: Path) -> None:
    """Do the jobs in the folder, and look for new ones whenever all are done."""
    (folder / "done").mkdir(parents=True, exist_ok=True)
    queue: asyncio.Queue[Path] = asyncio.Queue()
    tools = asyncruns.Toolbox([look_up])
    told: set[Path] = set()
    async with asyncruns.Session() as session, asyncio.TaskGroup() as workers:
        for _ in range(WORKERS):
            workers.create_task(work(session, tools, queue, told))
        while True:
            for path in find_jobs(folder):
                queue.put_nowait(path)
            await queue.join()
            await asyncio.sleep(1)


if __name__ == "__main__":
    logging.basicConfig()
    asyncio.run(main(Path(sys.argv[1])))
