"""Mistral AI."""

from types import MappingProxyType

from intertie.core.providers._compatible import Compatible, Quirks
from intertie.core.terms import Operation


class Mistral(Compatible):
    """Refuses every member it does not know (422). Streams carry usage in their last chunk without being asked.

    Dropped members are OpenAI's bookkeeping; what would change the answer is passed on, to be refused.
    """

    kind = "mistral"
    title = "Mistral AI"
    base_url = "https://api.mistral.ai/v1"
    catalogue = "mistral"
    operations = frozenset({Operation.CHAT, Operation.EMBEDDING})
    quirks = Quirks(
        drop=frozenset({"metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"}),
        rename=MappingProxyType({"max_completion_tokens": "max_tokens", "seed": "random_seed"}),
        stream_usage=False,
    )


ADAPTER = Mistral()
