"""`asdjax`, and `python -m asdjax`: the process starts again with huge pages before anything else is imported."""

from typing import NoReturn

from asdjax.memory import use_huge_pages


def command() -> NoReturn:
    """Run the command line and end with its exit code."""
    use_huge_pages()
    from asdjax import cli

    cli.command()


if __name__ == "__main__":
    command()
