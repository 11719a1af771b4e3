"""How the emulated model takes its turn: the tools it chooses, the texts it reads, where its reply is cut."""

from asyncruns.emulator._script import Script
from asyncruns.emulator._store import Body, Message, Run


def chosen_tools(run: Body) -> list[Body]:
    """Return the tools that the run will call, as its tool choice demands."""
    tools: list[Body] = run["tools"]
    choice = run["tool_choice"]
    if choice == "none":
        return []
    if isinstance(choice, str):
        return tools
    tools = [tool for tool in tools if tool["type"] == choice["type"]]
    if choice["type"] == "function" and "function" in choice:
        return [tool for tool in tools if tool["function"]["name"] == choice["function"]["name"]]
    return tools


def required_action(calls: list[Body]) -> Body:
    """Return what a run says while it waits for the outputs of *calls*."""
    asked = [
        {
            "id": call["id"],
            "type": "function",
            "function": {name: call["function"][name] for name in ("name", "arguments")},
        }
        for call in calls
    ]
    return {"type": "submit_tool_outputs", "submit_tool_outputs": {"tool_calls": asked}}


def prompt(run: Run) -> list[str]:
    """Return the texts that the model reads: instructions, then the messages the truncation leaves."""
    messages = [message for message in run.thread.messages.items() if message.run_id != run.id]
    truncation = run.body["truncation_strategy"]
    if truncation["type"] == "last_messages" and truncation.get("last_messages"):
        messages = messages[-int(truncation["last_messages"]) :]
    return [run.body["instructions"], *(_text(message) for message in messages)]


def _text(message: Message) -> str:
    return " ".join(part["text"]["value"] for part in message.body["content"] if part["type"] == "text")


def count(texts: list[str]) -> int:
    """Return the emulated number of tokens: words, and nothing finer."""
    return sum(len(text.split()) for text in texts)


def cut(run: Body, script: Script, words: str, prompt_tokens: int) -> tuple[str, str, Body | None]:
    """Return status, text and incomplete details of a reply under the run's limits and its script."""
    most_prompt, most_completion = run["max_prompt_tokens"], run["max_completion_tokens"]
    is_told = script.text is not None
    if script.text is not None:
        words = "".join(script.text)
    if script.outcome == "failed":
        return "failed", words if is_told else "", None
    if most_prompt is not None and prompt_tokens > most_prompt:
        return "incomplete", "", {"reason": "max_prompt_tokens"}
    tokens = words.split()
    if most_completion is not None and len(tokens) > most_completion:
        return "incomplete", " ".join(tokens[: int(most_completion)]), {"reason": "max_completion_tokens"}
    if script.outcome == "incomplete":
        said = words if is_told else " ".join(tokens[: len(tokens) // 2])
        return "incomplete", said, {"reason": script.incomplete_reason}
    return "completed", words, None
