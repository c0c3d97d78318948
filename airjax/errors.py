"""The one exception for mistakes that a user can correct."""


class InputError(ValueError):
    """Input that breaks a rule. Its message is one line with the argument, the rule and the value.

    The command line prints it with the argument's flag and exits with status 2. Every other
    exception is a defect of airjax and keeps its traceback.

    Args:
        argument: name of the argument in Python (``batch_size``), or of a file.
        rule: what valid input fulfils, as the rest of a sentence ("must be at least 1").
        value: what was given; None if there is nothing to show.
    """

    def __init__(self, argument: str, rule: str, value: object = None):
        self.argument, self.rule, self.value = argument, rule, value
        super().__init__(self.message(argument))

    def message(self, argument: str) -> str:
        """The line, with another spelling of the argument (for example its flag)."""
        got = "" if self.value is None else f", got {self.value}"
        return f"{argument} {self.rule}{got}"

    def __reduce__(self):
        return type(self), (self.argument, self.rule, self.value)
