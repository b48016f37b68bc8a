"""Events as they are sent: the bytes of each, made once for a format, and kept while there is room."""

from collections import OrderedDict
from dataclasses import replace

from handlers.destinations.contract import Message
from schemas import formats
from schemas.endpoint import Format, Target
from schemas.event import Event
from service.store import events
from service.store.database import Database

# Bodies kept in memory for lanes; others are read again when their turn comes.
BYTES_IN_MEMORY = 16 * 1024 * 1024

Key = tuple[int, Format]


class Messages:
    """By the event's row and the format. Its project, and so the `source` of a CloudEvent, is one for all endpoints."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._kept: OrderedDict[Key, Message] = OrderedDict()
        self._bytes = 0

    def add(self, event: Event) -> None:
        """Fresh from a commit."""
        self._keep((event.row, Format.STANDARD), standard(event))

    def kept(self, event: int, target: Target) -> Message | None:
        """Without a look into the store."""
        return self._kept.get((event, target.format))

    async def get(self, event: int, target: Target) -> Message:
        kept = self.kept(event, target)
        if kept is not None:
            return kept
        message = self._kept.get((event, Format.STANDARD))
        if message is None:
            message = standard(await self._db.read(events.by_row, event))
            self._keep((event, Format.STANDARD), message)
        if target.format is Format.STANDARD:
            return message
        message = written(message, target)
        self._keep((event, target.format), message)
        return message

    def _keep(self, key: Key, message: Message) -> None:
        if key in self._kept:
            return
        self._kept[key] = message
        self._bytes += len(message.body)
        while self._bytes > BYTES_IN_MEMORY:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.body)


def written(message: Message, target: Target) -> Message:
    """A message as it is in the log, in the form that its endpoint asks for."""
    body, content_type = formats.body(target.format, message.body, target.source)
    return replace(message, body=body, content_type=content_type)


def standard(event: Event) -> Message:
    """As it is in the log."""
    return Message(event.id, event.type, event.payload.encode(), event.created_at)
