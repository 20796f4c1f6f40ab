"""A site on the file system, for tests of what pytest sees: a resource is a file below ``cloud/``, a record a line.

It obeys the same Protocol as the real one, so the plugin under test is whole; only the cloud is small. What goes wrong,
and where, stands in ``faults.json``: ``{"rt-a": {"deploy": "fail"}}``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.errors import ClaimRefused, FailureClass, LocalAwsError, MlccError, StageError, StageTimeout
from pytest_mlcc.lifecycle import policy
from pytest_mlcc.lifecycle.ports import Answer, Resource, Step

CREATES = {"build": "image", "deploy": "endpoint", "tune-sft": "training-job", "adapter-add": "adapter"}


class FakeDriver:
    name = "fake"

    def __init__(self, project):
        self._project = project

    def run(self, stage, context):
        self._note(f"{context.entry.id} {stage}")
        if kind := CREATES.get(stage):
            resource = Resource(kind, f"{context.entry.id}-{kind}", "us-west-2")
            context.ledger.intend(resource)
            folder = self._project / "cloud"
            folder.mkdir(exist_ok=True)
            (folder / resource.name).touch()
        context.log(f"{stage} of {context.entry.id} at work")
        fault = self._faults().get(context.entry.id, {}).get(stage, "")
        getattr(self, "_fault_" + (fault.partition(":")[0] or "none"))(fault.partition(":")[2], context)
        return {"stage": stage}

    def ask(self, prompt, context, *, adapter=False, max_tokens=64):
        return Answer(f"echo {prompt}", 3, 2, 0.01, "stop")

    def steps(self, stage, entry, run):
        return [Step(f"fake:{stage}", entry.args.model_name)]

    def _faults(self):
        path = self._project / "faults.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def _note(self, text):
        with (self._project / "events.log").open("a") as file:
            file.write(text + "\n")

    def _fault_none(self, argument, context):
        pass

    def _fault_fail(self, argument, context):
        cause = FailureClass.CAPACITY if "capacity" in argument else None
        raise StageError(argument or "it broke", failure_class=cause, output="the last words\nof a program")

    def _fault_hang(self, argument, context):
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
        (self._project / "child.pid").write_text(str(child.pid))
        threading.Event().wait(60)

    def _fault_keep(self, argument, context):
        """A stage that keeps its time limit by itself, and needs a moment to end what it started."""
        threading.Event().wait(context.deadline.remaining() + 0.2)
        raise StageTimeout("its program was ended", output="waiting for the registry")

    def _fault_swallow(self, argument, context):
        """A stage that swallows every exception it can."""
        while True:
            try:
                threading.Event().wait(60)
            except Exception:
                continue

    def _fault_lose(self, argument, context):
        """A stage that loses the interrupt, as the sagemaker SDK does, and then breaks for want of what it waited for."""

        def wait():
            try:
                threading.Event().wait(60)
            finally:
                return  # noqa: B012

        wait().name  # noqa: B018

    def _fault_die(self, argument, context):
        os.kill(os.getpid(), signal.SIGKILL)

    def _fault_signal(self, argument, context):
        """The run is told to stop by a signal to its leader, in the middle of this stage."""
        os.kill(int(os.environ.get("LEADER", os.getpid())), getattr(signal, argument))
        threading.Event().wait(60)


class FakeCleaner:
    def __init__(self, project):
        self._project = project

    def clean(self, ledger, *, log):
        stuck = (self._project / "stuck").exists()
        left = []
        for resource in ledger.open():
            log(f"deleting {resource.kind} {resource.name}")
            if stuck:
                log("AccessDeniedException: the role may not delete")
            path = self._project / "cloud" / resource.name
            if not stuck:
                path.unlink(missing_ok=True)
                ledger.gone(resource)
            else:
                left.append(resource)
        return left


class FakeSite:
    secrets = ("swordfish-2000",)

    def __init__(self, blueprint):
        self._blueprint = blueprint
        self.driver = FakeDriver(blueprint.project)
        self.cleaner = FakeCleaner(blueprint.project)

    def ledger(self, entry):
        return FileLedger(self._blueprint.run_dir / "ledger" / f"{entry.id}.jsonl")

    def begin(self, entry):
        if entry.id in os.environ.get("CLAIMED", "").split(","):
            raise ClaimRefused(f"{entry.id} is claimed by run 20260101T000000-beef until 2026-01-01T01:00:00Z")

    def end(self, entry):
        pass

    def record(self, verdict):
        if (self._blueprint.project / "table-is-down").exists():
            raise MlccError("the table mlcc-ci-table can't be written: ProvisionedThroughputExceededException")
        line = {
            "entry": verdict.entry.id,
            "status": policy.status(verdict.stages, verdict.outcomes),
            "stages": {name: str(outcome.result) for name, outcome in verdict.outcomes.items()},
        }
        with (self._blueprint.project / "records.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        return ""

    def publish(self, verdicts, seconds):
        return ["published"]

    def close(self):
        pass

    def shut_down(self):
        if (self._blueprint.project / "cloud-stays").exists():
            raise LocalAwsError("waited 20 s for the local AWS (pid 1) to end")
