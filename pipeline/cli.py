"""The command line: a command parses its flags, calls one room, and prints.

The only place that turns errors into text and exit codes. Heavy imports happen inside the commands, so that `--help` is
instant.
"""

import errno
import io
import sys
from typing import Any

import click

from dfpipe import __version__, cli_evaluate, cli_infer, cli_model, cli_preprocess, cli_train, cli_trunk, cli_web
from dfpipe.errors import DfpipeError, Interrupted, ResourceError
from dfpipe.names import printable
from dfpipe.signals import Terminated, stoppable

TERMINATED = 143  # as a shell tells of a program that ended by SIGTERM

EXIT_CODES = """\b
Exit codes: 0 all done; 1 a bug; 2 wrong usage, config or data; 3 some inputs
failed, the rest is done; 4 no usable model file; 5 out of disk or memory;
130 interrupted, 143 by SIGTERM. Whatever was finished before stays valid.

Tab completion in bash: eval "$(_DFPIPE_COMPLETE=bash_source dfpipe)"
"""


class _Doors(click.Group):
    """Turns every error that dfpipe raises on purpose into one line and its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which data flows through them."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may have signs that a terminal has not
        try:
            with stoppable():
                return super().invoke(ctx)
        except DfpipeError as error:
            failure = error
        except KeyboardInterrupt as error:
            failure = Interrupted("interrupted; finished work is kept, the same command goes on from it")
            if isinstance(error, Terminated):
                failure.exit_code = TERMINATED
        except MemoryError:
            failure = ResourceError("out of memory: try --workers 1, or a smaller train.batch_size or infer.batch_size")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            failure = ResourceError("no space left on the disk: free some, and run the same command again")
        click.echo(f"Error: {printable(str(failure))}", err=True)
        ctx.exit(failure.exit_code)


@click.group(cls=_Doors, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES.strip())
@click.version_option(__version__, "--version", prog_name="dfpipe")
def main() -> None:
    """Deepfake detection from clips and stills to verdicts that a person can check.

    \b
    The main job, in one folder:
      dfpipe extract --videos dfdc/   faces of labelled clips   -> data/faces/
      dfpipe train                    a model from the faces    -> runs/
      dfpipe infer clip.mp4           a verdict with the model  -> verdicts/

    \b
    No data yet?        dfpipe demo
    Does it work here?  dfpipe doctor
    More on a command:  dfpipe COMMAND --help
    """


for _module in (cli_preprocess, cli_train, cli_model, cli_evaluate, cli_infer, cli_web, cli_trunk):
    for _command in _module.COMMANDS:
        main.add_command(_command)
