"""The parity table: what the local AWS answers, from the code, and which client asked for it, from recordings of the client suites.

``python tests_e2e/shared/parity.py`` runs the suites and a small run of the project's own with recording on, and writes
``docs/parity.json`` (the recordings, merged) and ``docs/parity.md``. With ``--render`` it only writes the latter anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_mlcc.localaws.context import ServerContext
from pytest_mlcc.localaws.hosted import hosted_services, planes_of
from pytest_mlcc.localaws.recording import FROM_INSIDE, VARIABLE
from pytest_mlcc.localaws.wire import service_model

__all__ = ["DATA", "TABLE", "Recording", "merged", "rendered", "served", "untested"]

ROOT = Path(__file__).resolve().parents[2]
DATA, TABLE = ROOT / "docs" / "parity.json", ROOT / "docs" / "parity.md"

OWN_RUN = "mlcc-run"
PROGRAMS = {"containers": "podman", "libpod": "podman", "skopeo": "skopeo", "docker": "docker"}
CLIENTS = {
    "boto3": "boto3", "aws-cli": "aws CLI", "sagemaker.core": "sagemaker.core", "sagemaker.train": "sagemaker.train",
    "sagemaker.serve": "sagemaker.serve", FROM_INSIDE: FROM_INSIDE, OWN_RUN: "own runs",
}  # fmt: skip

_DESCRIBING = ("Describe", "List", "Get", "Batch")

#: service -> operation -> client -> "sent", "looked", "answered", "errors": names with spaces between
Recording = Mapping[str, Mapping[str, Mapping[str, Mapping[str, str]]]]

HEAD = """\
# What the local AWS answers

Made by `make parity`; a test fails when it no longer fits the code. The operations come from the services' own tables. The rest is
what happened: the client suites of `tests_e2e/clients` ran unmodified clients against the local AWS, which noted every call.

- **acted on**: members of the request that some client sent and that the operation asks for by name while it answers.
- **kept**: sent to an operation that makes or changes something, and answered again under the same name by one that describes it.
- **accepted**: sent, and handed on with the rest of the request. The recording can't tell whether it had an effect.
- *of n*: how many members AWS's model has at the top level. Nobody sent the others: only the model's rules are checked.
- **refused with**: the errors that clients met beyond the model's own rules.

An operation that is not here answers `UnknownOperationException`; `mlcc local status` and the end of a run count such calls.
"""


def served() -> dict[str, list[str]]:
    """The operations of each service that the local AWS answers itself, by the service's name in botocore."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / ".mlcc" / "local"
        context = ServerContext(
            state_dir=state, endpoint_url="http://127.0.0.1:9", account="123456789012", region="us-west-2",
            engine_socket=state / "engine.sock", twins_dir=state, changed=lambda: None,
        )  # fmt: skip
        services = hosted_services(lambda _: context).values()
        found = {plane.name: sorted(plane.operations) for service in services for plane in planes_of(service)}
        for service in services:
            service.close()
    return dict(sorted(found.items()))


def merged(files: Iterable[Path]) -> Recording:
    """What the recordings say together."""
    found: Any = defaultdict(lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(set))))
    for fact in (json.loads(line) for file in files for line in file.read_text().splitlines()):
        client = PROGRAMS.get(fact["client"], fact["client"] if fact["client"] in CLIENTS else "")
        if client:
            row = found[fact["service"]][fact["operation"]][client]
            row["errors"] |= {fact["error"]} - {""}
            for key in ("sent", "looked", "answered") if not fact["error"] else ():
                row[key] |= set(fact[key])
    # members in one line: a file of a line each is hard to review
    return json.loads(json.dumps(found, default=lambda members: " ".join(sorted(members)), sort_keys=True))


def untested(recording: Recording) -> list[str]:
    """The operations that are served and that no client asked for."""
    return [f"{service}:{one}" for service, operations in served().items() for one in operations if not recording.get(service, {}).get(one)]


def rendered(recording: Recording) -> str:
    """The whole document."""
    ours = served()
    parts = [HEAD, *(_service(name, operations, recording.get(name, {})) for name, operations in ours.items())]
    parts += [_registry(recording.get("registry", {})), _others(recording, set(ours) | {"registry"})]
    return "\n".join(parts)


def _service(name: str, operations: list[str], recording: Mapping[str, Any]) -> str:
    model = service_model(name)
    shown = {
        path for one, clients in recording.items() if one.startswith(_DESCRIBING) for row in clients.values()
        for path in row.get("answered", "").split()
    }  # fmt: skip
    lines = [
        f"## {name}\n",
        f"{len(operations)} of {len(model.operation_names)} operations.\n",
        "| operation | request | answer | refused with | asked by |",
        "|---|---|---|---|---|",
        *(_row(model.operation_model(one), recording.get(one, {}), shown) for one in operations),
    ]
    return "\n".join(lines) + "\n"


def _row(operation: Any, clients: Mapping[str, Any], shown: set[str]) -> str:
    sent, looked, answered = (
        {path for row in clients.values() for path in row.get(key, "").split()} for key in ("sent", "looked", "answered")
    )
    errors = sorted({code for row in clients.values() for code in row.get("errors", "").split()})
    request, whole = _top(sent), _members(operation.input_shape)
    kept = (request - looked) & shown if not operation.name.startswith(_DESCRIBING) else set()
    groups = (("acted on", request & looked), ("kept", kept), ("accepted", request - looked - kept))
    told = "; ".join(f"**{label}** {', '.join(sorted(names))}" for label, names in groups if names)
    answer = _members(operation.output_shape)
    seen = _top(answered) & answer
    return (
        f"| {operation.name} | {told}{' ' if told else ''}*{len(request)} of {len(whole)}* | *{len(seen)} of {len(answer)}* "
        f"| {', '.join(errors)} | {_clients(clients)} |"
    )


def _members(shape: Any) -> set[str]:
    return set(shape.members) if shape else set()


def _top(paths: Iterable[str]) -> set[str]:
    return {path for path in paths if not {".", "["} & set(path)}


def _clients(clients: Iterable[str]) -> str:
    order = [*CLIENTS, *dict.fromkeys(PROGRAMS.values())]
    return ", ".join(CLIENTS.get(one, one) for one in sorted(clients, key=order.index)) or "nobody"


def _registry(recording: Mapping[str, Any]) -> str:
    lines = ["## the image registry (Docker Registry v2)\n", "| request | asked by |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{one}` | {_clients(clients)} |" for one, clients in sorted(recording.items()))]) + "\n"


def _others(recording: Recording, ours: set[str]) -> str:
    lines = [
        "## Services of ministack\n",
        "Every other service is ministack's, and only as true as that is. These operations of it were used, and worked, here.\n",
        "| service | in this project's own runs | by the client suites besides |",
        "|---|---|---|",
    ]
    for service in sorted(set(recording) - ours):
        good = {one: {c for c, row in clients.items() if "sent" in row} for one, clients in recording[service].items()}
        own = sorted(one for one, clients in good.items() if OWN_RUN in clients)
        more = sorted(one for one, clients in good.items() if clients and OWN_RUN not in clients)
        lines += [f"| {service} | {', '.join(own)} | {', '.join(more)} |"] if own or more else []
    return "\n".join(lines) + "\n"


# --- recording ------------------------------------------------------------------------------------------------------------


def record(calls: Path) -> None:
    """Run the suites, and two models of the ci tier, with recording on. Raises SystemExit where one of them fails."""
    environment = {**os.environ, VARIABLE: str(calls)}
    _pytest(ROOT, environment, "-n", str(min(2, os.cpu_count() or 1)), "tests_e2e/clients")
    with tempfile.TemporaryDirectory(prefix="mlcc-parity-") as folder:
        project = Path(folder)
        shutil.copytree(ROOT / "catalog", project / "catalog")
        shutil.copy(ROOT / "tests_e2e" / "test_lifecycle.py", project)
        (project / "pytest.ini").write_text("[pytest]\nmlcc_catalog = catalog/e2e.json\n")
        own = {**environment, "AWS_SDK_UA_APP_ID": OWN_RUN}
        _pytest(project, own, "--mlcc-entry", "rt-qwen3-06b", "test_lifecycle.py")


def _pytest(directory: Path, environment: Mapping[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *arguments]
    code = subprocess.run(command, cwd=directory, env=dict(environment), check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command)} in {directory}: exit {code}; nothing was written")


def _files(calls: Path) -> Iterator[Path]:
    yield from sorted(calls.glob("*.jsonl"))


def main() -> None:
    """Record, merge, render."""
    parser = argparse.ArgumentParser(prog="make parity", description=__doc__)
    parser.add_argument("--render", action="store_true", help="only write the table anew, from docs/parity.json")
    parser.add_argument("--calls", type=Path, help="use these recordings instead of making them")
    options = parser.parse_args()
    if not options.render:
        with tempfile.TemporaryDirectory(prefix="mlcc-calls-") as folder:
            calls = options.calls or Path(folder)
            if options.calls is None:
                record(calls)
            DATA.parent.mkdir(exist_ok=True)
            DATA.write_text(json.dumps(merged(_files(calls)), indent=1, sort_keys=True) + "\n")
    recording = json.loads(DATA.read_text())
    TABLE.write_text(rendered(recording))
    for name in untested(recording):
        print(f"asked for by no client: {name}")


if __name__ == "__main__":
    main()
