"""The messages of a thread: create, read, list, modify, delete."""

from typing import Unpack

from asyncruns._arguments import check_params
from asyncruns._pager import AsyncCursorPager
from asyncruns._protocol import check_id, thread_path
from asyncruns._resource import Resource
from asyncruns.models import Message, MessageDeleted
from asyncruns.params import MessageCreateParams, MessageListParams, MessageModifyParams


class Messages(Resource):
    """`session.messages`: what was said in threads (API page: Messages). Errors and `timeout` as in `Runs`."""

    async def create(
        self, thread_id: str, *, timeout: float | None = None, **params: Unpack[MessageCreateParams]
    ) -> Message:
        """Add a message to a thread and return it (API page: Create message).

        Args:
            thread_id: The thread.
            timeout: Seconds for the whole call.
            **params: See `MessageCreateParams`; `role` and `content` are required.

        Raises:
            ActiveRunError: The thread has an active run and takes no message until that ends.
        """
        check_params(params, MessageCreateParams)
        target = _messages_path(thread_id)
        return await self._post(target, Message, params, timeout, thread_id=thread_id)

    async def retrieve(self, thread_id: str, message_id: str, *, timeout: float | None = None) -> Message:
        """Return a message (API page: Retrieve message)."""
        target = _message_path(thread_id, message_id)
        return await self._get(target, Message, timeout, thread_id=thread_id, id=message_id)

    def list(
        self, thread_id: str, *, timeout: float | None = None, **params: Unpack[MessageListParams]
    ) -> AsyncCursorPager[Message]:
        """Return a pager over the messages of a thread, newest first unless `order="asc"` (API page: List messages).

        Args:
            thread_id: The thread.
            timeout: Seconds for each page.
            **params: See `MessageListParams`; `run_id` leaves only what that run wrote.
        """
        check_params(params, MessageListParams)
        if "run_id" in params:
            check_id("run_id", params["run_id"])
        return self._list(_messages_path(thread_id), Message, params, timeout, thread_id=thread_id)

    async def modify(
        self,
        thread_id: str,
        message_id: str,
        *,
        timeout: float | None = None,
        **params: Unpack[MessageModifyParams],
    ) -> Message:
        """Replace a message's metadata and return the message (API page: Modify message)."""
        check_params(params, MessageModifyParams)
        target = _message_path(thread_id, message_id)
        return await self._post(target, Message, params, timeout, repeatable=True, thread_id=thread_id, id=message_id)

    async def delete(self, thread_id: str, message_id: str, *, timeout: float | None = None) -> MessageDeleted:
        """Delete a message (API page: Delete message). It is not sent a second time."""
        target = _message_path(thread_id, message_id)
        return await self._delete(target, MessageDeleted, timeout, id=message_id)


def _messages_path(thread_id: str) -> str:
    return f"{thread_path(thread_id)}/messages"


def _message_path(thread_id: str, message_id: str) -> str:
    return f"{_messages_path(thread_id)}/{check_id('message_id', message_id)}"
