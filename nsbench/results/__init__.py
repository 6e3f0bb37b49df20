"""The results folder: one record, one store, one reader of outcomes for the whole house."""

from nsbench.results.record import (
    SCHEMA,
    AttackCard,
    ConditionResult,
    NoiseOfRound,
    OutputCheck,
    Provenance,
    RecipeUsed,
    Result,
    Round,
    Stage,
)
from nsbench.results.store import (
    ensure_writable,
    find_result,
    folder_of,
    outcomes_content,
    outcomes_path,
    parse_result,
    read_outcomes,
    read_result,
    read_results,
    to_json,
    write_result,
)
from nsbench.results.upgrades import UPGRADES

__all__ = [
    "SCHEMA",
    "UPGRADES",
    "AttackCard",
    "ConditionResult",
    "NoiseOfRound",
    "OutputCheck",
    "Provenance",
    "RecipeUsed",
    "Result",
    "Round",
    "Stage",
    "ensure_writable",
    "find_result",
    "folder_of",
    "outcomes_content",
    "outcomes_path",
    "parse_result",
    "read_outcomes",
    "read_result",
    "read_results",
    "to_json",
    "write_result",
]
