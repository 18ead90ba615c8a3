"""Exit codes of errors: 2 for wrong usage, 75 for a temporary failure, 78 for a wrong configuration (sysexits.h)."""

USAGE = 2
TEMPORARY = 75
CONFIGURATION = 78


def codes() -> dict[type[Exception], int]:
    """Returns the exit code of each error that is shown as one message. Other errors are bugs and show a traceback."""
    from learner.errors import DataError, LearnerError, StateRefused
    from model.errors import ModelError
    from rollout.plans import NotPossible
    from services.backups import BackupRefused
    from services.commands.ask import KeyNotTaken, NoAnswer, NotTaken
    from services.encoder_check import BadVectors
    from services.exported import BadExport
    from services.history.labeller import BadHistory
    from services.history.sending import NotLearntYet
    from services.keys import KeysUnfit
    from services.local.kafka import NoBroker
    from services.local.redis import NoRedis
    from services.local.supervisor import StackFailed
    from services.operator_commands import NotDoneYet
    from services.running import NotRunning
    from services.settings import BadSettings
    from services.templates.writing import NameTaken
    from services.topics import TopicsUnfit
    from services.tune.measure import TuneFailed
    from serving.cluster import RayLost
    from serving.errors import BadCertificate
    from serving.http.access import BadKeys
    from serving.http.listener import PortTaken
    from wire import errors as wire_errors

    return {
        **dict.fromkeys((NotPossible, wire_errors.NotFound, DataError, NotTaken), USAGE),
        **dict.fromkeys((BadHistory, BadVectors, BadExport, NameTaken), USAGE),
        **dict.fromkeys((BadSettings, KeyNotTaken), CONFIGURATION),
        **dict.fromkeys((BackupRefused, BadCertificate, BadKeys, KeysUnfit, TopicsUnfit), CONFIGURATION),
        **dict.fromkeys((wire_errors.UnsafePolicy, wire_errors.BusRefused, wire_errors.StoreRefused), CONFIGURATION),
        **dict.fromkeys((wire_errors.TopicMissing, wire_errors.FolderTaken), CONFIGURATION),
        **dict.fromkeys((wire_errors.BadSignature, wire_errors.CannotSign), CONFIGURATION),
        **dict.fromkeys((wire_errors.UnknownFormat, wire_errors.TracesUnavailable), CONFIGURATION),
        **dict.fromkeys((NoRedis, NoBroker), CONFIGURATION),
        **dict.fromkeys((ModelError, StateRefused), CONFIGURATION),
        LearnerError: TEMPORARY,
        PortTaken: CONFIGURATION,
        NotRunning: TEMPORARY,
        RayLost: TEMPORARY,
        NoAnswer: TEMPORARY,
        **dict.fromkeys((NotDoneYet, NotLearntYet, StackFailed, TuneFailed), TEMPORARY),
        wire_errors.WireError: TEMPORARY,
    }


def exit_code(error: Exception) -> int:
    """Returns the exit code of the error's class, or of its nearest base class that has one."""
    code_of = codes()
    return next(code_of[kind] for kind in type(error).__mro__ if kind in code_of)
