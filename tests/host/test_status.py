"""The document of the status socket, and the schema that says what is in it."""

import json
from copy import deepcopy
from dataclasses import fields
from importlib.resources import files
from typing import Any

import fastjsonschema
import pytest
from click.testing import CliRunner

from tests.status_schema import judged
from wlproxy import cli
from wlproxy.host import report
from wlproxy.host.report.progress import State
from wlproxy.host.status import SCHEMA
from wlproxy.relay.buffers.surfaces import SurfaceStatus

DOCUMENT: dict[str, Any] = {
    "schema": 1,
    "version": "0.1.0",
    "name": "work",
    "state": "serving",
    "hint": "",
    "agent": "wlproxy-guest 0.1.0",
    "uptime": 1.5,
    "confined": "no: --no-confine",
    "qemu": {"pid": 1, "program": "qemu-system-x86_64"},
    "compositor": "/run/user/1000/wayland-1",
    "compositor_there": True,
    "isolated": False,
    "clock": {"offset_ns": -5, "error_ns": 5},
    "remarks": ["one"],
    "capabilities": {
        "shm_udmabuf": True,
        "shm_udmabuf_reason": "",
        "dmabuf_stride_alignment": {"XR24": 4},
        "dmabuf_reason": "",
        "shm_formats": ["XR24"],
        "udmabuf_list_limit": 1024,
        "udmabuf_size_limit": 1 << 26,
        "globals": {"wl_shm": 2},
    },
    "launchers": ["user"],
    "clients": [],
    "surfaces": [],
    "metrics": dict.fromkeys(
        [
            "frames_received",
            "frames_sent",
            "bytes_received",
            "bytes_sent",
            "pixel_bytes_copied",
            "udmabufs_created",
            "udmabufs_failed",
            "udmabufs_alive",
            "sessions",
            "clients",
            "bugs",
            "open_fds",
        ],
        0,
    ),
}


def schema() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(
        files(report).joinpath("status.schema.json").read_text()
    )
    return document


def test_the_document_of_these_tests_is_as_the_schema_says() -> None:
    judged(DOCUMENT)
    judged({**DOCUMENT, "qemu": None, "clock": None})


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("schema",), 2),
        (("news",), 1),
        (("state",), "dancing"),
        (("qemu",), {"pid": 1}),
        (("metrics", "news"), 1),
        (("metrics",), {"bugs": 0}),
        (("clients",), [{"client_id": 1}]),
        (("surfaces",), [{"client_id": 1}]),
        (("capabilities", "globals"), {"wl_shm": "2"}),
    ],
)
def test_the_schema_finds_what_is_not_as_it_says(
    keys: tuple[str, ...], value: object
) -> None:
    document = deepcopy(DOCUMENT)
    inner = document
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        judged(document)


@pytest.mark.parametrize("key", DOCUMENT)
def test_nothing_may_be_missing(key: str) -> None:
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        judged({name: value for name, value in DOCUMENT.items() if name != key})


def test_the_schema_has_all_states_and_all_that_is_said_of_a_surface() -> None:
    properties = schema()["properties"]
    assert properties["schema"]["const"] == SCHEMA
    assert properties["state"]["enum"] == [state.value for state in State]
    surface = properties["surfaces"]["items"]
    names = [each.name for each in fields(SurfaceStatus)]
    assert list(surface["properties"]) == surface["required"] == names


def test_the_command_line_prints_the_schema() -> None:
    printed = CliRunner().invoke(cli.main, ["status", "--schema"]).output
    assert json.loads(printed) == schema()
