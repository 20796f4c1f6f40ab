"""A local AWS, and a generator whose project has scripts of a few lines: they keep the contract of the real ones, and really call AWS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_mlcc.aws.pin import pinned
from pytest_mlcc.aws.session import Aws
from pytest_mlcc.catalog import Entry, load, packaged_catalog
from pytest_mlcc.cleanup.cleaner import AwsCleaner
from pytest_mlcc.cleanup.ledger import FileLedger
from pytest_mlcc.drivers.scripts import ScriptOptions, Scripts
from pytest_mlcc.drivers.scripts.install import Generator
from pytest_mlcc.lifecycle.ports import Context, Deadline, Resource, RunInfo
from pytest_mlcc.localaws import launch

_GENERATOR = r"""#!/bin/bash
# $1 is the project's name; the folder follows --project-dir
name=$1
while [ "$1" != --project-dir ]; do shift; done
mkdir -p "$2/do/ic" "$2/code" && cd "$2" || exit 1
echo "exit 0" > code/serve
echo "export PROJECT_NAME=\"$name\"" > do/config
echo 'export BASE_IMAGE=${BASE_IMAGE:-vllm/vllm-openai:v0.25.1}' >> do/config
put() { cat > "do/$1"; chmod +x "do/$1"; }
put build <<'END'
#!/bin/bash
echo "building with ${AWS_PROFILE:-no profile}"
echo "output: ${ASYNC_S3_OUTPUT_PATH:-none}, input: ${BATCH_INPUT_PATH:-none}"
[ ! -e fail-build ] || { echo "❌ no such base image" >&2; exit 1; }
END
put deploy <<'END'
#!/bin/bash
. do/config
grep -q '"endpoint-config"' ../ledger.jsonl || { echo "❌ the ledger does not know yet"; exit 9; }
[ -n "$ENDPOINT_NAME" ] || { read -p "which endpoint? " ENDPOINT_NAME || exit 2; }
python3 - "$PROJECT_NAME-epc-1" <<'PY' || exit 4
import boto3, sys
variant = {"VariantName": "AllTraffic", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1}
role = "arn:aws:iam::123456789012:role/mlcc-sagemaker-execution-role"
boto3.client("sagemaker").create_endpoint_config(EndpointConfigName=sys.argv[1], ExecutionRoleArn=role, ProductionVariants=[variant])
PY
[ ! -e fail-deploy ] || { echo "❌ Endpoint failed to reach InService status"; echo "   • You have sufficient service quota"; exit 4; }
sed -i "s/^export ENDPOINT_NAME=.*/export ENDPOINT_NAME=\"$PROJECT_NAME-endpoint-1\"/" do/config
echo 'export DEPLOYMENT_TARGET_SMAI_STATUS="InService"' >> do/config
echo "export IC_DEPLOYED_NAME=\"$PROJECT_NAME-default-1\"" > do/ic/default.conf
END
put tune <<'END'
#!/bin/bash
echo "⚠️  Could not resolve output artifacts"
END
put register <<'END'
#!/bin/bash
. do/config
echo "⚠️  MPG registration failed (non-fatal)"
python3 -c "import boto3, sys; boto3.client('sagemaker').create_model_package_group(ModelPackageGroupName=sys.argv[1])" "$PROJECT_NAME"
END
put benchmark <<'END'
mkdir -p benchmarks && echo 12 > benchmarks/ttft
END
put clean <<'END'
#!/bin/bash
. do/config
[ ! -d benchmarks ] || { read -p "Delete local benchmark results? " answer || exit 1; }
[ "$*" = "all --force" ] || { echo "❌ Operation cancelled"; echo "✅ Cleanup complete!"; exit 0; }
[ "$DEPLOYMENT_TARGET_SMAI_STATUS" = InService ] || { echo "❌ Contract violation: deployment-active"; exit 3; }
[ ! -e fail-clean ] || { echo "❌ AWS credentials not configured"; exit 4; }
END
"""


@dataclass
class Life:
    """One entry in one run of the scripts driver."""

    driver: Scripts
    aws: Aws
    entry: Entry
    run: RunInfo
    folder: Path
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def ledger(self) -> FileLedger:
        return FileLedger(self.folder / "ledger.jsonl")

    @property
    def project(self) -> Path:
        return self.folder / "project"

    def go(self, *stages: str, seconds: float = 60) -> None:
        for stage in stages:
            context = Context(self.entry, self.run, self.folder, self.ledger, Deadline(seconds), self.lines.append, self.facts)
            self.facts[stage] = dict(self.driver.run(stage, context))

    def clean_up(self) -> tuple[Resource, ...]:
        return tuple(AwsCleaner(self.aws).clean(self.ledger, log=self.lines.append))


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    project = tmp_path_factory.mktemp("project")
    server = launch.ensure(project)
    with pinned(server.endpoint_url, server.region, server.account):
        yield Aws("local", server.region, server.endpoint_url)
    launch.release(project, os.getpid())


@pytest.fixture
def life(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Life]:
    """Begins lives of an entry with the short scripts, on a machine that has every tool."""
    generator = Generator(tmp_path).prefix / "bin" / "ml-container-creator"
    generator.parent.mkdir(parents=True)
    generator.write_text(_GENERATOR)
    generator.chmod(0o755)
    monkeypatch.setattr(Scripts, "ready", lambda *_: None)
    entry = next(one for one in load(packaged_catalog()).entries if one.id == "rt-qwen3-06b")
    driver = Scripts(aws, accept_eula=lambda _: True, options=ScriptOptions(tmp_path))
    begun: list[Life] = []

    def begin() -> Life:
        run = RunInfo(time.strftime("%Y%m%dT%H%M%S") + f"-{len(begun):02x}{os.getpid() % 256:02x}", "local", "scripts", "tests", 0, 0)
        folder = tmp_path / f"life-{len(begun)}"
        folder.mkdir()
        begun.append(Life(driver, aws, entry, run, folder))
        return begun[-1]

    return begin
