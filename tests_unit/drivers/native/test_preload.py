"""A run that is over while it still imports in the background ends with its own exit code, and at once."""

import subprocess
import sys

from pytest_mlcc.drivers.native.preload import Preload

PROGRAM = """
import threading
from pytest_mlcc.drivers.native.preload import Preload

began = threading.Event()
preload = Preload(lambda: __import__("first"))

import builtins
builtins.began, builtins.preload = began, preload
preload.start()
preload.start()  # every stage asks
assert began.wait(60)
print("the run is over")
"""
FIRST = """
import sys
began.set()
while preload not in sys.meta_path:  # until the process ends
    pass
try:
    import second
except Exception:
    print("a module that does without another one")
finally:
    print("broken off")  # a thread that the process doesn't wait for never gets here
"""


def test_a_process_that_ends_breaks_its_imports_off(tmp_path) -> None:
    (tmp_path / "first.py").write_text(FIRST)
    (tmp_path / "second.py").write_text("print('it was imported')")
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "the run is over\nbroken off\n", "")


def test_the_imports_of_others_are_left_alone_meanwhile(tmp_path, monkeypatch) -> None:
    (tmp_path / "of_another_thread.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    preload = Preload(lambda: None)
    monkeypatch.setattr(sys, "meta_path", [preload, *sys.meta_path])
    assert __import__("of_another_thread")


def test_what_goes_wrong_in_the_background_is_nobodys_failure(tmp_path, recwarn) -> None:
    preload = Preload(lambda: __import__("no_such_module"))
    preload.start()
    preload.stop()
    assert not recwarn.list
