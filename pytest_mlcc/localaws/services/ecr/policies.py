"""Lifecycle and repository policies: checked, kept and given back. Nothing here acts on them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from pytest_mlcc.localaws.services.ecr.model import Registry
from pytest_mlcc.localaws.wire import AwsError, Call

__all__ = ["Policies"]

_COUNT_TYPES = ("imageCountMoreThan", "sinceImagePushed", "sinceImagePulled", "sinceImageTransitioned")


class Policies:
    """The policy operations over one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def operations(self) -> dict[str, Callable[[Call], dict[str, Any]]]:
        """The operations, by AWS's name."""
        return {
            "PutLifecyclePolicy": self.put_lifecycle_policy,
            "GetLifecyclePolicy": self.get_lifecycle_policy,
            "DeleteLifecyclePolicy": self.delete_lifecycle_policy,
            "SetRepositoryPolicy": self.set_repository_policy,
            "GetRepositoryPolicy": self.get_repository_policy,
            "DeleteRepositoryPolicy": self.delete_repository_policy,
        }

    def put_lifecycle_policy(self, call: Call) -> dict[str, Any]:
        _check_lifecycle(call.params["lifecyclePolicyText"])
        return self._put(call, "lifecyclePolicyText", call.params["lifecyclePolicyText"])

    def get_lifecycle_policy(self, call: Call) -> dict[str, Any]:
        # when AWS last carried the policy out; here it never is
        return {**self._text(call, "lifecyclePolicyText", "LifecyclePolicyNotFoundException", "Lifecycle policy"), "lastEvaluatedAt": 0}

    def delete_lifecycle_policy(self, call: Call) -> dict[str, Any]:
        answer = {**self.get_lifecycle_policy(call), "lastEvaluatedAt": time.time()}
        self._put(call, "lifecyclePolicyText", None)
        return answer

    def set_repository_policy(self, call: Call) -> dict[str, Any]:
        document = _json(call.params["policyText"], "PolicyText")
        if not isinstance(document, dict) or "Statement" not in document:
            message = "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'"
            raise AwsError("InvalidParameterException", message)
        return self._put(call, "policyText", call.params["policyText"])

    def get_repository_policy(self, call: Call) -> dict[str, Any]:
        return self._text(call, "policyText", "RepositoryPolicyNotFoundException", "Repository policy")

    def delete_repository_policy(self, call: Call) -> dict[str, Any]:
        answer = self.get_repository_policy(call)
        self._put(call, "policyText", None)
        return answer

    def _put(self, call: Call, key: str, text: str | None) -> dict[str, Any]:
        name = call.params["repositoryName"]
        self._registry.update_repository(call.region, name, **{key: text})
        return {"registryId": self._registry.account, "repositoryName": name, key: text}

    def _text(self, call: Call, key: str, code: str, what: str) -> dict[str, Any]:
        name = call.params["repositoryName"]
        text = self._registry.repository(call.region, name).get(key)
        if text is None:
            raise AwsError(code, f"{what} does not exist for the repository with name '{name}' in the registry with id "
                                 f"'{self._registry.account}'")  # fmt: skip
        return {"registryId": self._registry.account, "repositoryName": name, key: text}


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        message = f"Invalid parameter at '{where}' failed to satisfy constraint: 'Invalid JSON syntax'"
        raise AwsError("InvalidParameterException", message) from None


def _check_lifecycle(text: str) -> None:
    """The rules of https://docs.aws.amazon.com/AmazonECR/latest/userguide/lifecycle_policy_parameters.html that a typing slip breaks."""
    document = _json(text, "LifecyclePolicyText")
    mistakes = _lifecycle_mistakes(document)
    if mistakes:
        message = "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: 'Lifecycle policy validation failure: "
        raise AwsError("InvalidParameterException", f"{message}{'; '.join(mistakes)}'")


def _lifecycle_mistakes(document: Any) -> list[str]:
    rules = document.get("rules") if isinstance(document, dict) else None
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        return ['object has missing required properties (["rules"])']
    mistakes = [mistake for rule in rules for mistake in _rule_mistakes(rule)]
    priorities = [rule.get("rulePriority") for rule in rules]
    if len(set(map(str, priorities))) != len(priorities):
        mistakes.append("rulePriority must be unique")
    return mistakes


def _rule_mistakes(rule: dict[str, Any]) -> list[str]:
    missing = sorted({"action", "rulePriority", "selection"} - set(rule))
    if missing:
        return [f"object has missing required properties ({json.dumps(missing)})"]
    selection, action = rule["selection"], rule["action"]
    if not isinstance(selection, dict) or not isinstance(action, dict):
        return ["selection and action must be objects"]
    mistakes = []
    if selection.get("tagStatus") not in ("tagged", "untagged", "any"):
        mistakes.append('tagStatus must be one of ["any","tagged","untagged"]')
    if selection.get("tagStatus") == "tagged" and not (selection.get("tagPrefixList") or selection.get("tagPatternList")):
        mistakes.append("tagPrefixList or tagPatternList is required with tagStatus tagged")
    if selection.get("countType") not in _COUNT_TYPES:
        mistakes.append(f"countType must be one of {json.dumps(_COUNT_TYPES)}")
    if not isinstance(selection.get("countNumber"), int) or selection["countNumber"] < 1:
        mistakes.append("countNumber must be a whole number above zero")
    if action.get("type") not in ("expire", "transition"):
        mistakes.append('action type must be one of ["expire","transition"]')
    return mistakes
