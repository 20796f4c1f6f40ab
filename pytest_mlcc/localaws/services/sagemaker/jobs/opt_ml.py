"""The documented ``/opt/ml`` of a training job: its directories, its configuration files, its variables.

Source: "How Amazon SageMaker Provides Training Information" (developer guide) for the files; the SM_* variables are those of
the SageMaker training toolkit, as framework images have them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_mlcc.localaws.wire import AwsError

__all__ = ["Node", "below_opt_ml", "nodes", "training_environment", "write_training_files"]

_ROOT = "/opt/ml"
_INTERFACE = "eth0"
_GROUP = "homogeneousCluster"
_DIRECTORIES = ("input/config", "input/data", "model", "output/data", "output/intermediate", "code", "checkpoints")


@dataclass(frozen=True, slots=True)
class Node:
    """One host of a training job and the group of instances that it is of."""

    name: str
    instance_type: str
    group: str


def nodes(resources: Mapping[str, Any]) -> list[Node]:
    """The hosts that a ``ResourceConfig`` asks for."""
    groups = resources.get("InstanceGroups") or [
        {"InstanceGroupName": _GROUP, "InstanceType": resources.get("InstanceType", ""), "InstanceCount": resources.get("InstanceCount", 1)}
    ]
    kinds = [(group["InstanceType"], group["InstanceGroupName"]) for group in groups for _ in range(group["InstanceCount"])]
    return [Node(f"algo-{number}", *kind) for number, kind in enumerate(kinds, 1)]


def below_opt_ml(path: str, *, under: str = _ROOT) -> PurePosixPath:
    """An absolute path of a container as one relative to ``/opt/ml``. Raises AwsError for one that is not below ``under``."""
    clean = PurePosixPath(os.path.normpath(path))
    if not clean.is_relative_to(under) or clean == PurePosixPath(under):
        raise AwsError("ValidationException", f"The local path {path!r} is not valid: it must begin with {under}/.")
    return clean.relative_to(_ROOT)


def write_training_files(opt_ml: Path, record: Mapping[str, Any], node: Node, cluster: Sequence[Node]) -> None:
    """Make the directories and configuration files of one host."""
    for name in _DIRECTORIES:
        (opt_ml / name).mkdir(parents=True, exist_ok=True)
    for channel in record.get("InputDataConfig", []):
        (opt_ml / "input" / "data" / channel["ChannelName"]).mkdir(exist_ok=True)
    files = {
        "hyperparameters.json": record.get("HyperParameters", {}),
        "inputdataconfig.json": _input_config(record),
        "resourceconfig.json": _resource_config(node, cluster),
    }
    for name, content in files.items():
        (opt_ml / "input" / "config" / name).write_text(json.dumps(content))


def training_environment(record: Mapping[str, Any], node: Node, cluster: Sequence[Node], *, region: str) -> dict[str, str]:
    """The variables of one host: the platform's own, the toolkit's, and above them those of the request."""
    platform = {
        "TRAINING_JOB_NAME": record["TrainingJobName"], "TRAINING_JOB_ARN": record["TrainingJobArn"],
        "SAGEMAKER_JOB_NAME": record["TrainingJobName"], "SAGEMAKER_REGION": region, "AWS_REGION": region,
        "CURRENT_HOST": node.name,
    }  # fmt: skip
    toolkit = {f"SM_{_variable(name)}": _value(value) for name, value in _toolkit(record, node, cluster).items()}
    return {**platform, **toolkit, **record.get("Environment", {})}


def _input_config(record: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    described = {}
    for channel in record.get("InputDataConfig", []):
        source = channel["DataSource"].get("S3DataSource", {})
        facts = {
            "ContentType": channel.get("ContentType"), "TrainingInputMode": channel.get("InputMode", _mode(record)),
            "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
            "RecordWrapperType": channel.get("RecordWrapperType", "None"),
        }  # fmt: skip
        described[channel["ChannelName"]] = {name: value for name, value in facts.items() if value is not None}
    return described


def _mode(record: Mapping[str, Any]) -> str:
    mode: str = record["AlgorithmSpecification"]["TrainingInputMode"]
    return mode


def _resource_config(node: Node, cluster: Sequence[Node]) -> dict[str, Any]:
    return {
        "current_host": node.name,
        "current_instance_type": node.instance_type,
        "current_group_name": node.group,
        "hosts": sorted(each.name for each in cluster),
        "instance_groups": _groups(cluster),
        "network_interface_name": _INTERFACE,
    }


def _groups(cluster: Sequence[Node]) -> list[dict[str, Any]]:
    return [
        {"instance_group_name": name, "instance_type": next(each.instance_type for each in cluster if each.group == name),
         "hosts": sorted(each.name for each in cluster if each.group == name)}
        for name in dict.fromkeys(each.group for each in cluster)
    ]  # fmt: skip


def _toolkit(record: Mapping[str, Any], node: Node, cluster: Sequence[Node]) -> dict[str, Any]:
    """The toolkit's names (without SM_) and values."""
    given = {name: _parsed(value) for name, value in record.get("HyperParameters", {}).items()}
    own = {name: value for name, value in given.items() if not name.startswith("sagemaker_")}
    channels = sorted(channel["ChannelName"] for channel in record.get("InputDataConfig", []))
    directories = {name: f"{_ROOT}/input/data/{name}" for name in channels}
    facts: dict[str, Any] = {
        "hosts": sorted(each.name for each in cluster), "network_interface_name": _INTERFACE,
        "current_host": node.name, "current_instance_type": node.instance_type, "current_instance_group": node.group,
        "current_instance_group_hosts": sorted(each.name for each in cluster if each.group == node.group),
        "instance_groups": list(dict.fromkeys(each.group for each in cluster)),
        "is_hetero": len({each.group for each in cluster}) > 1,
        "input_dir": f"{_ROOT}/input", "input_config_dir": f"{_ROOT}/input/config", "input_data_config": _input_config(record),
        "output_dir": f"{_ROOT}/output", "output_data_dir": f"{_ROOT}/output/data",
        "output_intermediate_dir": f"{_ROOT}/output/intermediate", "model_dir": f"{_ROOT}/model",
        "resource_config": _resource_config(node, cluster), "num_cpus": os.cpu_count() or 1, "num_gpus": 0, "num_neurons": 0,
        "log_level": given.get("sagemaker_container_log_level", 20), "job_name": record["TrainingJobName"],
        "module_name": given.get("sagemaker_program", ""), "user_entry_point": given.get("sagemaker_program", ""),
        "module_dir": given.get("sagemaker_submit_directory", f"{_ROOT}/code"), "framework_module": "",
        "is_master": node == cluster[0], "master_hostname": cluster[0].name,
    }  # fmt: skip
    facts["training_env"] = {**facts, "hyperparameters": own, "channel_input_dirs": directories}
    return {
        **facts, "channels": channels, "hps": own, "framework_params": {}, "user_args": _arguments(own),
        **{f"channel_{name}": path for name, path in directories.items()}, **{f"hp_{name}": value for name, value in own.items()},
    }  # fmt: skip


def _arguments(hyperparameters: Mapping[str, Any]) -> list[str]:
    """``--name value`` for each, as the toolkit calls a script."""
    words: list[str] = []
    for name, value in sorted(hyperparameters.items()):
        words += [f"-{name}" if len(name) == 1 else f"--{name}", _value(value)]
    return words


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _variable(name: str) -> str:
    return name.replace("-", "_").upper()


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
