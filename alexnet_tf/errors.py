"""The one exception for what a user can mend."""


class UserError(ValueError):
    """One line that says what was passed, what was expected and what to do. Binaries print it without a traceback."""
