"""Machine code that is made once, by numba in a process of its own, and runs without numba. [core]

numba takes over a hundred megabytes and a quarter of a second even where it only loads what it kept; the
code itself, fifty kilobytes.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from langmill.core.errors import MissingDependencyError
from langmill.core.files import atomic_write, cache_folder, digest

LIBRARY = {
    name: int(ctypes.cast(getattr(ctypes, name), ctypes.c_void_p).value or 0)
    for name in ("memset", "memmove")
}
"""What machine code may call, and where it is."""


@functools.cache
def machine_code(module: str, function: str, *called: str) -> Callable[[int, int], None]:
    """Return a function of two addresses as machine code; the interpreter is free while it runs.

    It cannot raise, and calls nothing but `LIBRARY`: logarithms, for one, are not there.
    called: further modules whose functions it calls; when one of the files changes, it is made anew.
    """
    if importlib.util.find_spec("numba") is None:
        raise MissingDependencyError("this needs numba, to compile; pip install 'langmill[fast]'")
    import llvmlite
    import llvmlite.binding as llvm

    specs = [importlib.util.find_spec(name) for name in (__name__, "langmill.core.native", module, *called)]
    sources = [Path(str(spec.origin)).read_bytes() for spec in specs if spec is not None]
    processor = [os.environ.get(name, "") for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES")]
    processor += [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    name = digest(llvmlite.__version__, sys.platform, *processor, function, *sources)
    path = cache_folder() / "kernels" / f"{function}-{name}"
    if not path.exists():
        write = f"sys.stdout.buffer.write(make({module!r}, {function!r}))"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", f"import sys; from {__name__} import make; {write}"]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert not done.returncode, done.stderr.decode(errors="replace")
        atomic_write(path, done.stdout)
    return link(path.read_bytes())


def make(module: str, function: str) -> bytes:
    """Compile a function; return what `link` takes: its symbol, a line end, and an object file."""
    import llvmlite.binding as llvm
    from numba import cfunc, types

    from langmill.core.native import FEATURES, PROCESSOR, keep_functions_general

    keep_functions_general()
    signature = types.void(types.int64, types.int64)
    compiled: Any = cfunc(signature, error_model="numpy")(getattr(importlib.import_module(module), function))
    # Around the function itself numba lays one that tells Python of errors, and calls much to do so: that goes.
    wrapper = re.compile(
        rf"^define [^\n]*@{re.escape(compiled.native_name)}\(.*?^}}\n", re.MULTILINE | re.DOTALL
    )
    text, found = wrapper.subn("", compiled.inspect_llvm())
    assert found == 1
    target = llvm.Target.from_default_triple().create_target_machine(PROCESSOR, FEATURES, opt=3, jit=True)
    symbol = compiled.native_name.removeprefix("cfunc.")
    return symbol.encode() + b"\n" + target.emit_object(llvm.parse_assembly(text))


def link(code: bytes) -> Callable[[int, int], None]:
    """Return the function that `make` wrote, ready to run."""
    import llvmlite.binding as llvm

    symbol, _, data = code.partition(b"\n")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    for name, place in LIBRARY.items():
        llvm.add_symbol(name, place)
    target = llvm.Target.from_default_triple().create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    address, number = ctypes.c_void_p, ctypes.c_int64
    native = ctypes.CFUNCTYPE(ctypes.c_int32, address, address, number, number)(
        engine.get_function_address(symbol.decode())
    )

    def run(first: int, second: int, *, engine: Any = engine) -> None:  # the code lives as long as its engine
        result, error = ctypes.c_void_p(), ctypes.c_void_p()
        status = native(ctypes.byref(result), ctypes.byref(error), first, second)
        assert status in (0, -2), status  # numba's for a result, and for None

    return run
