"""The reference of the command line, from the commands themselves."""

import re
import textwrap

import click

from dfpipe import cli_evaluate, cli_infer, cli_model, cli_preprocess, cli_train, cli_trunk, cli_web
from dfpipe.cli import EXIT_CODES, main
from generate.words import code, prose, table

GROUPS = {  # heading -> its commands, in the order of the data
    "Collections and faces": cli_preprocess.COMMANDS,
    "Training": cli_train.COMMANDS,
    "Model files": cli_model.COMMANDS,
    "Measuring": cli_evaluate.COMMANDS,
    "Judging": cli_infer.COMMANDS,
    "Web page and API": cli_web.COMMANDS,
    "The install itself": cli_trunk.COMMANDS,
}


def text() -> str:
    """All commands with what they do, their options and examples."""
    above = click.Context(main, info_name="dfpipe")
    codes = " ".join(EXIT_CODES.replace("\b", "").split())
    parts = [prose(codes)]
    for heading, group in GROUPS.items():
        parts.append(f"## {heading}")
        for command in group:
            parts += _entry(command, above)
    return "\n\n".join(parts)


def _entry(command: click.Command, above: click.Context) -> list[str]:
    context = click.Context(command, info_name=command.name, parent=above)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"### {context.command_path}", f"```text\n{usage}\n```", *_help(command.help or "")]
    records = [record for param in command.params if (record := param.get_help_record(context))]
    rows = [(code(name), prose(text)) for name, text in records if text]
    if rows:
        parts.append(table(("option", "means"), rows))
    if isinstance(command, click.Group):
        for below in command.commands.values():
            parts += _entry(below, context)
    return parts


def _help(text: str) -> list[str]:
    r"""Paragraphs of a help text. One that begins with \b keeps its lines; an example is told as such."""
    parts = []
    for paragraph in re.split(r"\n\s*\n", text.replace("\b", "\\b")):
        lines = paragraph.strip("\n").splitlines()
        if lines and lines[0].strip() == "\\b":
            lines = lines[1:]
            if lines[0].strip() == "Example:":
                lines = lines[1:]
            block = textwrap.dedent("\n".join(lines)).strip()
            parts.append(f"```sh\n{block}\n```")
        elif lines:
            parts.append(prose(" ".join(line.strip() for line in lines)))
    return parts
