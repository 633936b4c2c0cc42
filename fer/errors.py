"""Every exception that FER Lab raises for a user to read.

    FerError                what happened, the value, what is allowed, what to do
    ├── ConfigError         a setting is unknown or out of bounds
    ├── DataError           a data set is missing, cannot be read, or does not fit
    ├── ImageError          a picture cannot be read or is over a limit
    ├── RunError            a run is missing, exists already, or is in the wrong state
    │   ├── RunBroken       a run folder is damaged or of a newer schema
    │   └── RunBusy         another process holds the run, or serves the store
    ├── CheckpointError     a weights file is missing or does not fit the network
    ├── DeviceError         the device or the precision asked for is not to be had here
    ├── ClusterError        a Ray cluster does not answer or refuses, or Ray is not installed
    ├── NotAllowed          something was to be changed or started where one may only look
    └── TrainingError       a training cannot go on (the loss became NaN, memory ran out)

The text of each is one or two plain sentences fit to show on a screen. The command line prints it and exits with code 2,
a page shows it as a message. Anything that is not a FerError is a defect of ours and stays loud.
"""

from collections.abc import Mapping
from typing import Any


class FerError(Exception):
    """The root: an error whose text may be shown to the user as it is."""


class ConfigError(FerError):
    """A setting is unknown or out of bounds."""


class DataError(FerError):
    """A data set is missing, cannot be read, or does not fit the run."""


class ImageError(FerError):
    """A picture cannot be read or is over a limit."""


class RunError(FerError):
    """A run is missing, exists already, or is in the wrong state for what was asked."""


class RunBroken(RunError):
    """A run folder is damaged, or was written by a newer version."""


class RunBusy(RunError):
    """Another process holds the run, or serves the store."""


class CheckpointError(FerError):
    """A weights file is missing, damaged, or does not fit the network."""


class DeviceError(FerError):
    """The device or the precision asked for is not to be had on this machine."""


class ClusterError(FerError):
    """A Ray cluster does not answer or refuses, or Ray is not installed here."""


class NotAllowed(FerError):
    """Something was to be changed or started where one may only look."""


class TrainingError(FerError):
    """A training cannot go on. try_instead: settings with which the same training may, `{dotted path: value}`."""

    def __init__(self, text: str, *, try_instead: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.try_instead = dict(try_instead or {})
