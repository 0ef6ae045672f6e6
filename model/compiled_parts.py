"""numba's pipeline for a function that only other compiled functions call.

numba optimises each function together with all that it calls, and makes machine code of
both, for each function anew. Only the outermost function needs that: what it calls
stays intermediate code until it is linked there.
"""

from __future__ import annotations

from typing import Any

from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering


class _Part(JITCodeLibrary):  # type: ignore[misc]
    """The intermediate code of a function, not optimised."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerPart(NativeLowering):  # type: ignore[misc]
    """Generates a function's intermediate code."""

    _name = "lower_part"

    def run_pass(self, state: Any) -> bool:
        name = state.func_id.func_qualname
        state.library = _Part(state.targetctx.codegen(), name)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        described, library = lowered.fndesc, state.library
        # numba knows a function by such an object; this one cannot be called.
        entry = _dynfunc.make_function(
            described.lookup_module(), name, "", 0, lowered.env, (library,)
        )
        state.targetctx.insert_user_function(entry, described, [library])
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class PartCompiler(CompilerBase):  # type: ignore[misc]
    """Compiles a function as a part of those that call it."""

    def define_pipelines(self) -> list[PassManager]:
        """Return numba's pipeline, with lowering as above."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        replaced = PassManager("part")
        replaced.passes = [
            (_LowerPart if one is NativeLowering else one, about)
            for one, about in passes.passes
        ]
        replaced.finalize()
        return [replaced]
