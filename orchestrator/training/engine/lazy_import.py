"""Which parts of TensorFlow does a worker need, and how are they imported without the rest?

Rule: until somebody asks for more, the package ``tensorflow`` in this process is one whose
``__init__`` hasn't run, so that importing ``tensorflow.python...`` runs only what that module
needs. The first use of anything else of the package (an attribute, a public submodule) runs
``__init__`` as ever. Nothing is replaced: each name here is the very object of the public API.
Where a TensorFlow is laid out differently, or brings libraries that its ``__init__`` loads, or
where there is a GPU, the whole package is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, cast

PACKAGE = "tensorflow"
PARTS = {
    "DType": "framework.dtypes:DType",
    "Graph": "framework.ops:Graph",
    "TensorShape": "framework.tensor_shape:TensorShape",
    "__version__": "framework.versions:__version__",
    "as_dtype": "framework.dtypes:as_dtype",
    "bitwise.left_shift": "ops.gen_bitwise_ops:left_shift",
    "boolean_mask": "ops.array_ops:boolean_mask_v2",
    "cast": "ops.math_ops:cast",
    "compat.v1.ConfigProto": "core.protobuf.config_pb2:ConfigProto",
    "compat.v1.MetaGraphDef": "core.protobuf.meta_graph_pb2:MetaGraphDef",
    "compat.v1.RunOptions": "core.protobuf.config_pb2:RunOptions",
    "compat.v1.Session": "client.session:Session",
    "compat.v1.name_scope": "framework.ops:name_scope_v1",
    "compat.v1.placeholder": "ops.array_ops:placeholder",
    "compat.v1.placeholder_with_default": "ops.array_ops:placeholder_with_default",
    "compat.v1.train.NewCheckpointReader": "training.py_checkpoint_reader:NewCheckpointReader",
    "concat": "ops.array_ops:concat",
    "config.experimental.enable_op_determinism": "framework.config:enable_op_determinism",
    "constant": "framework.constant_op:constant",
    "control_dependencies": "framework.ops:control_dependencies",
    "device": "framework.ops:device_v2",
    "distribute.Server": "training.server_lib:Server",
    "errors": "framework.errors:",
    "float32": "framework.dtypes:float32",
    "graph_util.import_graph_def": "framework.importer:import_graph_def",
    "identity": "ops.array_ops:identity",
    "int32": "framework.dtypes:int32",
    "load_op_library": "framework.load_library:load_op_library",
    "nest.flatten": "util.nest:flatten",
    "numpy_function": "ops.script_ops:numpy_function",
    "range": "ops.math_ops:range",
    "raw_ops.RestoreV2": "ops.gen_io_ops:RestoreV2",
    "raw_ops.SaveV2": "ops.gen_io_ops:SaveV2",
    "reduce_max": "ops.math_ops:reduce_max",
    "reduce_sum": "ops.math_ops:reduce_sum",
    "reshape": "ops.array_ops:reshape",
    "shape": "ops.array_ops:shape_v2",
    "size": "ops.array_ops:size_v2",
    "split": "ops.array_ops:split",
    "train.ClusterSpec": "training.server_lib:ClusterSpec",
    "zeros": "ops.array_ops:zeros",
}
"""Public name to the module and attribute that it is. ``core`` modules are below the package, the
others below its ``python``.
"""

GPU_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
DUNDERS = frozenset(
    f"__{name}__"
    for name in (
        *(
            "version",
            "all",
            "internal",
            "operators",
            "git_version",
            "compiler_version",
            "cxx_version",
            "cxx11_abi_flag",
        ),
        "monolithic_build",
    )
)
FINISHED_WITHIN_S = 120.0
"""As ``graphdef.opset.EXPORT_TIMEOUT_S``: the whole import took 10 s at worst."""
_finishing = threading.Lock()
_finisher: list[int] = []
"""The thread that runs the package's ``__init__`` just now."""


def begin() -> None:
    """Put an unfinished ``tensorflow`` in place, unless this process has TensorFlow already or
    needs all of it.
    """
    if PACKAGE in sys.modules:
        return
    spec = importlib.util.find_spec(PACKAGE)
    if (
        spec is None
        or spec.origin is None
        or _has_gpu()
        or _loads_libraries(Path(spec.origin).parent)
    ):
        return
    package = importlib.util.module_from_spec(spec)
    package.__class__ = _Unfinished
    sys.modules[PACKAGE] = package
    sys.meta_path.insert(0, _PublicModules())
    try:
        _behave_as_v2()
    except (ImportError, AttributeError):
        finish()


def _has_gpu() -> bool:
    """Whether a GPU's driver is here: what the parts leave out was never tried with one."""
    return any(path.exists() for path in GPU_DRIVERS)


def _loads_libraries(package: Path) -> bool:
    """Whether importing this package loads kernels or devices of others."""
    plugins = any((Path(path) / "tensorflow-plugins").exists() for path in sys.path)
    modular = os.environ.get("TF_USE_MODULAR_FILESYSTEM") in ("1", "true")
    return (
        plugins
        or modular
        or (package / "core" / "kernels").exists()
        or bool(os.environ.get("TF_PLUGGABLE_DEVICE_LIBRARY_PATH"))
    )


def _behave_as_v2() -> None:
    """What ``__init__`` does before and after its imports."""
    os.environ.setdefault("ENABLE_RUNTIME_UPTIME_TELEMETRY", "1")
    os.environ["TF2_BEHAVIOR"] = "1"
    importlib.import_module("tensorflow.python.tf2").enable()
    importlib.import_module("tensorflow.python.compat.v2_compat").enable_v2_behavior()
    importlib.import_module("tensorflow.python.ops.math_ops")  # gives tensors their operators


def is_whole() -> bool:
    """Whether all of TensorFlow is imported."""
    return not isinstance(sys.modules.get(PACKAGE), _Unfinished)


def finish() -> ModuleType:
    """Import the rest of the package; what is there already stays what it is. Other threads that
    want it wait for the end.

    Raises:
        ImportError: the package's ``__init__`` failed, or another thread's import of it doesn't
            end.
    """
    package = importlib.import_module(PACKAGE)
    if not isinstance(package, _Unfinished) or _finisher == [threading.get_ident()]:
        return package
    if not _finishing.acquire(timeout=FINISHED_WITHIN_S):
        raise ImportError(
            f"another thread's import of {PACKAGE} hasn't ended for {FINISHED_WITHIN_S:.0f} s: import it at the top of the module, "
            "not inside functions that threads call"
        )
    try:
        if isinstance(package, _Unfinished):
            _finisher.append(threading.get_ident())
            assert package.__spec__ is not None
            assert package.__spec__.loader is not None
            package.__spec__.loader.exec_module(package)
            package.__class__ = cast(Any, ModuleType)
    finally:
        _finisher.clear()
        _finishing.release()
    return package


def finish_if_taken(*loaded: ModuleType) -> None:
    """Import the rest now, on this thread, where somebody else's module holds the package: its
    threads may use it all at once.

    Args:
        loaded: modules that may not be in ``sys.modules``.
    """
    package = sys.modules.get(PACKAGE)
    if not isinstance(package, _Unfinished):
        return
    others = [
        module
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] not in (PACKAGE, "orchestrator")
    ]
    modules = (module for module in (*loaded, *others) if isinstance(module, ModuleType))
    if any(value is package for module in modules for value in list(vars(module).values())):
        finish()


class _Unfinished(ModuleType):
    """The package before the end of its ``__init__``."""

    def __getattr__(self, name: str) -> Any:
        # __init__ itself looks for what it's about to make
        own = _finisher == [threading.get_ident()]
        if own or (name.startswith("__") and name not in DUNDERS):
            raise AttributeError(f"module {PACKAGE!r} has no attribute {name!r}")
        return getattr(finish(), name)


class _PublicModules:
    """Finds the package's public submodules (``tensorflow.compat``), which are below its path only
    once ``__init__`` has run.
    """

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See ``importlib.abc.MetaPathFinder``. Python's import lock is held meanwhile, so
        ``__init__`` has to wait for the loader.
        """
        package, _, name = fullname.partition(".")
        if (
            package != PACKAGE
            or not name
            or "." in name
            or is_whole()
            or PathFinder.find_spec(fullname, path) is not None
        ):
            return None
        return ModuleSpec(fullname, _WhenWhole())


class _WhenWhole(Loader):
    """Loads a public submodule after the rest of the package."""

    def exec_module(self, module: ModuleType) -> None:
        """Become the module that is there once the package is whole. Raises ModuleNotFoundError."""
        spec = PathFinder.find_spec(module.__name__, finish().__path__)
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
            module.__package__ = module.__name__
        module.__spec__, module.__file__, module.__loader__ = spec, spec.origin, spec.loader
        spec.loader.exec_module(module)


class Names:
    """A public package of TensorFlow whose names are imported one by one, when they're first used."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        public = f"{self._prefix}.{name}".lstrip(".")
        if public in PARTS and not is_whole():
            value = _part(PARTS[public]) or _public(public)
        elif any(part.startswith(f"{public}.") for part in PARTS):
            value = Names(public)
        else:
            value = _public(public)
        setattr(self, name, value)
        return value


def _part(where: str) -> Any:
    """The object at ``where``; None where this TensorFlow has none there."""
    module, _, attribute = where.partition(":")
    below = PACKAGE if module.startswith("core.") else f"{PACKAGE}.python"
    try:
        found = importlib.import_module(f"{below}.{module}")
        return getattr(found, attribute) if attribute else found
    except (ImportError, AttributeError):
        return None


def _public(name: str) -> Any:
    value: Any = finish()
    for part in name.split("."):
        value = getattr(value, part)
    return value
