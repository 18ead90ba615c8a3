"""Tests of the settings: precedence, one message for all mistakes, hidden secrets, the frozen set."""

import json
import os
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from services.keys import FILE, with_signing_key
from services.loader import load
from services.schema import Setting
from services.settings import Settings, as_environment, known, logs_of, replaced, values_of
from services.sources import BadSettings, variable_of
from services.tune import table as tune_table
from services.tune.layout import Layout, MeasuredLayout

API_KEYS = ["the key of one client", "the key of another"]

SNAPSHOT = Path(__file__).parent / "settings.txt"

MALFORMED = {"a whole number": "eight", "a number": "many", "true or false": "perhaps", "a secret": "short"}
"""A malformed text for every kind of setting that has malformed texts."""

NUMBERS = sorted(name for name, setting in known().items() if setting.annotation in (int, float))

CHECKED = sorted(name for name, setting in known().items() if setting.kind in MALFORMED)


def frozen() -> str:
    """Returns all settings, one a line."""
    home = str(Path.home())
    lines = [
        f"{name}: {', '.join(filter(None, (setting.kind, setting.limits)))} = {setting.shown(setting.default)!r}"
        for name, setting in known().items()
    ]
    return "\n".join(lines).replace(home, "~") + "\n"


def test_the_set_of_settings_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    known.cache_clear()
    assert frozen() == SNAPSHOT.read_text(), (
        "settings were added, removed or changed: say so in the change, and write the new list with "
        f"`python -m {__name__}`"
    )


def test_every_setting_is_documented() -> None:
    assert [name for name, setting in known().items() if not setting.doc] == []


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('seed = 1\n[bus]\npartitions = 2\nprefix = "file."\n')
    environ = {"LIFELONG_BUS__PARTITIONS": "3", "LIFELONG_SEED": "4"}
    loaded = load(file=file, environ=environ, flags=["seed=5"])
    assert (loaded.settings.bus.prefix, loaded.settings.bus.partitions, loaded.settings.seed) == ("file.", 3, 5)
    assert loaded.sources["bus.prefix"] == f"{file} bus.prefix"
    assert loaded.sources["bus.partitions"] == "LIFELONG_BUS__PARTITIONS"
    assert loaded.sources["seed"] == "--set seed"


def test_the_learner_follows_seed_and_state_dir_unless_told_otherwise(tmp_path: Path) -> None:
    assert load(file=None, environ={"LIFELONG_SEED": "7"}).settings.learner.seed == 7
    own = load(file=None, environ={"LIFELONG_SEED": "7", "LIFELONG_LEARNER__SEED": "8"}).settings
    assert own.learner.seed == 8
    settings = load(file=None, environ={"LIFELONG_STATE_DIR": str(tmp_path)}).settings
    assert settings.learner.state_dir == str(tmp_path / "learner")


@pytest.mark.parametrize(
    ("flags", "layout"),
    [
        ([], (2, 1)),
        (["serving.replicas=1"], (1, 2)),
        (["serving.threads=2"], (1, 2)),
        (["serving.replicas=3"], (3, 1)),
        (["serving.replicas=3", "serving.threads=3"], (3, 3)),
    ],
)
def test_what_is_set_wins_over_what_was_measured_and_that_over_the_default(
    tmp_path: Path, flags: list[str], layout: tuple[int, int]
) -> None:
    tune_table.write([MeasuredLayout(Layout(1, 2), {1: 1.0}), MeasuredLayout(Layout(2, 1), {1: 2.0})], tmp_path)
    loaded = load(file=None, environ={"LIFELONG_STATE_DIR": str(tmp_path)}, flags=flags)
    assert (loaded.settings.serving.replicas, loaded.settings.serving.threads) == layout
    if not flags:
        assert loaded.sources["serving.replicas"] == "follows lifelong tune"


def test_a_child_reads_the_same_settings() -> None:
    environ = {
        "LIFELONG_SIGNING_KEY": "k" * 20,
        "LIFELONG_LOG_JSON": "true",
        "LIFELONG_ROLLOUT__MARGIN": "0.125",
        "LIFELONG_SERVING__API_KEYS": json.dumps(API_KEYS),
    }
    settings = load(file=None, environ=environ).settings
    assert load(file=Path(os.devnull), environ=as_environment(settings)).settings == settings


def test_every_secret_is_hidden_in_logs_and_in_what_is_shown() -> None:
    environ = {"LIFELONG_SIGNING_KEY": "k" * 20, "LIFELONG_SERVING__API_KEYS": json.dumps(API_KEYS)}
    settings = load(file=None, environ=environ).settings
    assert set(logs_of(settings).secrets) == {"k" * 20, *API_KEYS}
    shown = {name: known()[name].shown(value) for name, value in values_of(settings).items()}
    assert shown["serving.api_keys"] == "***"
    assert shown["signing_key"] == "***"
    assert API_KEYS[0] not in repr(settings)


@given(st.lists(st.sampled_from(CHECKED), min_size=1, max_size=5, unique=True), st.data())
def test_every_bad_setting_is_named_in_one_message(names: list[str], data: st.DataObject) -> None:
    unknown = data.draw(
        st.lists(st.from_regex(r"[a-z]{3,8}_zz(\.[a-z]{3,8})?", fullmatch=True), unique=True, max_size=3)
    )
    flags = []
    environ = {}
    for name in names:
        bad = MALFORMED[known()[name].kind]
        if data.draw(st.booleans()):
            flags.append(f"{name}={bad}")
        else:
            environ[variable_of(name)] = bad
    for name in unknown:
        environ[variable_of(name)] = "1"
    with pytest.raises(BadSettings) as caught:
        load(file=None, environ=environ, flags=flags)
    assert len(caught.value.problems) == len(names) + len(unknown)
    message = str(caught.value)
    for source in [*environ, *(flag.split("=")[0] for flag in flags)]:
        assert source in message


@pytest.mark.parametrize(
    ("environ", "fix"),
    [
        ({"LIFELONG_BUS__PARTITION": "3"}, "Did you mean bus.partitions?"),
        ({"LIFELONG_BUS": "{}"}, "Set its parts"),
        ({"LIFELONG_SERVING__PRECISION": "{}"}, "Set its parts"),
        ({"LIFELONG_SERVING__PRECISION__MODE": "int2"}, "one of auto, int8, int4"),
        ({"LIFELONG_SERVING__PRECISION__MAX_ACCURACY_LOSS": "0.1"}, "brown_out_accuracy_loss must not be below"),
        ({"LIFELONG_SERVING__REPLICAS": "0"}, "a whole number, at least 1 and at most 1024"),
        ({"LIFELONG_SERVING__DEDUPE_WINDOW": "-1"}, "at least 1 and at most"),
        ({"LIFELONG_LEARNER__PARKED_BYTES": "-5"}, "at least 1048576 and at most"),
        ({"LIFELONG_BUS__PARTITIONS": "0"}, "at least 1 and at most 10000"),
        ({"LIFELONG_STORE__CHUNK_BYTES": "0"}, "at least 65536 and at most"),
        ({"LIFELONG_BUS__HEARTBEAT_INTERVAL_MS": "6000"}, "must be below bus.session_timeout_ms"),
        ({"LIFELONG_BUS__PREFIX": "two words"}, "bus.prefix must be made of letters"),
        ({"LIFELONG_SERVING__HTTP_HOST": ""}, "serving.http_host must be an address"),
        ({"LIFELONG_SERVING__MAX_QUEUE_ITEMS": "8"}, "must be at least serving.max_batch_items"),
        ({"LIFELONG_LEARNER__HELD_BACK_SAMPLES": "9"}, "must be at least learner.min_held_back"),
        ({"LIFELONG_STORE__TIMEOUT_MS": "5000"}, "rollout.lease_ms must be above three times store.timeout_ms"),
        ({"LIFELONG_NONSENSE_QQ": "1"}, "lifelong config show"),
        ({"LIFELONG_LOG_LEVEL": "loud"}, "Choose debug, info, warning or error"),
        ({"LIFELONG_ROLLOUT__CANDIDATE_SHARE": "5"}, "a number, above 0 and at most 0.99"),
    ],
)
def test_a_bad_setting_says_how_to_fix_it(environ: dict[str, str], fix: str) -> None:
    with pytest.raises(BadSettings, match=next(iter(environ))) as caught:
        load(file=None, environ=environ)
    assert fix in str(caught.value)


def inside(setting: Setting) -> st.SearchStrategy[float]:
    """Returns a strategy for values in the range of the setting, its ends among them."""
    limits = {type(bound): next(iter(asdict(bound).values())) for bound in setting.bounds}
    low = limits.get(Ge, limits.get(Gt))
    high = limits.get(Le, limits.get(Lt))
    if setting.annotation is int:
        return st.integers(low, high)
    return st.floats(low, high, exclude_min=Gt in limits, exclude_max=Lt in limits)


def test_every_number_has_a_range_with_its_default_in_it() -> None:
    for name in NUMBERS:
        low, high = known()[name].bounds
        assert isinstance(low, Ge | Gt) and isinstance(high, Le | Lt), name
        assert load(file=None, environ={}, flags=[f"{name}={known()[name].default}"])


@given(st.sampled_from(NUMBERS), st.data())
def test_what_is_in_its_range_is_taken_unless_it_contradicts_another(name: str, data: st.DataObject) -> None:
    value = data.draw(inside(known()[name]))
    try:
        loaded = values_of(load(file=None, environ={}, flags=[f"{name}={value}"]).settings)[name]
    except BadSettings as error:
        (problem,) = error.problems
        assert name in problem.message and "must" in problem.message
    else:
        assert loaded == value
        assert type(loaded) is known()[name].annotation


@given(st.sampled_from(NUMBERS), st.data())
def test_what_is_outside_is_refused_with_the_range(name: str, data: st.DataObject) -> None:
    setting = known()[name]
    low, high = (next(iter(asdict(bound).values())) for bound in setting.bounds)
    beyond = data.draw(st.sampled_from([low - 1, high + 1, *([] if setting.annotation is int else ["nan", "inf"])]))
    with pytest.raises(BadSettings, match=re.escape(setting.limits)):
        load(file=None, environ={}, flags=[f"{name}={beyond}"])


def test_a_bad_file_is_one_problem_among_others(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("seed = = 1")
    with pytest.raises(BadSettings) as caught:
        load(file=file, environ={"LIFELONG_SEED": "x"})
    assert [problem.source for problem in caught.value.problems] == [str(file), "LIFELONG_SEED"]
    with pytest.raises(BadSettings, match="cannot be read"):
        load(file=tmp_path / "absent.toml", environ={})


def test_variables_of_other_readers_are_no_settings() -> None:
    load(file=None, environ={"LIFELONG_KERNELS": "library", "PATH": "/bin"})


def test_nothing_secret_is_shown() -> None:
    canary = "canary"
    environ = {"LIFELONG_SIGNING_KEY": canary, "LIFELONG_BUS__PARTITIONS": "x"}
    with pytest.raises(BadSettings) as caught:
        load(file=None, environ=environ, flags=[f"store.timeout_ms=redis://me:{canary}@host"])
    assert canary not in str(caught.value)
    settings = Settings(signing_key=SecretStr("canary" * 4))
    assert canary not in repr(settings)
    assert known()["signing_key"].shown(settings.signing_key) == "***"


def test_the_signing_key_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path / "state")
    first = with_signing_key(settings, own_store=True).signing_key
    assert first == with_signing_key(settings, own_store=True).signing_key
    assert (tmp_path / "state" / FILE).stat().st_mode & 0o777 == 0o600
    assert len(list((tmp_path / "state").iterdir())) == 1


@pytest.mark.parametrize("found", ["", "cut off"])
def test_a_key_that_a_power_cut_has_emptied_is_told(tmp_path: Path, found: str) -> None:
    """B25, number 3: the key is on disk before anything is signed with it, and is never read incomplete."""
    (tmp_path / FILE).write_text(found)
    with pytest.raises(BadSettings, match=r"signing\.key: holds no signing key\. Restore it from a copy"):
        with_signing_key(Settings(state_dir=tmp_path), own_store=True)


def test_a_signing_key_is_asked_for_where_redis_is_not_ours(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="LIFELONG_SIGNING_KEY: is required"):
        with_signing_key(Settings(state_dir=tmp_path), own_store=False)
    given_key = Settings(state_dir=tmp_path, signing_key=SecretStr("k" * 20))
    assert with_signing_key(given_key, own_store=False) == given_key


def test_replaced_changes_what_is_named_and_nothing_else() -> None:
    settings = Settings()
    changes = {
        "store.url": "redis://host",
        "bus.prefix": "p.",
        "seed": 3,
        "bus.partitions": 9,
        "serving.precision.mode": "int4",
    }
    changed = values_of(replaced(settings, changes))
    assert changed == values_of(settings) | changes


if __name__ == "__main__":
    os.environ.pop("XDG_STATE_HOME", None)
    SNAPSHOT.write_text(frozen())
