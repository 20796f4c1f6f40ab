"""What happens when pytest is configured: settings, marks, and the parts a run needs. Nothing without a catalog."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_mlcc.errors import CatalogError, ConfigurationError
from pytest_mlcc.plugin import fixtures, keys
from pytest_mlcc.plugin.options import settings_of

if TYPE_CHECKING:
    from pytest_mlcc.lifecycle.blueprint import Blueprint
    from pytest_mlcc.plugin.site import Site
    from pytest_mlcc.settings import Settings

__all__ = ["activate"]

_MARKS = (
    "ci: tier that runs daily",
    "nightly: tier that runs every night",
    "weekly: tier that runs every week",
    "gated: the model's weights stand behind a licence that must be accepted",
    "entry(name): the catalog entry of an item; select one exactly with -m 'entry(name=\"rt-qwen3-4b\")'",
    'stage(name, after): the stage of an item; give a test function stage(after="test") to add a stage of your own',
)


_REMEDY = "--mlcc-catalog FILE, or mlcc_catalog in pytest.ini; `mlcc catalog path` names the packaged one"


def activate(config: pytest.Config) -> None:
    """Read the settings and register the marks; with a catalog, load it and plug in selection, records and progress."""
    for mark in _MARKS:
        config.addinivalue_line("markers", mark)
    # Not imported by the package's menu: there the submodule `endpoints` would shadow the fixture of that name.
    config.pluginmanager.register(fixtures, "mlcc-fixtures")
    # The SDK warns of its own renames while it is imported; that is no fault of a team that turns warnings into errors.
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:sagemaker")
    # Where an installer compiled nothing, Python does at the first import, and warns of its escape sequences by the file's name.
    for category in ("DeprecationWarning", "SyntaxWarning"):  # before Python 3.12 and from there on
        config.addinivalue_line("filterwarnings", rf"ignore:invalid escape sequence:{category}:.*[/\\]sagemaker[/\\]")
    # It hides this one itself, until the end of an item resets the filters while it is still being imported in another thread.
    config.addinivalue_line("filterwarnings", "ignore:.* shadows an attribute:UserWarning:sagemaker")
    if config.option.help:  # shown whatever is wrong
        return
    settings = config.stash[keys.SETTINGS] = settings_of(config)
    if settings.catalog is not None:
        _plug_in(config, settings)
    elif given := settings.given():
        raise pytest.UsageError(f"mlcc: {given[0]}: there is no catalog here, so nothing is taken through a lifecycle ({_REMEDY})")


def _plug_in(config: pytest.Config, settings: Settings) -> None:
    from pytest_mlcc.lifecycle.blueprint import Blueprint
    from pytest_mlcc.lifecycle.ports import RunInfo
    from pytest_mlcc.plugin.cells import Cells
    from pytest_mlcc.plugin.endpoints import Endpoints
    from pytest_mlcc.plugin.protocol import Protocol
    from pytest_mlcc.plugin.selection import Selection

    catalog = config.stash[keys.CATALOG] = _load(settings)
    handed = getattr(config, "workerinput", {}).get(keys.WORKER_INPUT)
    data: dict[str, Any] = (
        json.loads(handed) if handed else {"run": dataclasses.asdict(_new_run(settings, config.rootpath)), "owner_pid": os.getpid()}
    )
    config.stash[keys.RUN_TEXT] = json.dumps(data)
    run = config.stash[keys.RUN] = RunInfo(**data["run"])
    blueprint = Blueprint(settings, catalog, run, config.rootpath, data["owner_pid"])
    config.stash[keys.RUN_DIR] = blueprint.run_dir
    cells = config.stash[keys.CELLS] = Cells(catalog)
    config.stash[keys.ENDPOINTS] = Endpoints(blueprint, cells, lambda plan: _make_site(config, plan))
    config.pluginmanager.register(Selection(cells, settings), "mlcc-selection")
    config.pluginmanager.register(Protocol(), "mlcc-protocol")
    _plug_in_session(config, blueprint, is_worker=handed is not None)


def _plug_in_session(config: pytest.Config, blueprint: Blueprint, *, is_worker: bool) -> None:
    from pytest_mlcc.plugin.dry_run import DryRun
    from pytest_mlcc.plugin.interrupt import Interrupt
    from pytest_mlcc.plugin.records import Records

    config.pluginmanager.register(Interrupt(config.stash[keys.ENDPOINTS]), "mlcc-interrupt")
    if is_worker:
        return
    if blueprint.settings.dry_run:
        config.pluginmanager.register(DryRun(blueprint, config.stash[keys.CELLS]), "mlcc-dry-run")
    else:
        _check_session(config, blueprint)
        config.pluginmanager.register(Records(config, blueprint, lambda: _make_site(config, blueprint)), "mlcc-records")


def _check_session(config: pytest.Config, blueprint: Blueprint) -> None:
    """What would end a run in its middle is said before it begins."""
    if config.getoption("dist", "no") == "each":
        raise pytest.UsageError("mlcc: --dist each would deploy every endpoint once per worker; use -n N alone")
    if not config.option.collectonly:
        _check_tools(config, blueprint)
    place = next(one for one in blueprint.run_dir.parents if one.exists())
    if not config.option.collectonly and not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise pytest.UsageError(f"mlcc: a run keeps its journals and logs in {blueprint.run_dir}, but {place} can't be written to")


def _check_tools(config: pytest.Config, blueprint: Blueprint) -> None:
    """Scripts call many commands; none may turn out to be missing when something was created. A team's own site has its own needs."""
    if not blueprint.surely_uses("scripts") or config.hook.pytest_mlcc_make_site.get_hookimpls():
        return
    from pytest_mlcc.assemble import check_tools

    try:
        check_tools(blueprint)
    except ConfigurationError as error:
        raise pytest.UsageError("\n".join(f"mlcc: {problem}" for problem in error.problems)) from None


def _load(settings: Settings) -> Any:
    from pytest_mlcc.catalog.load import load

    assert settings.catalog is not None
    try:
        catalog = load(settings.catalog)
    except CatalogError as error:
        raise pytest.UsageError("\n".join(f"mlcc: {problem}" for problem in error.problems)) from None
    _check_entries(settings, catalog)
    return catalog


def _check_entries(settings: Settings, catalog: Any) -> None:
    from difflib import get_close_matches

    wrong = []
    for name in settings.entry:
        if name not in catalog.by_id:
            near = get_close_matches(name, list(catalog.by_id), n=1)
            hint = f"did you mean {near[0]}?" if near else "`mlcc catalog list` shows them all"
            wrong.append(f"mlcc: --mlcc-entry {name}: the catalog {settings.catalog} has no such entry; {hint}")
    if wrong:
        raise pytest.UsageError("\n".join(wrong))


def _new_run(settings: Settings, project: Path) -> Any:
    from pytest_mlcc.lifecycle.ports import RunInfo

    now = time.time()
    return RunInfo(
        run_id=time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + "-" + secrets.token_hex(2),
        target=settings.target,
        driver=settings.driver,
        owner=settings.owner or getpass.getuser(),
        expires=now + settings.max_hours * 3600,
        started=now,
        rehearsal=_rehearsal(settings, project),
    )


def _rehearsal(settings: Settings, project: Path) -> str:
    """Which delays and faults the local AWS will play; mistakes in their files are told before anything starts."""
    asked = settings.latency != "instant" or settings.faults is not None
    is_up = settings.target == "local" and (project / ".mlcc" / "local" / "server.json").exists()
    if not asked and not is_up:
        return ""  # what follows takes a tenth of a second
    from pytest_mlcc.assemble import rehearsal_told

    try:
        return rehearsal_told(settings, project)
    except ConfigurationError as error:
        raise pytest.UsageError("\n".join(f"mlcc: {problem}" for problem in error.problems)) from None


def _make_site(config: pytest.Config, blueprint: Blueprint) -> Site:
    made: Site | None = config.hook.pytest_mlcc_make_site(config=config, blueprint=blueprint)
    if made is not None:
        return made
    from pytest_mlcc.assemble import site

    return site(blueprint)
