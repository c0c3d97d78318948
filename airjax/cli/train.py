"""The command ``airjax train``."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import Positional, arg

from airjax.cli.flags import CONFIG, parsed
from airjax.cli.options import config_of, given, options
from airjax.cli.runs import opened, trained
from airjax.config import Config
from airjax.config_file import differing, read_settings
from airjax.data import DATASETS
from airjax.errors import InputError

DEFAULT = "digits"  # the data set that is trained on unless another one is given
COLLAPSED = 3  # exit status of a training that ended collapsed
NETS = ("predict_net", "bl_predict_net", "encoder_net", "decoder_net")


@dataclass(frozen=True)
class Machines:
    """The devices and hosts that it is trained on."""

    devices: Annotated[
        int | None,
        arg(
            metavar="INT",
            help="Number of devices of this host that each mini-batch is divided between.",
            help_behavior_hint="(default: as many as divide it evenly)",
        ),
    ] = None
    hosts: Annotated[
        str | None,
        arg(
            metavar="auto",
            help="Train together with the other processes of this job, under Slurm or Kubernetes.",
            help_behavior_hint="",
        ),
    ] = None
    coordinator: Annotated[
        str | None,
        arg(
            metavar="HOST:PORT",
            help="Train together with other processes: an address of process 0 that all reach.",
            help_behavior_hint="",
        ),
    ] = None
    process: Annotated[
        int | None,
        arg(metavar="INT", help="Number of this process, from 0.", help_behavior_hint=""),
    ] = None
    processes: Annotated[
        int | None,
        arg(metavar="INT", help="Number of all processes.", help_behavior_hint=""),
    ] = None


@dataclass(frozen=True)
class Arguments:
    """Train AIR on images, without labels; then evaluate it on held-out ones and draw the
    result."""

    pictures: Annotated[
        Positional[str | None],
        arg(
            metavar="PICTURES",
            help="A folder of pictures, an .npz, .npy or .zarr of images, or the name of a data "
            f"set ({', '.join(DATASETS)}).",
            help_behavior_hint=f"(default: {DEFAULT})",
        ),
    ] = None
    data: Annotated[
        str | None,
        arg(metavar="PICTURES", help="The same, as a flag.", help_behavior_hint=""),
    ] = None
    object_size: Annotated[
        str | None,
        arg(
            metavar="FLOAT|LOW-HIGH|auto",
            help="Typical size of the objects (their larger side) in pixels, or auto to estimate "
            "it from the images. It sets the prior of the scale and the size of windows.",
            help_behavior_hint="(default: auto; the paper's priors for named data sets)",
        ),
    ] = None
    out: Annotated[
        Path | None,
        arg(
            metavar="PATH",
            help="Folder for the run, a new one.",
            help_behavior_hint="(default: runs/<data>-<time>)",
        ),
    ] = None
    resume: Annotated[
        Path | None,
        arg(
            metavar="RUN",
            help="An interrupted run to continue, with its own settings; last is the newest.",
            help_behavior_hint="",
        ),
    ] = None
    from_: Annotated[
        Path | None,
        arg(
            name="from",
            metavar="RUN",
            help="Begin with the networks of another run, or of a ready model (blobs, digits): "
            "fewer steps are then enough.",
            help_behavior_hint="",
        ),
    ] = None
    config: Annotated[
        Path | None,
        arg(
            metavar="FILE",
            help="Settings from a file: a run's config.json, or YAML of the same form with any "
            "part of it. Flags override it.",
            help_behavior_hint="",
        ),
    ] = None
    data_dir: Annotated[
        Path | None,
        arg(
            metavar="PATH",
            help="Folder with MNIST's files (or with a folder mnist that has them).",
            help_behavior_hint="",
        ),
    ] = None
    strict: Annotated[
        bool, arg(help="Stop at a picture that cannot be read, instead of leaving it out.")
    ] = False


@dataclass(frozen=True)
class Source:
    """Where the defaults of the other flags come from, and whether other processes may have it."""

    resume: Path | None = None
    config: Path | None = None
    hosts: str | None = None
    coordinator: str | None = None


def train_command(arguments: list[str]) -> type:
    """A dataclass of the flags of ``airjax train``; calling an instance trains.

    Args:
        arguments: of the command line: a run to resume and a file of settings in them decide the
            defaults, so that what differs in the end is what the user gave.

    Raises:
        InputError: if the run or the file cannot be read.
    """

    def source() -> Any:
        return tyro.cli(
            Source, args=arguments, return_unknown_args=True, add_help=False, config=CONFIG
        )

    named, _ = parsed(source, arguments)
    if named.resume is not None and named.config is not None:
        raise InputError("config", "must be left out where a run is resumed", named.config)
    run = None
    if named.resume is not None:
        try:
            run = opened(named.resume, "resume")
        except InputError:
            if named.hosts is None and named.coordinator is None:
                raise  # otherwise only process 0 must have the run
    base = Config() if named.config is None else read_settings(named.config)
    base = base if run is None else run.config

    def train(self: Any) -> None:
        _train(self, base, run)

    command = options(base, Arguments, machines=Machines)
    command.__call__ = train  # pyright: ignore[reportAttributeAccessIssue]
    return command


def _train(flags: Any, base: Config, run: Any) -> None:
    from airjax.training.hosts import connect

    config = config_of(flags, base)
    for net in NETS:
        if not getattr(config.model, net):  # in Python, a linear layer; here, a flag without sizes
            raise InputError(net, "must be given at least one size")
    if flags.pictures is not None and flags.data is not None:
        raise InputError("data", "must be left out where PICTURES is given", flags.data)
    asked = flags.machines
    hosts = connect(asked.hosts, asked.coordinator, asked.process, asked.processes)
    from airjax.training.session import Session  # slow to import

    # before any work; of a run that is resumed, other processes may not know the batch size yet
    if hosts.count == 1 or flags.resume is None:
        from airjax.training.devices import number_of

        number = partial(number_of, asked.devices, config.train.batch_size, hosts.count)
        hosts.by_all(number)
    name = flags.data if flags.pictures is None else flags.pictures
    if flags.resume is not None:
        found = hosts.by_first(lambda: _resumed(flags, config, run))
        session = Session.resume(Path(found), flags.data_dir, flags.strict, name, hosts)
    else:
        unnamed = base.train.data == Config().train.data
        name = name or (DEFAULT if unnamed else base.train.data)
        start = None if flags.from_ is None else trained(flags.from_, "from")
        try:
            session = Session.begin(
                name, config, out=flags.out, object_size=flags.object_size,
                max_objects=flags.model_steps, data_dir=flags.data_dir, strict=flags.strict,
                given=given(flags), hosts=hosts, start=start,
            )  # fmt: skip
        except InputError as error:
            if error.argument != "data" or flags.pictures is None:
                raise
            raise InputError("PICTURES", error.rule, error.value) from None
    signum = session.train(ends_process=True, devices=asked.devices)
    collapsed = hosts.by_first(lambda: None if signum else session.run.collapsed)
    hosts.leave()
    if signum is not None:
        raise SystemExit(128 + signum)
    if collapsed is not None:
        raise SystemExit(COLLAPSED)


def _resumed(flags: Any, config: Config, run: Any) -> str:
    """The folder of the run to resume, which process 0 has."""
    run = opened(flags.resume, "resume") if run is None else run
    _check_resumed(flags, config, run)
    return str(run.path)


def _check_resumed(flags: Any, config: Config, run: Any) -> None:
    """Checks that nothing was given that a run which is resumed has already decided.

    Raises:
        InputError: if there is.
    """
    for argument in ("out", "object_size", "from_"):
        if getattr(flags, argument) is not None:
            rule = "must be left out where a run is resumed"
            raise InputError(argument.rstrip("_"), rule, getattr(flags, argument))
    differences = differing(run.config, config)
    if differences:
        rule = f"must have the run's own settings; these differ: {', '.join(differences)}"
        raise InputError("resume", rule)
