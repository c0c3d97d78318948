"""Weights of Pyro's AIR example (``examples/air``); our programs compute the same with them."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from airjax.air import AIR
from airjax.config import ModelConfig
from airjax.errors import InputError
from airjax.training.checkpoint import from_arrays


def from_pyro(arrays: Mapping[str, np.ndarray], **options: Any) -> AIR:
    """An AIR that computes the same as Pyro's example with this state_dict.

    Sizes and the prior of z_where are those of the arrays.

    Args:
        arrays: the state_dict, names to arrays; linear weights are [out, in].
        options: fields of `ModelConfig` that a state_dict does not contain: ``model_steps``,
            ``z_pres_prior``, ``likelihood_sd``, ``decoder_output_bias``, ``non_linearity`` ...;
            ``image_size`` where images are not square.

    Raises:
        InputError: if an array is missing, or has a shape that does not fit the others.
    """
    try:
        config = _config(arrays, options)
        ours = _weights(arrays, math.prod(config.image_size), embed=bool(config.embed_net))
    except KeyError as error:
        raise InputError("arrays", "must be a state_dict of Pyro's AIR; it lacks", error) from None
    return AIR.of(*from_arrays(config, ours, "arrays"))


def load_pyro(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state_dict in an .npz, or in a .pt (if torch is installed).

    If some names begin with ``weight/``, only those are the state_dict.

    Raises:
        InputError: if the file cannot be read, or holds anything but arrays.
    """
    name = str(path)
    try:
        if path.suffix == ".pt":
            try:
                import torch  # pyright: ignore[reportMissingImports]
            except ImportError:
                raise InputError(name, "needs torch to be read; an .npz does not") from None
            loaded = torch.load(path, map_location="cpu", weights_only=True)
            arrays = {key: np.asarray(value) for key, value in loaded.items()}
        else:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
    except InputError:
        raise
    except Exception as error:  # torch and NumPy raise errors of zipfile, pickle and the system
        raise InputError(name, f"must be a state_dict as .npz or .pt: {error}") from None
    prefix = "weight/" if any(key.startswith("weight/") for key in arrays) else ""
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _config(arrays: Mapping[str, np.ndarray], options: dict[str, Any]) -> ModelConfig:
    loc, scale = arrays["z_where_loc_prior"], arrays["z_where_scale_prior"]
    latents = 3 + arrays["z_what_init"].size + 1
    embed_net = _hidden_sizes(arrays, "embed", last=True)
    pixels = arrays["embed.seq.0.weight" if embed_net else "rnn.weight_ih"].shape[1]
    side = math.isqrt(pixels if embed_net else pixels - latents)
    found = {
        "scale_prior_mean": float(loc[0]),
        "scale_prior_sd": float(scale[0]),
        "pos_prior_mean": float(loc[1]),
        "pos_prior_sd": float(scale[1]),
        "window_size": math.isqrt(arrays["encode.mlp.seq.0.weight"].shape[1]),
        "encoder_latent_size": arrays["z_what_init"].size,
        "rnn_hidden_size": arrays["h_init"].size,
        "predict_net": _hidden_sizes(arrays, "predict.mlp"),
        "bl_predict_net": _hidden_sizes(arrays, "bl_predict"),
        "encoder_net": _hidden_sizes(arrays, "encode.mlp"),
        "decoder_net": _hidden_sizes(arrays, "decode.mlp"),
        "embed_channels": 0,
        "embed_net": embed_net,
        "image_size": (side, side),
        "guide": "window",
        "background": "none",
    }
    return ModelConfig(**(found | options))


def _layers(arrays: Mapping[str, np.ndarray], net: str) -> list[int]:
    """Positions of the linear layers of a net; its other layers are non-linearities."""
    names = (name.split(".") for name in arrays if name.startswith(f"{net}.seq."))
    return sorted({int(parts[-2]) for parts in names})


def _hidden_sizes(
    arrays: Mapping[str, np.ndarray], net: str, last: bool = False
) -> tuple[int, ...]:
    layers = _layers(arrays, net)
    return tuple(len(arrays[f"{net}.seq.{i}.bias"]) for i in (layers if last else layers[:-1]))


def _weights(arrays: Mapping[str, np.ndarray], pixels: int, embed: bool) -> dict[str, np.ndarray]:
    """The state_dict with our names; our weights are [in, out]."""
    ours = {}

    def mlp(our_name: str, net: str) -> None:
        for i, layer in enumerate(_layers(arrays, net)):
            for kind in ("weight", "bias"):
                ours[f"{our_name}.layers.{i}.{kind}"] = arrays[f"{net}.seq.{layer}.{kind}"]

    def recurrent(our_name: str, bl: str) -> None:
        # Pyro's LSTM has one input matrix, and two biases that add up
        w = arrays[f"{bl}rnn.weight_ih"]
        read = (
            len(arrays[f"{bl}embed.seq.{_layers(arrays, bl + 'embed')[-1]}.bias"])
            if embed
            else pixels
        )
        ours[f"{our_name}.rnn.image.weight"], ours[f"{our_name}.rnn.latents.weight"] = (
            w[:, :read],
            w[:, read:],
        )
        ours[f"{our_name}.rnn.image.bias"] = arrays[f"{bl}rnn.bias_ih"] + arrays[f"{bl}rnn.bias_hh"]
        ours[f"{our_name}.rnn.hidden.weight"] = arrays[f"{bl}rnn.weight_hh"]
        ours[f"{our_name}.rnn.h_init"] = arrays[f"{bl}h_init"].ravel()
        ours[f"{our_name}.rnn.c_init"] = arrays[f"{bl}c_init"].ravel()
        mlp(f"{our_name}.embed.mlp", f"{bl}embed")

    mlp("decoder.mlp", "decode.mlp")
    mlp("guide.encoder.mlp", "encode.mlp")
    mlp("guide.predict.mlp", "predict.mlp")
    recurrent("guide", "")
    ours["guide.z_where_init"] = arrays["z_where_init"].ravel()
    ours["guide.z_what_init"] = arrays["z_what_init"].ravel()
    if "bl_h_init" in arrays:
        recurrent("baseline", "bl_")
        mlp("baseline.predict", "bl_predict")
    return {
        name: np.asarray(array.T if name.endswith(".weight") else array, np.float32)
        for name, array in ours.items()
    }
