"""Every option once: its flag, ini key, environment variable, default and help; and where each value came from.

Order of precedence: command line, environment, ini file, default; a catalog entry's own driver stands before the ini file.
``--mlcc-catalog``, ``mlcc_catalog`` and ``MLCC_CATALOG`` are three doors to the same value.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pytest_mlcc.errors import ConfigurationError, Problem

__all__ = ["DRIVERS", "OPTIONS", "DriverName", "Option", "Settings", "Source", "read"]


class Source(StrEnum):
    """Where a value came from, in the words of the report header."""

    FLAG = "command line"
    ENVIRONMENT = "environment"
    INI = "ini"
    DEFAULT = "default"


class DriverName(StrEnum):
    """Who can carry a stage out."""

    NATIVE = "native"
    SCRIPTS = "scripts"


@dataclass(frozen=True, slots=True)
class Option:
    """One setting. ``kind`` is how a text becomes a value: ``text``, ``path``, ``switch``, ``list``, ``number``, or ``named``:
    one of the choices, or else the path of a file, as a text.
    """

    name: str
    help: str
    kind: str = "text"
    default: Any = None
    choices: tuple[str, ...] = ()
    metavar: str | None = None

    @property
    def flag(self) -> str:
        """The command line's spelling."""
        return "--mlcc-" + self.name.replace("_", "-")

    @property
    def ini(self) -> str:
        """The key in ``pytest.ini`` or ``[tool.pytest.ini_options]``."""
        return "mlcc_" + self.name

    @property
    def environment(self) -> str:
        """The environment variable."""
        return "MLCC_" + self.name.upper()

    def words(self, value: Any) -> list[str]:
        """The words of a command line that give it this value."""
        if self.kind == "switch":
            return [self.flag] if value else []
        values = value if self.kind == "list" else [f"{value:g}" if self.kind == "number" else value]
        return [f"{self.flag}={one}" for one in values]


DRIVERS: Mapping[str, str] = MappingProxyType({"local": DriverName.NATIVE, "aws": DriverName.SCRIPTS})
"""The driver that each target has where nobody chose one: on AWS, what users of the generated projects run."""

OPTIONS: tuple[Option, ...] = (
    Option("catalog", "Catalog of models to take through their lifecycle (JSON).", "path", metavar="FILE"),
    Option(
        "target",
        "Where stages run: 'local' (an AWS on this machine, free; calls that leave it are refused) or 'aws' (your account, costs money).",
        default="local",
        choices=("local", "aws"),
    ),
    Option(
        "driver",
        "Who carries a stage out: 'native' (boto3 and the sagemaker SDK) or 'scripts' (a generated project's own do/* scripts). "
        'Default: what the entry\'s own "driver" says, else native on the local AWS, scripts on AWS.',
        choices=tuple(DriverName),
    ),
    Option("entry", "Run exactly this catalog entry (may be given again); unlike -k, never a substring.", "list", metavar="ID"),
    Option("stage", "Run exactly this stage (may be given again) and the stages it needs.", "list", metavar="STAGE"),
    Option("dry_run", "Print each entry's steps, API calls, instance and estimated cost; execute nothing.", "switch", default=False),
    Option("verbose", "Show the live output of stages.", "switch", default=False),
    Option("save_local", "Also save results.json, summary.md and stage logs below this folder.", "path", metavar="DIR"),
    Option("stage_timeout", "Seconds that any stage but clean may take, whatever the catalog says.", "number", metavar="S"),
    Option("region", "AWS region of tables and buckets; entries name their own.", default="us-west-2", metavar="REGION"),
    Option("role", "Execution role (name or ARN) of endpoints and tuning jobs.", default="mlcc-sagemaker-execution-role", metavar="ROLE"),
    Option("build_role", "Service role (name or ARN) of the CodeBuild project.", default="mlcc-codebuild-role", metavar="ROLE"),
    Option(
        "accept_eula",
        "You accept the licences of gated models; on AWS they can't be tuned without.",
        "switch",
        default=False,
    ),
    Option(
        "hf_token_secret",
        "Secrets Manager secret with a Hugging Face token.",
        default="mlcc/hf-token",
        metavar="NAME",
    ),
    Option(
        "mlflow_arn",
        "MLflow app or server that tuning jobs report to (else an app of the account that is ready).",
        metavar="ARN",
    ),
    Option(
        "latency",
        "How long the local AWS takes: 'instant', 'aws' (the delays AWS has, as far as figures are known) or a YAML file of your own.",
        "named",
        default="instant",
        choices=("instant", "aws"),
        metavar="{instant,aws,FILE}",
    ),
    Option(
        "time_scale",
        "Divide the delays of --mlcc-latency: with 60, a minute on AWS takes a second here.",
        "number",
        default=1.0,
        metavar="N",
    ),
    Option(
        "faults",
        "YAML file of faults that the local AWS rehearses: throttling, missing capacity, failing jobs, ...",
        "path",
        metavar="FILE",
    ),
    Option(
        "runtime",
        "How the local AWS runs images: 'process' (on this machine's Python, no engine needed), 'container' (podman or docker) or 'auto' "
        "(processes, and containers for images whose Dockerfile needs an engine, where there is one).",
        default="auto",
        choices=("auto", "process", "container"),
    ),
    Option(
        "build_strategy",
        "Where the scripts driver builds: 'docker-in-docker' (do/build and do/push, on this machine) or 'codebuild-submit' (do/submit).",
        default="docker-in-docker",
        choices=("docker-in-docker", "codebuild-submit"),
    ),
    Option("table", "DynamoDB table of records.", default="mlcc-ci-table", metavar="NAME"),
    Option("history_table", "DynamoDB table of history.", default="mlcc-ci-history", metavar="NAME"),
    Option("owner", "Owner written into the tags of everything created (default: the user's name).", metavar="NAME"),
    Option("max_hours", "Hours after which anyone may delete what a run left (tag mlcc:expires).", "number", default=12.0, metavar="H"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The value of every option, and where each came from."""

    catalog: Path | None
    target: str
    driver: str
    entry: tuple[str, ...]
    stage: tuple[str, ...]
    dry_run: bool
    verbose: bool
    save_local: Path | None
    stage_timeout: float | None
    region: str
    role: str
    build_role: str
    accept_eula: bool
    hf_token_secret: str
    mlflow_arn: str | None
    latency: str
    time_scale: float
    faults: Path | None
    runtime: str
    build_strategy: str
    table: str
    history_table: str
    owner: str | None
    max_hours: float
    sources: Mapping[str, Source]

    def given(self, *, but: Collection[str] = ()) -> list[str]:
        """The words of the command line that set these options, as a re-run needs them; without the options named in ``but``."""
        chosen = [option for option in OPTIONS if self.sources[option.name] is Source.FLAG and option.name not in but]
        return [word for option in chosen for word in option.words(getattr(self, option.name))]

    def driver_for(self, wish: str | None) -> str:
        """The driver of an entry whose catalog wishes for one: a command line or an environment overrules it, an ini file does not."""
        told = self.sources["driver"] in (Source.FLAG, Source.ENVIRONMENT)
        return str(self.driver if told or wish is None else wish)

    def shown(self, name: str) -> str:
        """A value with its source, for the report header: ``local (default)``, ``native (default for local)``."""
        depends = f" for {self.target}" if name == "driver" and self.sources[name] is Source.DEFAULT else ""
        return f"{getattr(self, name)} ({self.sources[name]}{depends})"


def read(
    flags: Callable[[str], Any],
    ini: Callable[[str], Any],
    *,
    environment: Mapping[str, str] | None = None,
    base: Path,
) -> Settings:
    """Settings from a command line, an environment and an ini file.

    ``flags`` and ``ini`` look a value up by option name and ini key and answer None (or an empty value) where there is none.
    Relative paths of the ini file are relative to ``base``, others to the working directory.
    Raises ConfigurationError with every mistake.
    """
    environment = os.environ if environment is None else environment
    problems = [_unknown(name) for name in environment if name.startswith("MLCC_") and not _is_known(name)]
    values: dict[str, Any] = {}
    sources: dict[str, Source] = {}
    for option in OPTIONS:
        raw, source = _pick(option, flags(option.name), environment.get(option.environment), ini(option.ini))
        sources[option.name] = source
        try:
            values[option.name] = _convert(option, raw, base if source is Source.INI else Path.cwd())
        except ValueError as error:
            problems.append(Problem(_place(option, source), str(error)))
    if not problems and sources["driver"] is Source.DEFAULT:
        values["driver"] = DRIVERS[values["target"]]
    if not problems and values["target"] == "aws":
        problems = list(_rehearsed_on_aws(values, sources))
    if problems:
        raise ConfigurationError(problems)
    return Settings(**values, sources=sources)


def _rehearsed_on_aws(values: Mapping[str, Any], sources: Mapping[str, Source]) -> Iterator[Problem]:
    """Delays, faults and runtimes are the local AWS's; who asks for them with AWS as target is about to spend money by mistake."""
    for option in OPTIONS:
        if option.name in ("latency", "time_scale", "faults", "runtime") and values[option.name] != option.default:
            place = _place(option, sources[option.name])
            yield Problem(place, "is for the local AWS only, but the target is aws", "leave it out, or choose --mlcc-target local")


# Variables that children of a run read; not options of a user.
_INTERNAL = frozenset(
    {
        "MLCC_ENGINE_SOCKET", "MLCC_PINNED_ENDPOINT", "MLCC_PLACES", "MLCC_RECORD_CALLS", "MLCC_ROOTFS", "MLCC_SKIP_SECRET_DISCOVERY",
        "MLCC_SLEEP_SCALE", "MLCC_TWINS_DIR",
    }
)  # fmt: skip


def _is_known(name: str) -> bool:
    return name in _INTERNAL or any(option.environment == name for option in OPTIONS)


def _unknown(name: str) -> Problem:
    near = _near(name, [option.environment for option in OPTIONS])
    return Problem(f"environment variable {name}", "is not an option of pytest-mlcc", f"did you mean {near}?" if near else "unset it")


def _near(name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches  # the catalog imports this module, and most sessions make no mistake

    return next(iter(get_close_matches(name, known, n=1)), "")


def _pick(option: Option, flag: Any, variable: str | None, ini: Any) -> tuple[Any, Source]:
    if flag not in (None, [], False):
        return flag, Source.FLAG
    if variable not in (None, ""):
        return variable, Source.ENVIRONMENT
    if ini not in (None, "", [], False):
        return ini, Source.INI
    return option.default, Source.DEFAULT


def _place(option: Option, source: Source) -> str:
    return {Source.FLAG: option.flag, Source.ENVIRONMENT: option.environment}.get(source, option.ini)


def _convert(option: Option, raw: Any, base: Path) -> Any:
    if option.kind == "list":
        return tuple(raw.replace(",", " ").split()) if isinstance(raw, str) else tuple(raw or ())
    if option.kind == "switch":
        return _switch(raw)
    if raw is None:
        return None
    if option.kind == "path" or (option.kind == "named" and str(raw) not in option.choices):
        path = (base / Path(str(raw)).expanduser()).resolve()
        return path if option.kind == "path" else str(path)
    if option.kind == "number":
        return _positive(raw)
    return _chosen(option, str(raw))


def _switch(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    text = str(raw).strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"{raw!r} is neither yes nor no (use 1 or 0)")


def _positive(raw: Any) -> float:
    try:
        number = float(raw)
    except (TypeError, ValueError):
        raise ValueError(f"{raw!r} is not a number") from None
    if not 0 < number < float("inf"):
        raise ValueError(f"{raw!r} is not a number above zero")
    return number


def _chosen(option: Option, text: str) -> str:
    if option.choices and text not in option.choices:
        near = _near(text, option.choices)
        raise ValueError(f"{text!r} is not one of {', '.join(option.choices)}" + (f"; did you mean {near!r}?" if near else ""))
    return text
