"""Everything that can be typed after `intertie node`: the agent's parser and the gateway's help are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from keyword import iskeyword
from typing import Final


@dataclass(frozen=True)
class Word:
    """One argument or option. Options begin with `--`; a `kind` of bool takes no value."""

    names: tuple[str, ...]
    help: str
    kind: type = str
    metavar: str = ""
    many: bool = False
    negated: str = ""
    """The option that says the opposite; leaving out both is a third answer."""

    @property
    def positional(self) -> bool:
        """True for an argument, which must be given."""
        return not self.names[0].startswith("-")

    @property
    def member(self) -> str:
        """Its name in the parsed result."""
        name = self.names[0].lstrip("-").replace("-", "_").lower()
        return f"{name}_" if iskeyword(name) else name


@dataclass(frozen=True)
class Command:
    """One sub-command."""

    name: str
    help: str
    more: str = ""
    words: tuple[Word, ...] = ()


JSON: Final = Word(("--json",), "Print JSON.", bool)
DATA: Final = Word(("--data",), "Folder of this node; INTERTIE_NODE_DATA, else ~/.intertie-node.", metavar="FOLDER")

COMMANDS: Final = (
    Command(
        "join",
        "Make this machine a node of the gateway at URL, then serve until Ctrl-C.",
        "The enrolment token comes from --token-file, INTERTIE_TOKEN, standard input or a prompt, never from the "
        "command line. Without one, a short code is shown for an operator to approve.",
        (
            Word(("URL",), "Address of the gateway, such as https://ai.example.com."),
            Word(("--name",), "What people shall call this node; the machine's own name unless set."),
            Word(("--token-file",), "File with the enrolment token; - is standard input.", metavar="FILE"),
            Word(("--code",), "Ask for no token: show a code for an operator to approve.", bool),
            Word(("--label",), "A label to ask for, such as gpu; repeat. The gateway decides.", many=True),
            Word(("--runtime",), "Address of a model server to offer; repeat.", metavar="URL", many=True),
            Word(
                ("--runtime-key-file",),
                "FILE or env:NAME with the key of a protected --runtime; repeat in the same order, or once for all. "
                "It never leaves this machine.",
                metavar="FILE",
                many=True,
            ),
            Word(("--no-discover",), "Offer only what --runtime names; do not look on this machine.", bool),
            Word(("--idle",), "Serve only while nobody uses this machine.", bool),
            Word(("--always",), "Serve whenever this machine is on (the default).", bool),
            Word(("--slots",), "Answers at the same time, at most; what the runtimes can do unless set.", int),
            Word(("--run",), "Serve after joining, or only join.", bool, negated="--no-run"),
            Word(("--replace",), "Replace the identity this machine already has; wishes stay.", bool),
            Word(("--insecure",), "Allow http:// to another machine, where everybody on the way can listen.", bool),
            DATA,
            JSON,
        ),
    ),
    Command(
        "run",
        "Serve until Ctrl-C or SIGTERM; answers under way may finish.",
        "",
        (
            Word(
                ("--with-parent",),
                "End also when standard input closes, that is with the program that started this.",
                bool,
            ),
            DATA,
            JSON,
        ),
    ),
    Command("status", "Show whether this node is connected and serving, and why not.", "", (DATA, JSON)),
    Command(
        "doctor",
        "Check everything a node needs, and say what to do about what fails.",
        "The exit code names the first group that fails: 10 identity, 11 gateway, 12 link, 13 runtimes, 14 graphics "
        "card, 15 idle, 16 service, 17 self-test.",
        (Word(("--no-self-test",), "Do not ask a runtime for a short answer.", bool), DATA, JSON),
    ),
    Command(
        "pause",
        "Take no new work until `resume`; what runs may finish within the owner's limit.",
        "",
        (Word(("--for",), "Resume by itself after so long, such as 90s, 30m, 2h or 1d.", metavar="TIME"), DATA, JSON),
    ),
    Command("resume", "Take work again.", "", (DATA, JSON)),
    Command(
        "leave",
        "Stop being a node: finish what runs, tell the gateway if it can be reached, remove the identity.",
        "Works without a network and needs no token. Wishes stay for the next time.",
        (Word(("--keep-key",), "Keep identity and key, so that `run` brings the same node back.", bool), DATA, JSON),
    ),
    Command("version", "Print the version.", "", (JSON,)),
)
