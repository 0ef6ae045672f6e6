from __future__ import annotations

import re

import pytest

from saccade.model.training.config import CONF, as_yaml, resolve
from saccade.model.training.errors import InvalidSetting, UnknownSetting
from saccade.model.training.experiment import make_experiment
from saccade.model.training.settings import TokenSettings
from saccade.model.training.typed import build

MODELS = sorted(
    path.relative_to(CONF / "model").with_suffix("").as_posix()
    for path in (CONF / "model").rglob("*.yaml")
)


@pytest.mark.parametrize("task", ["nmnist", "motions"])
def test_a_task_brings_its_own_model_and_recipe(task: str) -> None:
    made = make_experiment(resolve("config", [f"task={task}"]))
    assert made.task.name == task
    assert made.config.num_classes == len(made.task.labels)
    assert made.config.num_embeddings == made.tokenization.num_tokens


@pytest.mark.parametrize("model", MODELS)
def test_every_model_can_be_chosen(model: str) -> None:
    words = ["task=motions", f"model={model}", "training.crop_events=[4096]"]
    assert make_experiment(resolve("config", words)).config.d_model >= 16


def test_the_command_line_has_the_last_word() -> None:
    words = ["task=nmnist", "data_dir=../some/where", "model.dropout=0", "seed=7"]
    settings = make_experiment(resolve("config", words)).settings
    assert settings.data_dir == "../some/where"
    assert settings.seed == 7
    assert settings.model["dropout"] == 0


def test_the_resolved_configuration_reads_back() -> None:
    values = resolve("config", ["task=motions"])
    assert "downsample: 2" in as_yaml(values)


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("training.epcohs=3", "training.epochs"),
        ("trainig.epochs=3", "training.epochs"),
        ("ssm_lr=1", "optimizer.ssm_lr"),
        ("datadir=x", "data_dir"),
        ("modle=nmnist/small", "model"),
        ("task=nmist", "nmnist"),
        ("model=nmnist/smal", "nmnist/small"),
        ("+training.epoch=3", "training.epochs"),
        ("tokens.scheme=liner", "linear"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(word: str, nearest: str) -> None:
    words = ["task=nmnist", word] if not word.startswith("task") else [word]
    with pytest.raises(UnknownSetting, match=re.escape(repr(nearest))):
        make_experiment(resolve("config", words))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "task: choose one, as in task=…; known: dvs-gesture, folder, motions"),
        (["task=nmnist", "training"], "training: it should read key=value"),
        (["task=nmnist", "training.epochs=many"], "'many' is no int"),
        (["task=nmnist", "training.crop_events=[100]"], "100 is no multiple"),
        (["task=nmnist", "training.crop_events=[]"], "it holds no length"),
        (["task=nmnist", "model.ssm_block_size=7"], "ssm_block_size 7 does not divide"),
    ],
)
def test_a_wrong_value_is_explained(words: list[str], reason: str) -> None:
    with pytest.raises(InvalidSetting, match=re.escape(reason)):
        make_experiment(resolve("config", words))


def test_a_missing_value_is_named() -> None:
    with pytest.raises(InvalidSetting, match=r"tokens\.timestep: it has no value"):
        build(TokenSettings, {"scheme": "linear", "downsample": 1}, "tokens.")


def test_a_yes_is_no_number() -> None:
    values = {"scheme": "linear", "downsample": True, "timestep": "preceding"}
    with pytest.raises(InvalidSetting, match="True is no int"):
        build(TokenSettings, values)


@pytest.mark.parametrize(
    "name", ["数据", "données", "data (1)", "a=b", "it's", "a#b", "a,b", "[a]", "~x"]
)
def test_a_path_is_taken_as_it_is(name: str) -> None:
    values = resolve("config", ["task=nmnist", f"data_dir=/d/{name}", f"resume={name}"])
    assert (values["data_dir"], values["resume"]) == (f"/d/{name}", name)


def test_a_path_in_hydras_quotes_or_null_is_what_hydra_makes_of_it() -> None:
    values = resolve("config", ["task=nmnist", r"data_dir='it\'s'", "output_dir=null"])
    assert (values["data_dir"], values["output_dir"]) == ("it's", None)


def test_figures_are_no_setting_of_training() -> None:
    with pytest.raises(UnknownSetting, match="figures"):
        resolve("config", ["task=nmnist", "figures=somewhere"])
