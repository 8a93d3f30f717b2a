"""Options: what is given, what the recipe decides, and what a resumed run keeps."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training.objectives import flat

from infogan_fast.config import OPTIONS, RESUMABLE, Config, load_config, options_page
from infogan_fast.data.registry import SOURCES
from infogan_fast.errors import UserError
from infogan_fast.latents import LatentSpec
from infogan_fast.objective.transformation import Transformation
from infogan_fast.presets import PRESETS
from infogan_fast.request import parse, parser
from infogan_fast.train import main as train_main


def saved(config: Config) -> dict[str, Any]:
    """The options as config.json has them."""
    values: dict[str, Any] = json.loads(json.dumps(config.options()))
    return values


def given(*flags: str) -> Config:
    return Config.from_options(parse(flags).given)


def test_options_survive_the_round_trip() -> None:
    config = Config.from_options(
        {"steps": 7, "fixed_sigma": 0.5, "latents": "cat=3 , uniform=1", "amp": True}
    ).checked()
    assert config.options()["latents"] == "noise=0,cat=3,uniform=1"
    assert load_config(saved(config)) == config
    assert load_config(saved(config)).resumed({}) == config
    assert load_config(saved(config)).resumed({"steps": 9}).steps == 9
    for term in ("invariance", "equivariance"):
        options = {term: 0.0, "balance": 2.0, "transformation": "shear=1"}
        own = Config.from_options(options).checked()
        assert load_config(saved(own)).resumed({term: 0.0, "steps": 9}) == replace(own, steps=9)


@pytest.mark.parametrize(
    ("flags", "consistency", "transformation"),
    [
        ([], 1.0, "rotation=15,scale=0.15,shear=0,shift=0.06,colour=0,bend=0.1,flip=0"),
        (["--data", "mnist"], 1.0, "rotation=15,scale=0.15,shear=0.2,shift=0.06,colour=0,bend=0.1,flip=0"),
        (["--data", "fashion-mnist"], 1.0, str(SOURCES["fashion-mnist"].transformation)),
        (["--data", "pictures"], 0.0, None),
        (["--data", "pictures", "--consistency", "0.5"], 0.5, str(Transformation())),
        (
            ["--data", "pictures", "--consistency", "2", "--transformation", "flip=1"],
            2.0,
            "rotation=0,scale=0,shear=0,shift=0,colour=0,bend=0,flip=1",
        ),
        (
            ["--transformation", "shear=0.1"],
            1.0,
            "rotation=0,scale=0,shear=0.1,shift=0,colour=0,bend=0,flip=0",
        ),
        (["--consistency", "0"], 0.0, None),
        (["--recipe", "paper"], 0.0, None),
        (["--recipe", "paper", "--consistency", "0.5"], 0.5, str(SOURCES["strokes"].transformation)),
        (["--latents", "noise=5,uniform=2"], 0.0, None),
        (["--latents", "noise=5,uniform=2", "--consistency", "0"], 0.0, None),
    ],
    ids=lambda value: " ".join(value) or "default" if isinstance(value, list) else "",
)
def test_the_recipe_decides_what_is_not_given(
    flags: list[str], consistency: float, transformation: str | None
) -> None:
    config = given(*flags).checked()
    assert (config.get("consistency"), config.options()["transformation"]) == (consistency, transformation)
    assert flat(config.objective).consistency == consistency
    if transformation is not None:
        assert config.objective.transformation == Transformation.parse(transformation)
    # What is saved says it all, and is what a resumed run goes by.
    assert config.checked() == config
    again = load_config(saved(config))
    assert again.resumed(parse(["--resume", "x", *flags, "--steps", "9000"]).given).steps == 9000
    other = ["--resume", "x", "--consistency", "7"] if "noise=5" not in str(flags) else ["--resume", "x"]
    other += ["--recipe", "default" if config.recipe == "paper" else "paper"]
    with pytest.raises(UserError, match=r"--recipe \(\w+ in the run"):
        again.resumed(parse(other).given)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--data", "mnist"], (0.1, 1e-3, 1.0, 0.9, 0.3, 0.02, 1.0, 1500, 500)),
        (["--data", "fashion-mnist"], (0.1, 1e-3, 1.0, 0.9, 0.0, 0.02, 0.0, 1500, 500)),
        (["--recipe", "paper"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)),
        (["--consistency", "0"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)),
        (["--data", "pictures"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)),
        (["--data", "pictures", "--consistency", "1"], (0.1, 1e-3, 1.0, 0.9, 0.0, 0.02, 0.0, 1500, 500)),
        (["--recipe", "paper", "--consistency", "1"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0)),
        (["--lr-q", "5e-4"], (0.3, 5e-4, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--lambda-categorical", "1"], (1.0, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--lambda-categorical", "0"], (0.0, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--balance", "0", "--joint-ema", "0.5"], (0.3, 1e-3, 0.0, 0.5, 0.3, 0.02, 0.0, 1500, 500)),
        (["--invariance", "0"], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.0, 0.0, 1500, 500)),
        (["--recipe", "paper", "--invariance", "1"], (1.0, 2e-4, 0.0, 0.0, 0.0, 1.0, 0.0, 0, 0)),
        (["--equivariance", "0"], (0.3, 1e-3, 1.0, 0.9, 0.0, 0.02, 0.0, 1500, 500)),
        (["--data", "pictures", "--equivariance", "2"], (1.0, 2e-4, 0.0, 0.0, 2.0, 0.0, 0.0, 0, 0)),
        (["--restart-q", "0"], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 0)),
        (["--recipe", "paper", "--restart-q", "7"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 7)),
        (["--data", "mnist"], (0.1, 1e-3, 1.0, 0.9, 0.3, 0.02, 1.0, 1500, 500)),
        (
            ["--data", "mnist", "--transformation", "rotation=5"],
            (0.1, 1e-3, 1.0, 0.9, 0.3, 0.02, 1.0, 1500, 500),
        ),
        (["--data", "mnist", "--smoothness", "0"], (0.1, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
        (["--recipe", "paper", "--smoothness", "2"], (1.0, 2e-4, 0.0, 0.0, 0.0, 0.0, 2.0, 0, 0)),
        (["--smoothness-until", "0"], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 0, 500)),
        # One code alone has nobody to leave anything to.
        (
            ["--latents", "noise=5,cat=3,uniform=1,bernoulli=2"],
            (0.3, 1e-3, 1.0, 0.9, 0.0, 0.0, 0.0, 1500, 500),
        ),
        (["--latents", "noise=5,cat=3,uniform=1,normal=1"], (0.3, 1e-3, 1.0, 0.9, 0.3, 0.02, 0.0, 1500, 500)),
    ],
)
def test_what_goes_with_consistency(flags: list[str], expected: tuple[float, ...]) -> None:
    config = given(*flags).checked()
    names: tuple[str, ...] = (
        "lambda_categorical",
        "lr_q",
        "balance",
        "joint_ema",
        "equivariance",
        "invariance",
        "smoothness",
    )
    names += ("smoothness_until", "restart_q")
    assert tuple(config.get(name) for name in names) == expected
    assert tuple(vars(flat(config.objective))[name] for name in names) == expected
    assert (config.transformation is not None) == any(term.weight for term in config.objective.terms)
    again = parse(["--resume", "x", *flags, "--steps", "9000"]).given
    assert load_config(saved(config)).resumed(again).steps == 9000


@pytest.mark.parametrize(
    ("flags", "ema"),
    [
        ([], 0.999),
        (["--data", "pictures"], 0.999),
        (["--data", "mnist", "--consistency", "0"], 0.999),
        (["--ema", "0"], 0.0),
        (["--recipe", "paper"], 0.0),
        (["--recipe", "paper", "--consistency", "1"], 0.0),
        (["--recipe", "paper", "--ema", "0.99"], 0.99),
    ],
)
def test_the_default_recipe_averages_the_weights(flags: list[str], ema: float) -> None:
    assert given(*flags).checked().objective.ema == ema


def test_every_setting_has_a_flag_and_help_says_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    actions = {action.dest: action for action in parser()._actions}
    assert set(OPTIONS) <= set(actions)
    for name, option in OPTIONS.items():
        assert f"(default: {option.default_in_words})" in (actions[name].help or ""), name
    assert set(OPTIONS) >= RESUMABLE
    with pytest.raises(SystemExit) as stop:
        train_main(["--help"])
    assert stop.value.code == 0
    assert "optimisation:" in capsys.readouterr().out


def test_flags_arrive_in_the_objective() -> None:
    flags = ["--lr-d", "1", "--lr-q", "2", "--lr-g", "3", "--beta1", ".1", "--beta2", ".2", "--ema", ".3"]
    flags += ["--lambda-categorical", "4", "--lambda-continuous", "5", "--fixed-sigma", "6"]
    flags += ["--balance", "9", "--joint-ema", ".4"]
    flags += ["--consistency", "7", "--equivariance", "10", "--invariance", "8"]
    flags += ["--transformation", "colour=0.5,rotation=1,bend=0.2", "--restart-q", "11"]
    flags += ["--smoothness", "12", "--smoothness-until", "13", "--bending", "14"]
    request = parse([*flags, "--mi-gradient", "trunk", "--schedule", "one-stage"])
    objective = Config.from_options(request.given).checked().objective
    found = vars(flat(objective))
    expected = {
        "lr_d": 1.0,
        "lr_q": 2.0,
        "lr_g": 3.0,
        "beta1": 0.1,
        "beta2": 0.2,
        "ema": 0.3,
        "lambda_categorical": 4.0,
        "lambda_continuous": 5.0,
        "fixed_sigma": 6.0,
        "mi_gradient": "trunk",
        "schedule": "one-stage",
        "consistency": 7.0,
        "balance": 9.0,
        "joint_ema": 0.4,
        "equivariance": 10.0,
        "restart_q": 11,
        "smoothness": 12.0,
        "smoothness_until": 13,
        "bending": 14.0,
        "invariance": 8.0,
        "transformation": Transformation(1, 0, 0, 0, 0.5, 0.2),
    }
    assert {name: found[name] for name in expected} == expected


def test_weights_of_single_codes() -> None:
    config = given("--lambda", "c1=2, c3=0.05", "--lambda-categorical", "4").checked()
    assert config.objective.lambdas(config.latents) == (2.0, 0.1, 0.05)
    again = load_config(saved(config))
    assert again.objective.lambdas(config.latents) == (2.0, 0.1, 0.05)
    assert Config.from_options({"lambda_": {"c2": 1}}).checked().objective.lambdas(LatentSpec())[1] == 1.0
    assert given().checked().objective.lambdas(LatentSpec()) == (0.3, 0.1, 0.1)
    for text, message in (
        ("c4=1", r"--lambda names c4; --latents .* has c1 \(categorical\), c2"),
        ("c1", "expected weights by code"),
        ("c1=much", "expected weights by code"),
        ("=1", "expected weights by code"),
        ("c1=-1", "--lambda is -1 for c1"),
        ("c1=nan", "--lambda is nan for c1"),
        ("c1=inf", "--lambda is inf for c1"),
        ("c1=1,c1=2", "gives c1 twice"),
    ):
        with pytest.raises(UserError, match=message):
            given("--lambda", text).checked()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_what_is_not_given(name: str) -> None:
    flags = [] if "data" in PRESETS[name] else ["--data", "pictures"]
    config = given("--preset", name, *flags).checked()
    for option, value in PRESETS[name].items():
        assert config.get(option) == OPTIONS[option].convert(value), option
    assert config.get("consistency") == 0.0
    assert (config.lambda_categorical, config.lr_q) == (1.0, 2e-4)
    assert load_config(saved(config)) == config
    assert load_config(saved(config)).resumed({"steps": 9000, "preset": name}).steps == 9000
    own = given("--preset", name, "--data", "mine", "--lr-g", "0.5", "--latents", "cat=3").checked()
    assert (own.data, own.lr_g, str(own.latents)) == ("mine", 0.5, "noise=0,cat=3")
    assert own.network == name
    with pytest.raises(UserError, match=rf"--network {name} is for"):
        given("--preset", name, *flags, "--image-size", "48").checked()
    assert (
        given("--preset", name, *flags, "--image-size", "48", "--network", "auto").checked().image_size == 48
    )


def test_presets_that_are_not_there_or_lack_images() -> None:
    with pytest.raises(
        UserError, match="--preset faces: the paper's images are not known by name; give yours"
    ):
        given("--preset", "faces")
    with pytest.raises(UserError, match="--preset is 'cars'; expected one of mnist"):
        Config.from_options({"preset": "cars"})


def test_runs_of_an_earlier_version_have_the_network_that_fits() -> None:
    options = saved(given().checked())
    assert options["network"] == "auto"
    assert load_config({**options, "network": "infogan"}) == load_config(options)
    del options["lambda_"], options["preset"], options["network"]
    assert load_config(options) == given().checked()


def test_the_page_of_options_is_that_of_the_code() -> None:
    page = Path(__file__).parents[1] / "docs" / "options.md"
    remedy = "python -m infogan_fast.config > docs/options.md"
    assert page.read_text() == options_page(), f"renew it: {remedy}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 5}, "there is no option 'step'; did you mean steps?"),
        ({"lr-g": 1e-3}, "there is no option 'lr-g'; did you mean lr_g?"),
        ({"quokka": 5}, "there is no option 'quokka'"),
        ({"steps": "5"}, "--steps is '5'; expected a whole number"),
        ({"amp": "yes"}, "--amp is 'yes'; expected True or False"),
        ({"latents": 5}, "--latents is 5; expected a text or a LatentSpec"),
        ({"consistency": "much"}, "--consistency is 'much'; expected a number"),
        ({"profile": (1,)}, "--profile is '1'; expected START:STOP, such as 100:110"),
        ({"profile": ("a", "b")}, "--profile is 'a:b'; expected START:STOP, such as 100:110"),
        ({"profile": [5, 2]}, "--profile is '5:2'; expected START:STOP, such as 100:110"),
    ],
)
def test_options_from_python_that_are_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        Config.from_options(options)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"data_dir": "there"},
            "--data-dir there: --data strokes is drawn, and needs no files; for your own",
        ),
        (
            {"data": "some/pictures", "data_dir": "there"},
            "--data some/pictures is no published set; for your",
        ),
        ({"steps": 2**24}, "--steps is 16777216; expected 1 to 16777215"),
    ],
)
def test_what_would_be_ignored_or_lost_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        Config.from_options(options).checked()


def test_a_run_goes_on_without_a_folder_that_it_ignored() -> None:
    old = Config.from_options({"data": "strokes"}).checked().changed({"data_dir": "there"})
    assert old.resumed({}).data_dir is None
    with pytest.raises(UserError, match="--data-dir here: --data strokes is drawn"):
        old.resumed({"data_dir": "here"})
    assert Config.from_options({"amp": np.bool_(True), "profile": (2, 4)}).amp is True
    published = Config.from_options({"data": "mnist", "data_dir": "there"}).checked()
    assert published.resumed({"data": "moved/mnist"}).data_dir is None  # the same images at another place
    assert published.resumed({}).data_dir == "there" and published.resumed({"data_dir": "x"}).data_dir == "x"


def test_options_from_python_may_be_objects() -> None:
    spec, ranges = LatentSpec.parse("cat=3"), Transformation.parse("rotation=5")
    config = Config.from_options({"latents": spec, "transformation": ranges, "consistency": 1, "lr_q": None})
    assert (config.latents, config.transformation, config.get("consistency")) == (spec, ranges, 1.0)
    assert config == Config.from_options(
        {"latents": "noise=0,cat=3", "transformation": "rotation=5", "consistency": 1.0}
    )
    assert config.data_name == "strokes"
    assert Config.from_options({"data": Path("my") / "digits.npy"}).data_name == "digits.npy"


def test_balance_falls_where_a_prior_is_learned() -> None:
    def fall(*flags: str) -> tuple[Any, Any]:
        config = given(*flags).checked()
        return config.get("balance_end"), config.get("balance_until")

    assert fall() == (0.0, 0)
    assert fall("--latents", "noise=5,cat=3:learned") == (-0.5, 1500)
    assert fall("--latents", "noise=5,cat=3:learned", "--balance-end", "0.2") == (0.2, 1500)
    assert fall("--latents", "noise=5,cat=3:learned", "--balance-until", "0") == (0.0, 0)
    replayed = ["--latents", "noise=5,cat=3:learned", "--steps", "1600", "--steps-per-replay", "8"]
    replayed += ["--restart-q", "504", "--smoothness-until", "0"]
    replayed += ["--log-every", "8", "--sample-every", "8", "--checkpoint-every", "8"]
    with pytest.raises(UserError, match=r"--balance-until is 1504, .*: give --balance-until 1560"):
        given(*replayed, "--balance-until", "1504").checked()
    borders = [
        updates
        for term in given(*replayed, "--balance-until", "1560").checked().objective.terms
        for updates in term.changes_at().values()
    ]
    assert borders and not any(update % 8 for updates in borders for update in updates)
    with pytest.raises(UserError, match=r"has a learned prior, which follows what --consistency measures"):
        given("--latents", "noise=5,cat=3:learned", "--recipe", "paper").checked()


def test_bending_goes_with_copies_that_are_bent() -> None:
    mnist = given("--data", "mnist").checked()
    assert (
        mnist.get("bending") == 1.0 and mnist.transformation is not None and mnist.transformation.bend == 0.1
    )
    assert given("--data", "mnist", "--transformation", "rotation=5").checked().get("bending") == 0.0
    assert given("--data", "mnist", "--recipe", "paper").checked().get("bending") == 0.0
    assert given("--data", "strokes").checked().get("bending") == 0.0
    with pytest.raises(UserError, match=r"--bending 2 needs copies that are bent; add bend=0.1"):
        given("--data", "mnist", "--transformation", "rotation=5", "--bending", "2").checked()
