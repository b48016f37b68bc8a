"""Logs: one wide line per outcome, JSON or for people; secrets never."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

_SECRET_NAMES = re.compile(r"token|secret|authorization|api_key|password|signature|credential", re.IGNORECASE)
# What our own secrets look like, wherever they turn up: keys, signing secrets, callback paths, signed links.
_SECRET_SHAPES = re.compile(
    r"(wp_[A-Za-z0-9_\-]{8,}|whsec_[A-Za-z0-9+/=]{8,}|/callbacks/[a-z]+/[A-Za-z0-9_\-]{8,}"
    r"|([?&](?:[a-z_\-]*(?:sig|signature|token|key|secret|password|credential)|exp)=)[^&\s\"']+)",
    re.IGNORECASE,
)
HIDDEN = "[hidden]"

_level = logging.INFO


def hide(value: Any) -> Any:
    """`value` with everything that looks like a secret replaced."""
    if isinstance(value, str):
        return _SECRET_SHAPES.sub(lambda found: (found[2] or "") + HIDDEN, value)
    if isinstance(value, Mapping):
        return {
            hide(str(key)): HIDDEN if _SECRET_NAMES.search(str(key)) else hide(entry) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [hide(entry) for entry in value]
    # Anything else would show itself when the line is rendered, which is after us.
    return value if value is None or isinstance(value, int | float) else hide(str(value))


def _hide_secrets(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    hidden: dict[str, Any] = hide(dict(entry))
    return hidden


def shows(level: int) -> bool:
    """Whether lines of this level are written at all."""
    return level >= _level


def configure(*, json: bool, level: int = logging.INFO) -> None:
    """Set up structlog, and send what libraries log the same way."""
    global _level
    _level = level
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Never the locals of a traceback: they hold keys and bodies.
    render: list[structlog.typing.Processor] = (
        [
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
            _hide_secrets,
            structlog.processors.JSONRenderer(),
        ]
        if json
        else [
            structlog.processors.format_exc_info,
            _hide_secrets,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]
    )
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
