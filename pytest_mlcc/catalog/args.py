"""An entry's ``args``: the generator's flags as the catalog writes them, and as the rest of the package reads them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from pytest_mlcc.catalog.config_id import canonical_target
from pytest_mlcc.catalog.mistake import show
from pytest_mlcc.catalog.suggest import did_you_mean
from pytest_mlcc.errors import CatalogError, Problem

__all__ = ["REQUIRED_FLAGS", "Args", "Flags", "flag_problems", "split_flags"]

REQUIRED_FLAGS = ("deployment-config", "instance-type", "region", "deployment-target")
"""Without these an entry has no configId."""

REPEATABLE_FLAGS = frozenset({"ic-env", "model-env", "server-env"})

_SWITCHES = """
    auto-prompt benchmark-streaming discover enable-lora force include-benchmark include-sample include-testing no-validate
    offline skip-prompts smart validate-env-vars validate-with-docker
"""
SWITCHES = frozenset(_SWITCHES.split())
"""Flags that stand alone; ``true`` or ``false`` may follow."""

_VALUE_FLAGS = """
    async-max-concurrent async-s3-output-path async-sns-error-topic async-sns-success-topic base-image
    batch-input-path batch-instance-count batch-join-source batch-max-concurrent batch-max-payload batch-output-path
    batch-split-type batch-strategy benchmark-concurrency benchmark-input-tokens benchmark-output-tokens
    benchmark-request-count benchmark-s3-output-path build-target codebuild-compute-type config deployment-config
    deployment-target endpoint-data-capture-percent endpoint-initial-instance-count endpoint-variant-name
    endpoint-volume-size framework fsx-volume-handle hf-token hf-token-arn hyperpod-cluster hyperpod-namespace
    hyperpod-replicas ic-copy-count ic-cpu-count ic-gpu-count ic-memory-size ic-model-weight instance-type
    max-lora-rank max-loras model-format model-name model-server ngc-token ngc-token-arn project-dir project-name
    region role-arn test-types
"""
VALUE_FLAGS = REPEATABLE_FLAGS | frozenset(_VALUE_FLAGS.split())
"""The other flags of ml-container-creator 1.6.0's generator; each wants a value."""

KNOWN_FLAGS = tuple(sorted(SWITCHES | VALUE_FLAGS))
SECRET_FLAGS = frozenset({"hf-token", "ngc-token"})


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of an args string in their order; a switch without a value has the value None."""

    pairs: tuple[tuple[str, str | None], ...]
    strays: tuple[str, ...] = ()
    error: str = ""

    def get(self, name: str) -> str | None:
        """The value of the first flag of this name, or None."""
        return next((value for flag, value in self.pairs if flag == name), None)

    def is_on(self, name: str) -> bool:
        """True where the switch is given and not given as ``false``."""
        return any(flag == name and value in (None, "true") for flag, value in self.pairs)


@dataclass(frozen=True, slots=True)
class Args:
    """The generator's flags of one entry, parsed. ``flags`` keeps all of them, also those without a field here."""

    raw: str
    deployment_config: str
    model_name: str | None
    instance_type: str
    region: str
    deployment_target: str
    enable_lora: bool = False
    flags: Flags = field(default=Flags(()), repr=False)

    @classmethod
    def parse(cls, raw: str) -> Args:
        """Read an args string on its own. Raises CatalogError with every mistake in it."""
        flags = split_flags(raw)
        problems = flag_problems(flags)
        if problems:
            raise CatalogError([Problem("args", message, hint) for message, hint in problems])
        return cls.from_flags(raw, flags)

    @classmethod
    def from_flags(cls, raw: str, flags: Flags) -> Args:
        """Build from flags that were found free of mistakes."""
        return cls(
            raw=raw,
            deployment_config=flags.get("deployment-config") or "",
            model_name=flags.get("model-name"),
            instance_type=flags.get("instance-type") or "",
            region=flags.get("region") or "",
            deployment_target=canonical_target(flags.get("deployment-target") or ""),
            enable_lora=flags.is_on("enable-lora"),
            flags=flags,
        )


def split_flags(raw: str) -> Flags:
    """Cut an args string into flags: ``--name=value``, ``--name value`` and ``--name``, quotes as in a shell."""
    try:
        # shlex reads character by character, which a catalog of thousands of entries would feel
        words = shlex.split(raw) if any(char in raw for char in "\"'\\") else raw.split()
    except ValueError as error:
        return Flags((), error=str(error))
    return _pair(words)


def _pair(words: Sequence[str]) -> Flags:
    pairs: list[tuple[str, str | None]] = []
    strays: list[str] = []
    for word in words:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            pairs.append((name, value if equals else None))
        elif pairs and pairs[-1][1] is None and _takes(pairs[-1][0], word):
            pairs[-1] = (pairs[-1][0], word)
        else:
            strays.append(word)
    return Flags(tuple(pairs), tuple(strays))


def _takes(name: str, word: str) -> bool:
    return name not in SWITCHES or word in ("true", "false")


def flag_problems(flags: Flags) -> list[tuple[str, str]]:
    """Every mistake in the flags themselves, as message and hint; what they refer to is checked elsewhere."""
    if flags.error:
        return [(f"cannot be split into flags: {flags.error}", "quotes must come in pairs")]
    found = [(f"{show(stray)} belongs to no flag", "write flags as --name=value") for stray in flags.strays]
    seen: set[str] = set()
    for name, value in flags.pairs:
        found += _flag_problems(name, value, again=name in seen)
        seen.add(name)
    found += [(f"--{name} is missing", f"add --{name}=<value>") for name in REQUIRED_FLAGS if name not in seen]
    return found


def _flag_problems(name: str, value: str | None, *, again: bool) -> list[tuple[str, str]]:
    if name not in SWITCHES and name not in VALUE_FLAGS:
        return [(f"unknown flag {show('--' + name)}", did_you_mean(name, KNOWN_FLAGS, prefix="--"))]
    found = []
    if again and name not in REPEATABLE_FLAGS:
        found.append((f"--{name} is given twice", "keep one"))
    if name in VALUE_FLAGS and not value:
        found.append((f"--{name} has no value", f"write --{name}=<value>"))
    if name in SWITCHES and value not in (None, "true", "false"):
        found.append((f"--{name} is a switch, not {show(value)}", f"write --{name} alone"))
    if name in SECRET_FLAGS and value and not value.startswith("$"):
        # the value is a secret: it must not reach a log through our own message
        found.append((f"--{name} holds a token in plain text", f"name a secret with --{name}-arn"))
    return found
