"""What goes wrong for a reason that the user can mend: the command line prints one line and exits with 2."""


class UserError(ValueError):
    """Bad input: the text names the thing, what it got, what is expected and the remedy."""


class MissingSplitError(UserError):
    """The data has no such part: no test images, say."""


class NativeError(UserError, ImportError):
    """The compiled half of the package is missing, broken or of other sources: the text tells the command."""
