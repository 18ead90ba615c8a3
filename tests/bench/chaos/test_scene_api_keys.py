"""Checks the API keys of a scene, and the attack of a client that has one."""

import random
from pathlib import Path

from bench.chaos.scene import api_keys, scene_settings
from bench.chaos.size import SHORT
from services.local.children import free_port
from serving.http.access import read_keys


def test_the_load_and_the_attacker_have_a_key_each(tmp_path: Path) -> None:
    keys = api_keys(tmp_path / "logs")
    assert [key.name for key in read_keys(keys.file)] == ["chaos", "mallory"]
    assert keys.load != keys.attacker


def test_an_attack_ends_when_it_is_healed(tmp_path: Path) -> None:
    settings = scene_settings(state_dir=str(tmp_path), serving__http_port=free_port())
    keys = api_keys(tmp_path)
    attack = keys.kind(settings, SHORT).make(random.Random(1))
    attack.inject()
    attack.heal()
    assert (keys.breaches, attack.is_over(), attack.num_kills) == ([], True, 0), "no service runs that accepts requests"
