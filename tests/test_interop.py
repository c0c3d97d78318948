"""Parity with Pyro's own AIR example: numbers that it computed on fixed weights and latents.

`data/pyro_air_small.npz` was written by Pyro 1.9.2 with torch 2.13: 8 images of 16 x 16, 3 steps,
window 8, z_what 4, LSTM 12, and hidden layers of 10, 9 and 7; latents with counts 0, 1, 2, 3, ...
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers

from airjax.air import AIR
from airjax.cli.main import main
from airjax.errors import InputError
from airjax.interop import from_pyro, load_pyro
from airjax.programs.spatial import image_to_window, window_to_image
from airjax.training.runs import Run

FILE = Path(__file__).parent / "data/pyro_air_small.npz"
SITES = ("z_pres", "z_where", "z_what")


@pytest.fixture(scope="module")
def pyro():
    with np.load(FILE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def air(pyro):
    return from_pyro(load_pyro(FILE))


@pytest.fixture(scope="module")
def traces(pyro, air):
    """The model's and the guide's sites at the latents of the file."""
    latents = {
        f"{site}_{t}": jnp.asarray(pyro[f"latent/{site}_{t}"]) for site in SITES for t in range(3)
    }
    latents |= {name: z[:, 0] for name, z in latents.items() if name.startswith("z_pres")}
    images = jnp.asarray(pyro["images"])

    def trace(program, **kwargs):
        program = handlers.seed(handlers.substitute(program, latents), jax.random.key(0))
        return handlers.trace(program).get_trace(images, **kwargs)

    prior = jnp.asarray(pyro["z_pres_prior_probs"], jnp.float32)
    return trace(air.model, z_pres_prior=prior), trace(air.guide)


def test_sizes_are_read_off_the_arrays(air):
    config = air.model.config
    assert config.image_size == (16, 16)
    assert (config.window_size, config.encoder_latent_size, config.rnn_hidden_size) == (8, 4, 12)
    assert (config.predict_net, config.bl_predict_net) == ((9,), (7,))
    assert (config.encoder_net, config.decoder_net, config.embed_net) == ((10,), (10,), ())
    assert config.scale_prior_sd == pytest.approx(0.2)


def test_the_transformer_both_ways(pyro):
    z_where = jnp.asarray(pyro["latent/z_where_0"])
    placed = window_to_image(z_where, jnp.asarray(pyro["transformer/windows"]), (16, 16))
    np.testing.assert_allclose(placed, pyro["transformer/windows_in_image"], atol=1e-5)
    cut = image_to_window(z_where, jnp.asarray(pyro["images"]), 8)
    np.testing.assert_allclose(cut, pyro["transformer/windows_from_image"], atol=1e-5)


@pytest.mark.parametrize("t", [0, 1, 2])
def test_the_guides_parameters(pyro, traces, t):
    _, guide = traces
    probs = guide[f"z_pres_{t}"]["fn"].probs
    np.testing.assert_allclose(probs, pyro[f"guide_prob/z_pres_{t}"][:, 0], atol=1e-5)
    for site in ("z_where", "z_what"):
        normal = guide[f"{site}_{t}"]["fn"].base_dist.base_dist
        np.testing.assert_allclose(normal.loc, pyro[f"guide_loc/{site}_{t}"], atol=1e-5)
        np.testing.assert_allclose(normal.scale, pyro[f"guide_scale/{site}_{t}"], atol=1e-5)


@pytest.mark.parametrize("t", [0, 1, 2])
def test_the_baselines(pyro, traces, t):
    _, guide = traces
    np.testing.assert_allclose(
        guide[f"baseline_{t}"]["value"], pyro[f"baseline/z_pres_{t}"], atol=1e-5
    )


def test_the_canvas(pyro, traces):
    model, _ = traces
    np.testing.assert_allclose(model["obs"]["fn"].base_dist.loc, pyro["canvas"], atol=1e-5)


def test_every_sites_log_probability_and_the_elbo(pyro, traces):
    elbo = 0.0
    for name, sites, sign in (("model", traces[0], 1), ("guide", traces[1], -1)):
        for site in (s for s in sites.values() if s["type"] == "sample"):
            log_prob = np.asarray(site["fn"].log_prob(site["value"]), np.float64)
            expected = pyro[f"{name}_log_prob/{site['name']}"]
            np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-6)
            elbo += sign * log_prob
    np.testing.assert_allclose(elbo, pyro["elbo"], rtol=1e-4)


def test_the_default_prior_is_pyros(pyro, air):
    from airjax.programs.model import presence_probs

    p = presence_probs(air.model.config)
    np.testing.assert_allclose(p, pyro["z_pres_prior_probs"], rtol=1e-5)


def test_saved_and_loaded_it_is_the_same(air, tmp_path):
    air.save(tmp_path / "model")
    loaded = AIR.load(tmp_path / "model")
    assert jax.tree.structure(loaded.guide) == jax.tree.structure(air.guide)
    for a, b in zip(jax.tree.leaves(loaded.guide), jax.tree.leaves(air.guide), strict=True):
        np.testing.assert_array_equal(a, b)


def test_embedding_nets(pyro):
    """A state_dict with ``embed`` and ``bl_embed``: the LSTMs read their output, not the image."""
    arrays = load_pyro(FILE)
    rng = np.random.default_rng(0)
    for bl in ("", "bl_"):
        for i, (size, o) in zip((0, 2), ((256, 6), (6, 5)), strict=True):
            arrays[f"{bl}embed.seq.{i}.weight"] = rng.normal(0, 0.1, (o, size)).astype(np.float32)
            arrays[f"{bl}embed.seq.{i}.bias"] = rng.normal(0, 0.1, o).astype(np.float32)
        wide = arrays[f"{bl}rnn.weight_ih"]
        arrays[f"{bl}rnn.weight_ih"] = np.concatenate([wide[:, :5], wide[:, 256:]], axis=1)
    air = from_pyro(arrays)
    assert air.guide.config.embed_net == (6, 5)
    x = pyro["images"].reshape(8, -1)
    for i in (0, 2):
        x = np.maximum(x @ arrays[f"embed.seq.{i}.weight"].T + arrays[f"embed.seq.{i}.bias"], 0)
    features = air.guide.networks.embed(jnp.asarray(pyro["images"]))
    np.testing.assert_allclose(features, x, atol=1e-5)
    sites = handlers.trace(handlers.seed(air.guide, jax.random.key(0))).get_trace(
        jnp.asarray(pyro["images"])
    )
    assert sites["baseline_0"]["value"].shape == (8,)


def test_options_are_settings(pyro):
    air = from_pyro(load_pyro(FILE), model_steps=5, decoder_output_bias=0.0)
    assert (air.model.config.model_steps, air.model.decoder.output_bias) == (5, 0.0)


def test_what_is_wrong_is_named():
    arrays = load_pyro(FILE)
    with pytest.raises(InputError, match="must be a state_dict of Pyro's AIR; it lacks, got 'h_in"):
        from_pyro({k: v for k, v in arrays.items() if k != "h_init"})
    with pytest.raises(InputError, match=r"guide.rnn.hidden.weight must be float32\[12, 48\]"):
        from_pyro(arrays | {"rnn.weight_hh": np.zeros((48, 11), np.float32)})


def test_import_pyro_makes_a_run(tmp_path, capsys):
    main(["import-pyro", str(FILE), str(tmp_path / "run"), "--model-steps", "2"])
    assert Run.open(tmp_path / "run").load()[0].config.model_steps == 2
    np.savez(tmp_path / "images.npz", images=np.zeros((3, 16, 16), np.uint8))
    main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "images.npz"), "--json"])
    assert '"elbo"' in capsys.readouterr().out


@pytest.mark.parametrize("name", ["no.npz", "text.npz", "pickled.npz", "text.pt"])
def test_files_that_are_no_state_dict(name, tmp_path, capsys):
    (tmp_path / "text.npz").write_text("no")
    (tmp_path / "text.pt").write_text("no")
    np.savez(tmp_path / "pickled.npz", a=np.array([{}], object))
    with pytest.raises(SystemExit) as end:
        main(["import-pyro", str(tmp_path / name), str(tmp_path / "run")])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert name in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
