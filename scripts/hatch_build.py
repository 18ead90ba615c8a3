"""Compiles the native kernels into the wheel, or next to the sources of an editable installation.

Without a compiler the wheel has no native kernels. The first use then builds them, or reports why torch replaces them.
"""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeKernels(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        native = Path(self.root) / "kernels" / "native"
        build = runpy.run_path(str(native / "build.py"))
        try:
            made = build["build"](native / f"{build['digest']()}.so")
        except build["BuildFailed"] as error:
            self.app.display_warning(f"the native kernels are not in this wheel: {error}")
            return
        build_data["artifacts"].append(made.relative_to(self.root).as_posix())
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
