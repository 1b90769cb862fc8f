"""The server's environment: what is right is taken, what is wrong is named in one line."""

import json
from pathlib import Path

import pytest

from model_image.__main__ import main
from model_image.artefacts import read_manifest
from model_image.settings import ModelSetting, SettingsError, read_settings
from tests.signing import SigningKey

MODELS = json.dumps([{"name": "gpt2", "version": "1", "tasks": ["completions"]}])
KEYS = ",".join(SigningKey().public for _ in range(2))
DEPLOYED = {
    "MODELKEEP_STACK": "prod",
    "MODELKEEP_MODELS_BUCKET": "models-1234567",
    "MODELKEEP_SIGNING_KEYS": KEYS,
    "MODELKEEP_MODELS": MODELS,
    "MODELKEEP_CACHE_DIR": "/var/lib/modelkeep/models",
    "MODELKEEP_HOST": "0.0.0.0",
    "MODELKEEP_PORT": "8443",
    "MODELKEEP_TLS_DIR": "/run/modelkeep/tls",
    "MODELKEEP_AUTOSCALING_GROUP": "fleet-1234567",
    "MODELKEEP_DRAIN_SECONDS": "60",
    "MODELKEEP_TARGET_INFLIGHT": "8",
    "MODELKEEP_BODY_LIMIT_KB": "64",
    "MODELKEEP_TIMEOUT_SECONDS": "120",
    "AWS_REGION": "eu-west-1",
    "PATH": "/usr/bin",
}
WRONG = [
    ({"MODELKEEP_OTLP_ENDPOINT": "collector:4318"}, "MODELKEEP_OTLP_ENDPOINT is 'collector:4318'"),
    ({"MODELKEEP_PORTS": "1"}, "MODELKEEP_PORTS is not a setting of the server; remove it"),
    ({"MODELKEEP_PORT": "http"}, "MODELKEEP_PORT is 'http': Input should be a valid integer"),
    ({"MODELKEEP_PORT": "0"}, "MODELKEEP_PORT is '0': Input should be greater than or equal to 1"),
    ({"MODELKEEP_STACK": "My Stack"}, "MODELKEEP_STACK is 'My Stack'"),
    (
        {"MODELKEEP_SIGNING_KEYS": ""},
        "MODELKEEP_SIGNING_KEYS is '': Value error, models from a bucket are served only if",
    ),
    ({"MODELKEEP_SIGNING_KEYS": "key"}, "MODELKEEP_SIGNING_KEYS is 'key': Value error, a signing key is a public key"),
    ({"MODELKEEP_SIGNING_KEYS": "AAAA"}, "MODELKEEP_SIGNING_KEYS is 'AAAA': Value error, a signing key is the public"),
    ({"MODELKEEP_MODELS": "gpt2"}, "MODELKEEP_MODELS is not JSON; write it like"),
    ({"MODELKEEP_MODELS": "[]"}, "MODELKEEP_MODELS is []"),
    ({"MODELKEEP_MODELS": MODELS.replace("completions", "cooking")}, "MODELKEEP_MODELS[0]['tasks'][0] is 'cooking'"),
    (
        {"MODELKEEP_MODELS": MODELS[:-1] + "," + MODELS[1:]},
        "MODELKEEP_MODELS: Value error, one server takes one version",
    ),
]


def test_what_an_instance_gets_is_taken() -> None:
    settings = read_settings(DEPLOYED)

    assert settings.cache_dir == Path("/var/lib/modelkeep/models")
    assert settings.models[0].tasks == ("completions",)
    assert len(settings.signing_keys) == 2
    assert settings.body_limit == 65536
    assert settings.timeout_seconds == 120


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_setting_is_one_line(change: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(DEPLOYED | change)

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_models_are_required() -> None:
    with pytest.raises(SettingsError, match="MODELKEEP_MODELS is not set; set it"):
        read_settings({})


def test_a_model_must_be_the_one_and_do_the_tasks_that_the_settings_name(artefacts: dict[str, Path]) -> None:
    manifest = read_manifest(artefacts["gpt2"])
    ModelSetting(name="tiny-gpt2", version="1", tasks=("completions",)).check(manifest)

    with pytest.raises(SettingsError, match="model tiny-gpt2 1 does not do chat, but completions; correct its tasks"):
        ModelSetting(name="tiny-gpt2", version="1", tasks=("chat",)).check(manifest)
    with pytest.raises(SettingsError, match="model tiny-gpt2 2: the artefact there is tiny-gpt2 1; publish it again"):
        ModelSetting(name="tiny-gpt2", version="2", tasks=("completions",)).check(manifest)


def test_wrong_settings_and_wrong_usage_exit_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELKEEP_NONSENSE", "1")

    assert main(["serve"]) == 2
    assert main(["bake"]) == 2
    assert main([]) == 2
    assert main(["serve", "--port", "1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("model_image serve: MODELKEEP_NONSENSE is not a setting of the server")
