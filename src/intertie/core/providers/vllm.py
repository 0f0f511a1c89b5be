"""vLLM's OpenAI-compatible server."""

from intertie.core.providers._compatible import Compatible


class VLLM(Compatible):
    """Takes both names of the output limit. Codes of its errors are numbers; older ones have no `error` wrapper."""

    kind = "vllm"
    title = "vLLM"
    base_url = "http://127.0.0.1:8000/v1"
    bills_cancelled = False


ADAPTER = VLLM()
