"""The scripts driver: each stage is a script of the generated project, run as it was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_mlcc.aws.errors import attempt, translated
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.catalog.entry import Entry
from pytest_mlcc.drivers.scripts import commands, facts, images, private_tmp, schemas, state, tools, verdict, waits
from pytest_mlcc.drivers.scripts.commands import Command, Plan
from pytest_mlcc.drivers.scripts.environment import of_track
from pytest_mlcc.drivers.scripts.home import found_profile, make_home, profile_of
from pytest_mlcc.drivers.scripts.install import Generator
from pytest_mlcc.drivers.scripts.names import Names
from pytest_mlcc.drivers.scripts.options import ScriptOptions
from pytest_mlcc.drivers.scripts.process import Finished
from pytest_mlcc.drivers.scripts.scene import Scene
from pytest_mlcc.drivers.scripts.traces import alive, traces
from pytest_mlcc.errors import FailureClass, StageError, StageTimeout
from pytest_mlcc.lifecycle.outcome import LEFT_BY_SCRIPTS
from pytest_mlcc.lifecycle.ports import Answer, Context, RunInfo, Step

__all__ = ["Scripts"]

_REFUSED = 3
_UNDEPLOYED = "Contract violation: deployment-active"


class Scripts:
    """Implements :class:`~pytest_mlcc.lifecycle.ports.Driver` with a generated project's own scripts.

    ``accept_eula`` says whether the user accepts the licence of an entry's model. What the scripts may create stands in the ledger,
    by the beginning of its name, before they run; the cleaner deletes what ``do/clean`` left. What stays: logs, finished builds and
    jobs, and what all runs share: the buckets and the ECR repository.
    """

    name = "scripts"

    def __init__(self, aws: Aws, *, accept_eula: Callable[[Entry], bool], options: ScriptOptions) -> None:
        self._aws = aws
        self._accept_eula = accept_eula
        self._options = options
        self._profiles: dict[str, Mapping[str, Any]] = {}

    def ready(self, steps: Sequence[str] = ()) -> None:
        """Return where every tool that these steps need is there. Raises ConfigurationError with all that are not, and what gets each."""
        tools.check(self._options.project, engine=self._options.needs_engine(local=self._aws.endpoint_url is not None), steps=steps)

    def run(self, stage: str, context: Context) -> Mapping[str, Any]:
        """Do one stage and return its facts. Raises StageError with the script's own words and, where they tell it, a class."""
        scene = self._scene(context)
        if stage == "generate":
            return self._generate(scene)
        if stage == "clean":
            return self._clean(scene)
        return self._stage(stage, scene)

    def ask(self, prompt: str, context: Context, *, adapter: bool = False, max_tokens: int = 64) -> Answer:
        """One question to the entry's base component or adapter, under greedy decoding. Raises StageError where it has none."""
        from pytest_mlcc.drivers.native import ask
        from pytest_mlcc.drivers.native.names import Names as NativeNames
        from pytest_mlcc.drivers.native.work import Options, Work

        names = NativeNames(context.entry.id, context.run.run_id, self._aws.account(), context.entry.args.region)
        work = Work(self._aws, context, Options(), names)
        component = str(work.fact("adapter-add" if adapter else "deploy", "component"))
        return ask.chat(work, ask.user(prompt), component=component, max_tokens=max_tokens)

    def steps(self, stage: str, entry: Entry, run: RunInfo) -> Sequence[Step]:
        """The exact command lines of a stage, with notes that a shell takes for comments; calls nothing."""
        plan = self._plan(entry, run)
        if stage == "generate":
            line = commands.generate(plan, "WORKSPACE/project").line
            return (Step(line, "# WORKSPACE: a folder of the entry's own; the commands below run in WORKSPACE/project"),)
        found = commands.commands(stage, plan)
        return [Step(one.line, f"# {one.note}" if one.note else "") for one in found] or [Step("# do/submit has pushed the image already")]

    def _plan(self, entry: Entry, run: RunInfo) -> Plan:
        accepts = entry.accept_eula and self._accept_eula(entry)
        return Plan(Names(entry, run.run_id), self._options.strategy, accepts_eula=accepts, offline=self._aws.endpoint_url is not None)

    def _scene(self, context: Context) -> Scene:
        return Scene(
            aws=self._aws,
            context=context,
            plan=self._plan(context.entry, context.run),
            options=self._options,
            generator=Generator(self._options.project),
            profile=self._profile(context.entry.args.region, context.log),
        )

    def _profile(self, region: str, log: Callable[[str], None]) -> Mapping[str, Any]:
        """What the scripts read as bootstrap's work; the user's own on AWS, where there is one."""
        if region not in self._profiles:
            account, role = self._aws.account(), self._options.role
            own = found_profile(Path.home()) if self._aws.endpoint_url is None else None
            arn = role if role is None or role.startswith("arn:") else f"arn:aws:iam::{account}:role/{role}"
            token = self._token_arn(region, log)
            self._profiles[region] = profile_of(account=account, region=region, role_arn=arn, token_arn=token, own=own)
        return self._profiles[region]

    def _token_arn(self, region: str, log: Callable[[str], None]) -> str | None:
        """Where the token for gated models lies; its value is for the scripts to fetch."""
        name = self._options.hf_token_secret
        if not name:
            return None
        with translated(f"look for the secret {name}"):
            describe = self._aws.client("secretsmanager", region).describe_secret
            found = attempt(describe, refusals=("ResourceNotFoundException", "AccessDeniedException"), SecretId=name)
        if found is None:
            log(f"there is no secret {name} in {region} that these credentials may see: scripts get no token for gated models")
            return None
        return str(found["ARN"])

    def _generate(self, scene: Scene) -> Mapping[str, Any]:
        self.ready(scene.context.entry.steps)
        shutil.rmtree(scene.folder, ignore_errors=True)
        scene.prepare()
        make_home(scene.place.home, scene.profile, credentials=None if scene.is_local else Path.home() / ".aws")
        if scene.is_local:
            scene.log(waits.told())
        scene.script(commands.generate(scene.plan, str(scene.folder)), cwd=scene.context.workspace)
        if not (scene.folder / "do" / "config").is_file():
            raise StageError(f"the generator ended well but wrote no do/config below {scene.folder}", failure_class=FailureClass.CODE_BUG)
        sums = state.checksums(scene.folder)
        scene.checksums.write_text(json.dumps(dict(sums)), encoding="utf-8")
        return {
            "project": str(scene.folder),
            "projectName": scene.names.project,
            "baseImage": state.defaults(scene.config).get("BASE_IMAGE"),
            "buildStrategy": str(self._options.strategy),
            "model": scene.context.entry.args.model_name,
            "generator": scene.generator.version or "of this machine",
            "files": len(sums),
        }

    def _stage(self, stage: str, scene: Scene) -> Mapping[str, Any]:
        scene.require_project()
        for resource in traces(stage, scene.names, scene.profile, self._options.strategy):
            scene.context.ledger.intend(resource)
        self._prepare(stage, scene)
        finished = [self._run_one(command, scene, stage) for command in commands.commands(stage, scene.plan)]
        try:
            return facts.learned(stage, scene)
        except StageError as error:
            error.output = error.output or "\n".join(line for one in finished for line in one.stdout[-10:])
            raise

    def _prepare(self, stage: str, scene: Scene) -> None:
        """What a script needs beside its variables."""
        if stage == "deploy":
            for name, value in {"ENDPOINT_NAME": scene.names.placeholder, **of_track(scene.names, scene.profile)}.items():
                if state.put_export(scene.config, name, value):
                    scene.log(f"do/config: {name}={value}, so that do/deploy asks nobody")
        if stage == "validate":
            scene.log(f"do/validate reads {schemas.provide(scene.place.home, Path.home())}")

    def _run_one(self, command: Command, scene: Scene, stage: str) -> Finished:
        try:
            if command.script in private_tmp.FIXED_NAMES and not private_tmp.possible():
                with private_tmp.alone(command.script, scene.context.deadline, scene.log):
                    return scene.script(command)
            return scene.script(command)
        except StageTimeout:
            raise
        except StageError as error:
            reason = facts.reason(stage, scene)
            if not reason:
                raise
            scene.log(f"SageMaker says: {reason}")
            raise facts.with_reason(error, reason) from error

    def _clean(self, scene: Scene) -> Mapping[str, Any]:
        if not scene.folder.is_dir():
            scene.log(f"there is no project {scene.folder}: nothing to clean")
            return {}
        failed = self._run_clean(scene)
        left = [f"{one.kind} {one.name}" for one in alive(self._aws, scene.context.ledger.open())]
        left += [f"local-image {name}" for name in images.remove_left(scene)]
        for line in left:
            scene.log(f"left by the scripts: {line}")
        found = {LEFT_BY_SCRIPTS: left, "files_changed_by_others": self._changed(scene)}
        if failed is not None:
            failed.facts = found
            raise failed
        scene.forget()
        return found

    def _run_clean(self, scene: Scene) -> StageError | None:
        """Run the project's own clean; what went wrong, which must not keep anybody from looking what is left."""
        (command,) = commands.commands("clean", scene.plan)
        try:
            scene.keep_benchmarks()
            scene.log(f"$ {command.line}  # {command.note}")
            finished = scene.process(command)
            if finished.status == _REFUSED and any(_UNDEPLOYED in line for line in finished.stdout):
                scene.log("do/clean refuses to clean what was not deployed: all of it is deleted by its names instead")
                return None
            verdict.check(finished, command.words[0])
        except StageError as error:
            return error
        return None

    def _changed(self, scene: Scene) -> list[str]:
        """The project's files that somebody else than its scripts changed since it was generated."""
        if not scene.checksums.is_file():
            return []
        changed = state.strangers(json.loads(scene.checksums.read_text(encoding="utf-8")), state.checksums(scene.folder))
        scene.log(f"generated files that others than the scripts changed: {', '.join(changed) or 'none'}")
        return changed
