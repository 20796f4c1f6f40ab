"""An account without the CI table: the tests run all the same, the results are kept on this machine, and one warning says so."""

from __future__ import annotations

import json

WARNING = "⚠️  CI table not provisioned — saving results locally only."
LIFECYCLE = ["clean"]  # after generate, which is always there: a run of two quick stages


def test_without_a_table_the_run_passes_warns_once_and_keeps_its_results_here(make_project, entry) -> None:
    project = make_project(entry("rt-one", lifecycle=LIFECYCLE), entry("rt-two", instance="ml.g5.2xlarge", lifecycle=LIFECYCLE))
    with project.cloud() as cloud:
        cloud.client("dynamodb").delete_table(TableName="mlcc-ci-table")
        run = project.run()
        assert run.code == 0, run
        assert run.output.count(WARNING) == 1
        assert cloud.client("dynamodb").list_tables()["TableNames"] == ["mlcc-ci-history"]
        assert cloud.keys(cloud.results) == []
        assert cloud.alive() == []
    folder = project.path / ".mlcc" / "e2e-results"
    assert str(folder) in run.output
    for place in (f"reports/{run.run_id}", f"runs/ci/{run.run_id}"):
        assert json.loads((folder / place / "results.json").read_text())
        assert "rt-two" in (folder / place / "summary.md").read_text()
    assert "Dockerfile" in (folder / "reports" / run.run_id / "rt-one" / "generate.log").read_text()


def test_a_folder_of_ones_own_gets_the_results_beside_the_bucket(make_project, entry) -> None:
    project = make_project(entry("rt-one", lifecycle=LIFECYCLE))
    with project.cloud() as cloud:
        run = project.run("--mlcc-save-local=kept")
        assert run.code == 0, run
        assert WARNING not in run.output
        kept = {str(path.relative_to(project.path / "kept")) for path in (project.path / "kept").rglob("*") if path.is_file()}
        assert kept == set(cloud.keys(cloud.results))
        assert f"reports/{run.run_id}/rt-one/generate.log" in kept
