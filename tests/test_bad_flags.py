"""Wrong command lines: each ends with one line that says what is wrong."""

import pytest
from conftest import mistake

from airjax.data import DATASETS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --steps 0", "--steps must be at least 1, got 0"),
        (
            "train --steps x",
            "--steps: no type matching {None}|INT could be instantiated from ['x']",
        ),
        ("train --batch-size x", "--batch-size: invalid literal for int() with base 10: 'x'"),
        ("train --batch-size -3", "--batch-size must be at least 1, got -3"),
        ("train -lr 0", "--learning-rate must be positive, got 0.0"),
        ("train --learning-rate nan", "--learning-rate must be positive, got nan"),
        ("train --seed -1", "--seed must be 0 to 2**32 - 1, got -1"),
        ("train --data nowhere", f"--data must be one of {', '.join(DATASETS)}, or the path"),
        ("train --model-steps 0", "--max-objects must be at least 1, got 0"),
        ("train --likelihood-sd -0.3", "--likelihood-sd must be positive, got -0.3"),
        ("train --scale-prior-sd 0", "--scale-prior-sd must be positive, got 0.0"),
        ("train --predict-net 5 0", "--predict-net must be at least 1, got (5, 0)"),
        ("train --predict-net --steps 3", "--predict-net must be given at least one size"),
        ("train --decoder-net", "--decoder-net must be given at least one size"),
        ("train --exploration-floor 1", "--exploration-floor must be 0 to 1, got 1.0"),
        ("train --save-every 0", "--save-every must be at least 1, got 0"),
        ("train --non-linearity cube", "--non-linearity"),
        ("train --particles 0", "--particles must be at least 1, got 0"),
        ("train --exploration-steps 0", "--exploration-steps must be at least 1, got 0"),
        ("train --anneal-prior-duration 0", "--anneal-prior-duration must be at least 1, got 0"),
        ("train --anneal-prior cos", "--anneal-prior"),
        ("train --progress-every 0", "--progress-every must be at least 1, got 0"),
        ("train --no-masking", "--estimator must be score without masking"),
        ("train --z-pres-prior-raw --z-pres-prior 1", "--z-pres-prior must be below 1, as raw"),
        ("train --embed-channels -1", "--embed-channels must be at least 0, got -1"),
        ("train --encoder-net 0", "--encoder-net must be at least 1, got (0,)"),
        ("train --window-size 51", "--window-size must be at most the images' smaller side, 50"),
        ("train --no-such-flag", "--no-such-flag"),
        ("evaluate", "run"),
        ("evaluate nowhere", "RUN must be the folder of a run"),
        ("plot nowhere", "RUN must be the folder of a run"),
        ("sample nowhere", "RUN must be the folder of a run"),
        ("sample --steps 0", "--steps must be at least 1, got 0"),
        ("sample --z-pres-prior 0", "--z-pres-prior must be positive, got 0"),
        ("sample -n 0", "--n must be at least 1, got 0"),
        ("data nothing x.npz", "nothing"),
        ("data digits no/such/folder/x.npz", "FILE must be in an existing folder"),
        ("data digits x.npz --num-scenes 0", "--num-scenes must be at least 1, got 0"),
        ("data digits x.npz --counts -1", "--counts must be one or more numbers >= 0, got [-1]"),
        ("data digits x.npz --overlap maybe", "--overlap"),
        (
            "fly",
            "the command must be one of train, evaluate, predict, track, check, plot, runs, demo, "
            "sample, data, import-pyro, completion, got fly",
        ),
        ("train --seeds 0", "--seeds must be at least 1, got 0"),
        ("train --restarts -1", "--restarts must be at least 0, got -1"),
        ("train --seeds 2 --seed 4294967295", "--seed must leave room for 2 seeds below 2**32"),
        ("train --resume nowhere", "--resume must be the folder of a run"),
        ("train nowhere", f"PICTURES must be one of {', '.join(DATASETS)}, or the path of"),
        ("train --out /proc/run", "--out cannot be written (No such file or directory)"),
        ("train --size 5", "--size must be HxW in pixels, as 64x48, got 5"),
        ("train --crop -1", "--crop must be at least 0, got -1"),
        ("train --crop 51", "--crop must be at most the images' smaller side, 50"),
        ("train --crop 19", "--window-size must be at most the images' smaller side, 19"),
        ("train --channel blue", "--channel"),
        ("train --background gradient", "--background"),
        ("train --likelihood-sd sometimes", "--likelihood-sd"),
        ("train --guide none", "--guide"),
        (
            "train --object-size big",
            "--object-size must be auto, a number of pixels, or a range as 8-14, got big",
        ),
        ("train --object-size 0", "--object-size must be 2 to 50 pixels, the images' smaller side"),
        ("train --object-size nan", "--object-size must be 2 to 50 pixels, the images' smaller"),
        (
            "train --object-size 9 --scale-prior-mean 4",
            "--object-size must be left out where scale_prior_mean is given, got 9",
        ),
        ("predict nowhere nowhere --out x", "RUN must be the folder of a run"),
    ],
)
def test_a_wrong_flag(line, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("airjax.data.NUM_TEST", 30)
    assert message in mistake(line, capsys)
    assert not list(tmp_path.iterdir())
