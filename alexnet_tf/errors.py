"""What is raised for a mistake: of a user at a command, and of a client of a server."""


class UserError(ValueError):
    """One line that says what was passed, what was expected and what to do. Binaries print it without a traceback."""


class ServingError(Exception):
    """What a server answers to a request that it cannot fulfil: `code` is the name of a gRPC status."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message
