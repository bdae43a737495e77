"""Lets `python -m dfpipe` do what the `dfpipe` command does."""

from dfpipe.cli import main

if __name__ == "__main__":
    main()
