"""Which error ends a command with which code: 2 wrong use, 75 try again later, 78 settings or set-up."""

USAGE = 2
TEMPORARY = 75
CONFIGURATION = 78


def codes() -> dict[type[Exception], int]:
    """The code of every error that is told in one message. Any other is a fault of ours, and shows its trace."""
    from learner.errors import DataError, LearnerError, StateRefused
    from model.errors import ModelError
    from rollout.plans import NotPossible
    from services.commands.ask import NoAnswer
    from services.commands.forget import NotErasedYet
    from services.local.kafka import NoBroker
    from services.local.redis import NoRedis
    from services.running import NotRunning
    from services.sources import BadSettings
    from services.supervisor import StackFailed
    from services.tune.measure import TuneFailed
    from serving.cluster import RayLost
    from serving.http.listener import PortTaken
    from wire.errors import BadSignature, NotFound, UnknownFormat, UnsafePolicy, WireError

    return {
        NotPossible: USAGE,
        NotFound: USAGE,
        DataError: USAGE,
        BadSettings: CONFIGURATION,
        UnsafePolicy: CONFIGURATION,
        BadSignature: CONFIGURATION,
        UnknownFormat: CONFIGURATION,
        NoRedis: CONFIGURATION,
        NoBroker: CONFIGURATION,
        ModelError: CONFIGURATION,
        StateRefused: CONFIGURATION,
        LearnerError: TEMPORARY,
        PortTaken: CONFIGURATION,
        NotRunning: TEMPORARY,
        RayLost: TEMPORARY,
        NoAnswer: TEMPORARY,
        NotErasedYet: TEMPORARY,
        StackFailed: TEMPORARY,
        TuneFailed: TEMPORARY,
        WireError: TEMPORARY,
    }


def code_of(error: Exception) -> int:
    """The code of the error's own class, or of the nearest class above it."""
    known = codes()
    return next(known[kind] for kind in type(error).__mro__ if kind in known)
