"""What ``airjax train --tensorboard`` writes, read back."""

import io
import struct
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import mistake
from PIL import Image

from airjax.cli.main import main
from airjax.config_file import to_json
from airjax.training import tensorboard
from airjax.training.runs import Run

event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="needs the extra tb")

FLAGS = (
    "--steps 40 --batch-size 8 --progress-every 10 --eval-every 20 --save-every 20 "
    "--model-steps 2 --window-size 6 --encoder-latent-size 3 --rnn-hidden-size 8 --predict-net 5 "
    "--encoder-net 5 --decoder-net 5 --embed-net 5 --embed-channels 2 --tensorboard"
)


def shown(run):
    """The values that TensorBoard shows, by tag and step: a session that starts at a step hides
    what earlier ones wrote from that step on."""
    values = {}
    for file in sorted((run / tensorboard.FOLDER).iterdir()):
        content, at = file.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack_from("<Q", content, at)  # then its checksum
            event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
            at += 12 + length + 4
            if event.HasField("session_log"):
                values = {key: value for key, value in values.items() if key[1] < event.step}
            for value in event.summary.value:
                assert (value.tag, event.step) not in values
                values[value.tag, event.step] = value
    return values


def scalars(run):
    found = shown(run).items()
    return {key: value.simple_value for key, value in found if value.HasField("simple_value")}


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    """A run whose process died when the row of step 30 was written, and that went on from the
    checkpoint of step 20."""

    class Died(Exception):
        pass

    def dies(self, state, row):
        show(self, state, row)
        if row["step"] == 30:
            raise Died

    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        show = tensorboard.Events.show
        patch.setattr(tensorboard.Events, "show", dies)
        main(f"train --data {scenes} --out {run} {FLAGS}".split())
    main(["train", "--resume", str(run)])
    return run


@pytest.mark.slow  # trains
def test_every_metric_is_written_once(run):
    assert len(list((run / tensorboard.FOLDER).iterdir())) == 2  # one of each process
    rows = Run.open(run).rows()
    message = {(k, row["step"]): v for row in rows for k, v in row.items() if k != "step"}
    found = scalars(run)
    assert found.keys() == message.keys()
    np.testing.assert_allclose([found[key] for key in message], list(message.values()), rtol=1e-6)
    assert {step for tag, step in found if tag == "elbo"} == {10, 20, 30, 40}
    assert ("test_count_accuracy", 40) in found


@pytest.mark.slow  # trains
def test_settings_and_reconstructions_are_written(run):
    values = shown(run)
    text = values["config/text_summary", 0].tensor.string_val[0].decode()
    assert to_json(Run.open(run).config) in text
    for step in (20, 40):
        content = values["reconstructions", step].image.encoded_image_string
        with Image.open(io.BytesIO(content)) as picture:
            pixels = np.asarray(picture)
        assert pixels.shape[2] == 3 and pixels.std() > 10


def test_without_the_extra_one_line_says_so(scenes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    line = f"train --data {scenes} --out {tmp_path}/run {FLAGS}"
    assert mistake(line, capsys) == "--tensorboard needs tensorboardX: pip install 'airjax[tb]'"
    assert not (tmp_path / "run").exists() and find_spec("tensorboardX")
