"""Fault plans: a file of rules, read with every mistake at once.

::

    seed: 7                                    # of the rules with a probability; 0 where it is left out
    rules:
      - operation: sagemaker:CreateEndpoint    # a pattern, named as IAM names actions
        resource: "rt-qwen3-*"                 # a glob on any name that the call carries; left out: every resource
        fault: insufficient-instance-capacity
        calls: [1, "3-5"]                      # which of the matching calls; left out: all of them
      - {operation: "dynamodb:*", fault: throttling, probability: 0.05}
      - {operation: sagemaker:CreateTrainingJob, fault: job-fails, step: 3, message: CUDA out of memory}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pytest_mlcc.errors import ConfigurationError, Problem
from pytest_mlcc.localaws.rehearsal.documents import did_you_mean, read_mapping
from pytest_mlcc.localaws.rehearsal.operations import canonical, operation_names, service_names
from pytest_mlcc.localaws.rehearsal.rules import PARAMETERS, Rule
from pytest_mlcc.localaws.rehearsal.vocabulary import FATED, Fault

__all__ = ["FaultPlan", "read_plan"]

_KEYS = ("seed", "rules")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """The rules of one file, and the seed of those that go by chance. ``name`` is the file's."""

    name: str
    seed: int
    rules: tuple[Rule, ...]

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> FaultPlan:
        """The plan that ``to_json`` wrote. Raises ValueError for anything else."""
        rules = tuple(Rule.model_validate(rule) for rule in data["rules"])
        return cls(str(data["name"]), int(data["seed"]), rules)

    def to_json(self) -> dict[str, Any]:
        """Everything, for the server."""
        rules = [rule.model_dump(mode="json", exclude_none=True) for rule in self.rules]
        return {"name": self.name, "seed": self.seed, "rules": rules}

    def __str__(self) -> str:
        count = f"{len(self.rules)} rule{'' if len(self.rules) == 1 else 's'}"
        return f"{self.name} ({count}, seed {self.seed})"


def read_plan(path: Path) -> FaultPlan:
    """The plan in a YAML file: ``seed`` (0 where it is left out) and ``rules``.

    Raises ConfigurationError with every mistake: file, rule and key, and how to mend it.
    """
    document = read_mapping(path, what="fault plan")
    problems = [Problem(f"{path}, {key}", "is no key of a fault plan", did_you_mean(key, _KEYS)) for key in document if key not in _KEYS]
    seed, given = document.get("seed", 0), document.get("rules")
    if isinstance(seed, bool) or not isinstance(seed, int):
        problems.append(Problem(f"{path}, seed", f"{seed!r} is not a whole number"))
    if not isinstance(given, list) or not given:
        problems.append(Problem(f"{path}, rules", "is not a list of rules", "begin each with '- operation: ...'"))
        given = []
    rules = []
    for number, data in enumerate(given, 1):
        rule, mistakes = _rule(f"{path}, rule {number}", data)
        problems += mistakes
        rules += [rule] if rule is not None else []
    if problems:
        raise ConfigurationError(problems)
    return FaultPlan(path.name, seed, tuple(rules))


def _rule(where: str, data: Any) -> tuple[Rule | None, list[Problem]]:
    if not isinstance(data, dict):
        return None, [Problem(where, f"{data!r} is not a rule", "give it the keys operation and fault at least")]
    try:
        rule = Rule.model_validate(data)
    except ValidationError as error:
        return None, list(_mistakes(where, data, error))
    rule = rule.model_copy(update={"operation": canonical(rule.operation)})
    return rule, [*_parameter_mistakes(where, rule), *_operation_mistakes(where, rule)]


def _mistakes(where: str, data: Mapping[str, Any], error: ValidationError) -> Iterator[Problem]:
    for one in error.errors():
        key = str(one["loc"][0]) if one["loc"] else ""
        place = f"{where}, {key}" if key else where
        if one["type"] == "extra_forbidden":
            yield Problem(place, "is no key of a rule", did_you_mean(key, tuple(Rule.model_fields)))
        elif one["type"] == "missing":
            yield Problem(place, "is missing")
        elif key == "fault":
            yield Problem(place, f"{data['fault']!r} is no fault", did_you_mean(str(data["fault"]), tuple(Fault)))
        elif one["type"] == "value_error":
            yield Problem(place, str(one["ctx"]["error"]))
        else:
            yield Problem(place, f"{data.get(key)!r}: {one['msg'].lower()}")
    if not any(one["loc"][:1] == ("operation",) for one in error.errors()):  # else nobody has mended the rule at once
        yield from _unknown_operation(f"{where}, operation", canonical(data["operation"]))


def _parameter_mistakes(where: str, rule: Rule) -> Iterator[Problem]:
    takes = PARAMETERS[rule.fault]
    for name in ("seconds", "step", "requests", "message"):
        if getattr(rule, name) is not None and name not in takes:
            what = f"takes only {' and '.join(takes)}" if takes else "takes no parameter"
            yield Problem(f"{where}, {name}", f"the fault {rule.fault} {what}", "leave it out")
    for name, default in takes.items():
        if default is None and getattr(rule, name) is None:
            yield Problem(f"{where}, {name}", f"is missing: the fault {rule.fault} needs it")


def _operation_mistakes(where: str, rule: Rule) -> Iterator[Problem]:
    """A rule that can't strike anything is a mistyped one."""
    place = f"{where}, operation"
    if rule.fault in FATED:
        if not any(rule.is_about(operation) for operation in FATED[rule.fault]):
            hint = did_you_mean(rule.operation, FATED[rule.fault]) or f"one of: {', '.join(FATED[rule.fault])}"
            yield Problem(place, f"{rule.operation!r} makes nothing that {rule.fault} could befall", hint)
        return
    yield from _unknown_operation(place, rule.operation)


def _unknown_operation(place: str, operation: str) -> Iterator[Problem]:
    service, _, pattern = operation.partition(":")
    if any(sign in service for sign in "*?["):
        return
    known = operation_names(service)
    if not known:
        yield Problem(place, f"AWS has no service {service!r}", did_you_mean(service, service_names()))
    elif not any(fnmatchcase(name, pattern) for name in known):
        yield Problem(place, f"{service} has no operation {pattern!r}", did_you_mean(pattern, known))
