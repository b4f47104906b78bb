"""LlamaIndex workflows: runs whose state and progress survive the process.

::

    runtime = LivingAIRuntime(engine)
    workflow = MyWorkflow(runtime=runtime)
    await workflow.run(run_id="run-1", ...)
    # in another process, after a crash:
    await workflow.run(ctx=await runtime.resume(workflow, "run-1"), run_id="run-1")

:class:`LivingAIStateStorage` alone is LlamaIndex's ``StateStorage``, for runtimes that take one.
"""

from livingai.adapters.versions import require

require("llama-index-workflows", at_least="2.26", below="3", extra="llama-index")

from livingai.adapters.llama_index.runtime import LivingAIRuntime  # noqa: E402
from livingai.adapters.llama_index.state_storage import (  # noqa: E402
    LivingAIStateStorage,
    StateHandle,
)

__all__ = ["LivingAIRuntime", "LivingAIStateStorage", "StateHandle"]
