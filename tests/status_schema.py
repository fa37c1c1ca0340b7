"""The schema of the status document, to hold real documents to."""

import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import fastjsonschema

from wlproxy.host import report


@cache
def _judge() -> Callable[[Any], object]:
    schema = json.loads(files(report).joinpath("status.schema.json").read_text())
    compiled: Callable[[Any], object] = fastjsonschema.compile(schema)
    return compiled


def judged(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document that is as the schema says.

    Raises:
        fastjsonschema.JsonSchemaValueException: it is not.
    """
    _judge()(document)
    return document
