"""The systemd unit: what it starts is a command line of ours, and what it forbids stays forbidden."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from qwen3_asr_onnx.commands import cli

UNIT = Path(__file__).parents[2] / "examples" / "systemd" / "qwen3-asr-onnx.service"
HARDENING = {
    "DynamicUser": "yes",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "RestrictNamespaces": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "CapabilityBoundingSet": "",
    "SystemCallArchitectures": "native",
}


def service() -> dict[str, list[str]]:
    """Return the settings of [Service], each with all its values."""
    body = UNIT.read_text(encoding="utf-8").partition("[Service]\n")[2].partition("\n[")[0]
    found: dict[str, list[str]] = {}
    for line in body.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_what_it_starts_is_a_command_line_of_ours() -> None:
    program, *arguments = shlex.split(service()["ExecStart"][0])
    assert Path(program).name == "qwen3-asr-onnx"
    if arguments[0] not in cli.BUILT_IN:
        pytest.skip("serve is not in this tree")
    assert cli.parse_args(arguments).host == "127.0.0.1"


def test_it_may_do_little_and_write_its_own_folder_alone() -> None:
    found = service()
    assert {name: found[name] for name in HARDENING} == {name: [value] for name, value in HARDENING.items()}
    assert "@system-service" in found["SystemCallFilter"]
    environment = dict(entry.split("=", 1) for entry in shlex.split(found["Environment"][0]))
    assert environment["QWEN3_ASR_HOME"] == f"/var/lib/{found['StateDirectory'][0]}"


def test_it_is_stopped_politely() -> None:
    found = service()
    assert found["KillSignal"] == ["SIGTERM"]
    assert int(found["TimeoutStopSec"][0]) >= 30
