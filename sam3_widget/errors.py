"""The errors of sam3_widget: each says what was wrong, what was expected, and what to do."""

from __future__ import annotations


class Sam3WidgetError(Exception):
    """Base of every error this package raises on purpose.

    Attributes
    ----------
    code : str
        Short, stable name of the kind of error; the front end receives it with the message.
    """

    code = "error"


class InvalidPromptError(Sam3WidgetError, ValueError):
    """A prompt, label or setting is malformed, or lies outside the image."""

    code = "invalid_prompt"


class InvalidImageError(Sam3WidgetError, ValueError):
    """What was given cannot be read as one image."""

    code = "invalid_image"


class InvalidVideoError(Sam3WidgetError, ValueError):
    """What was given cannot be read as one clip, or a frame of it cannot be decoded."""

    code = "invalid_video"


class FormatError(Sam3WidgetError, ValueError):
    """A file of annotations is not of the format it should be, or a format cannot hold what it should."""

    code = "format"


class NotFoundError(Sam3WidgetError, KeyError):
    """A prompt, an instance or a command with this id or name does not exist."""

    code = "not_found"

    def __str__(self) -> str:
        """Return the message itself: KeyError would show its repr."""
        return str(self.args[0]) if self.args else ""


class PromptWarning(UserWarning):
    """A prompt was taken, but not all of it will be seen by the model."""


class VideoWarning(UserWarning):
    """A clip was taken, but not all of it can be read as it was recorded."""


class LockedError(Sam3WidgetError):
    """An instance is locked, so nothing may change its mask; or a file is, which somebody else writes."""

    code = "locked"


class UnsupportedError(Sam3WidgetError, NotImplementedError):
    """The model in use cannot serve this kind of prompt."""

    code = "unsupported"


class ModelError(Sam3WidgetError, RuntimeError):
    """A model could not be loaded, or failed while it ran."""

    code = "model"


class WeightsError(ModelError):
    """A checkpoint is not on this disk, could not be downloaded, is damaged, or is of another kind."""

    code = "weights"


class CancelledError(Sam3WidgetError):
    """The work was cancelled before it finished."""

    code = "cancelled"


class ProtocolError(Sam3WidgetError):
    """A message between the kernel and the front end is malformed."""

    code = "protocol"
