"""`diffbot data ...`: one file for each verb."""

from __future__ import annotations

from diffbot.cli.data_check import CHECK
from diffbot.cli.data_convert import EXPORT, IMPORT
from diffbot.cli.data_edit import DELETE, RELABEL, TRIM
from diffbot.cli.data_info import INFO
from diffbot.cli.data_mix import MERGE, SPLIT
from diffbot.cli.data_replay import REPLAY
from diffbot.cli.data_view import VIEW
from diffbot.cli.verb import Verb

VERBS: dict[str, Verb] = {
    "info": INFO,
    "check": CHECK,
    "import": IMPORT,
    "export": EXPORT,
    "replay": REPLAY,
    "view": VIEW,
    "merge": MERGE,
    "split": SPLIT,
    "delete": DELETE,
    "trim": TRIM,
    "relabel": RELABEL,
}
