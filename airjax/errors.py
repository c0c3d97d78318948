"""The one exception for input that a user can put right."""


class InputError(ValueError):
    """Input that breaks a rule, told in one line: which argument, what the rule is, what came.

    The command line prints it with the argument's flag and exits with status 2; every other
    exception is a defect of airjax and keeps its traceback.

    Args:
        argument: name of the argument as Python spells it (``batch_size``), or of a file.
        rule: what holds for valid input, as the rest of a sentence ("must be at least 1").
        value: what was given; left out of the message when there is nothing to show.
    """

    def __init__(self, argument: str, rule: str, value: object = None):
        self.argument, self.rule, self.value = argument, rule, value
        super().__init__(self.message(argument))

    def message(self, argument: str) -> str:
        """The line, with ``argument`` spelled for its reader (the command line's flag, say)."""
        got = "" if self.value is None else f", got {self.value}"
        return f"{argument} {self.rule}{got}"
