"""What the values of a model's options must be, told in one line where they are not."""

from pipeline.errors import UsageError


def check_counts(least: int = 1, **options: int) -> None:
    """Raise UsageError unless every option, given by its name, is that number or more."""
    for name, value in options.items():
        if value < least:
            raise UsageError(f"option {name}={value}: expected at least {least}")


def check_share(**options: float) -> None:
    """Raise UsageError unless every option, given by its name, is 0 or more and below 1."""
    for name, value in options.items():
        if not 0 <= value < 1:
            raise UsageError(f"option {name}={value}: expected 0 to below 1")
