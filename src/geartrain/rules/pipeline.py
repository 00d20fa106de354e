"""The nouns of a pipeline: what may be said of a channel."""

from typing import Literal, get_args

Policy = Literal["block", "latest", "drop_oldest", "drop_newest"]

POLICIES: tuple[Policy, ...] = get_args(Policy)
