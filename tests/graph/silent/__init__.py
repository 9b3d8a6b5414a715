"""Which ways of writing a training graph would a group get wrong without a word, if nobody looked?

Rule: as published code does it. Each module has a field's makers, which build into the default
graph and return the operation that trains; a maker's docstring is the pattern's name in the
documentation. This is the one registry.
"""

from __future__ import annotations

from tests.graph.patterns import Pattern
from tests.graph.silent import (
    batch_losses,
    conditional_norm,
    counts,
    generative,
    hand_written,
    language,
    machinery,
    normalisation,
    own_optimizers,
    recommenders,
    reinforcement,
    row_losses,
    statistics_and_search,
)

FIELDS = {
    "Optimizers by hand": own_optimizers.PATTERNS,
    "Losses made of rows": row_losses.PATTERNS,
    "Losses in which rows meet or are counted": batch_losses.PATTERNS,
    "Normalisation and chance": normalisation.PATTERNS,
    "Generators and critics": generative.PATTERNS,
    "Agents": reinforcement.PATTERNS,
    "Words and sequences": language.PATTERNS,
    "Tables of users and items": recommenders.PATTERNS,
    "Pipelines, towers and schedules": machinery.PATTERNS,
    "Statistics, search and second derivatives": statistics_and_search.PATTERNS,
    "Normalisation inside of conditionals": conditional_norm.PATTERNS,
    "Counts, sums and rows in variables": counts.PATTERNS,
    "Steps without `tf.gradients`": hand_written.PATTERNS,
}
PATTERNS: dict[str, Pattern] = {
    pattern.name: pattern for patterns in FIELDS.values() for pattern in patterns
}
