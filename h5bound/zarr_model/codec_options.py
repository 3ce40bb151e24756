"""What the option `codecs` may be, and the codecs that it gives an array whose chunks are encoded again.

The option is text like ``zstd:3``, a codec of numcodecs or zarr, or a sequence of them. It is kept as text where text
can say it, else as the configurations of its codecs (`CodecConfig`). Both are JSON, so that a store can name them.
Only codecs that give back every bit are taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from h5bound.errors import OptionError
from h5bound.zarr_model.array_spec import TEXT_CODECS, CodecChain, list_text_codecs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from h5bound.codecs.filters import CodecConfig


Codecs: TypeAlias = "str | tuple[CodecConfig, ...]"

CODECS = {"blosc-zstd": 5, "blosc-lz4": 5, "zstd": 3, "gzip": 5, "none": 0}
"""Codecs that text can name, each with its default level."""

BLOSC_LIMIT = 2**31 - 16
"""Most bytes that Blosc encodes at once (BLOSC2_MAX_BUFFERSIZE)."""

LEVELS = {"blosc": range(10), "zstd": range(-131072, 23), "gzip": range(10), "zlib": range(10), "bz2": range(1, 10)}

PARAMETERS: dict[str, dict[str, tuple[object, Sequence[object]]]] = {
    "blosc": {
        "cname": ("lz4", ("blosclz", "lz4", "lz4hc", "zlib", "zstd")),
        "clevel": (5, LEVELS["blosc"]),
        "shuffle": (1, range(-1, 3)),
        "blocksize": (0, range(2**31)),
    },
    "zstd": {"level": (0, LEVELS["zstd"]), "checksum": (False, (False, True))},
    "gzip": {"level": (1, LEVELS["gzip"])},
    "zlib": {"level": (1, LEVELS["zlib"])},
    "bz2": {"level": (1, LEVELS["bz2"])},
    "shuffle": {"elementsize": (4, range(1, 256))},
    "fletcher32": {},
}
"""Codecs that objects may name, in the words of numcodecs: the default and the possible values of each parameter."""

BLOSC_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}

LOSSY = {"astype", "bitround", "cast_value", "fixedscaleoffset", "quantize", "scale_offset", "zfpy"}
"""Codecs that do not give back every bit."""

ELSEWHERE = {
    "bytes": "h5bound keeps the byte order of the source, so leave it out",
    "sharding_indexed": "use the option shards",
    "vlen-utf8": "text has it anyway, so leave it out",
}
"""Codecs that have no place here, and what to do."""


def parse_codecs(value: object) -> Codecs:
    """Return the option `codecs`, checked. Raise OptionError if it is not one, or not without loss.

    >>> parse_codecs({"id": "zstd", "level": 3}), parse_codecs([{"id": "shuffle"}, {"id": "zlib", "level": 9}])
    ('zstd:3', ({'id': 'shuffle', 'elementsize': 4}, {'id': 'zlib', 'level': 9}))
    """
    if isinstance(value, str):
        if value != "keep":
            list_configs(value)
        return value
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    configs = tuple(map(read_codec, items))
    if not configs:
        return "none"
    return next((text for text in list_texts(configs[0]) if configs == list_configs(text)), configs)


def list_texts(config: CodecConfig) -> list[str]:
    """Return the texts that may name a codec."""
    names = [f"blosc-{config['cname']}"] if config["id"] == "blosc" else [config["id"]]
    return [f"{name}:{config.get('clevel', config.get('level'))}" for name in names if name in CODECS]


def list_configs(text: str) -> tuple[CodecConfig, ...]:
    """Return the codecs that text names. Raise OptionError if it names none, or a level that they do not have.

    >>> list_configs("zstd"), list_configs("none")
    (({'id': 'zstd', 'level': 3},), ())
    >>> list_configs("gzip:12")
    Traceback (most recent call last):
    h5bound.errors.OptionError: codecs='gzip:12': the level of gzip is 0 to 9
    """
    name, colon, level = text.partition(":")
    number = level.removeprefix("-")
    if name not in CODECS or (colon and not (number.isascii() and number.isdecimal())):
        raise OptionError(f"codecs={text!r}: use keep, or one of {', '.join(CODECS)}, with a level like zstd:3")
    if name == "none":
        if colon:
            raise OptionError(f"codecs={text!r}: none has no level")
        return ()
    codec, _, cname = name.partition("-")
    value = int(level[:20]) if colon else CODECS[name]
    if value not in LEVELS[codec]:
        raise OptionError(f"codecs={text!r}: the level of {name} is {LEVELS[codec][0]} to {LEVELS[codec][-1]}")
    if codec == "blosc":
        return ({"id": "blosc", "cname": cname, "clevel": value, "shuffle": -1, "blocksize": 0},)
    return ({"id": codec, "level": value},)


def read_codec(item: object) -> CodecConfig:
    """Return the checked configuration of a codec that is given as text, object or mapping."""
    if isinstance(item, str):
        configs = list_configs(item)
        if not configs:
            raise OptionError("codecs: 'none' is no codec; pass it without a list")
        return configs[0]
    name, parameters = read_document(item)
    check_name(name)
    config: CodecConfig = {"id": name}
    for parameter, (default, allowed) in PARAMETERS[name].items():
        value = parameters.pop(parameter, default)
        if not is_allowed(value, allowed):
            values = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else ", ".join(map(str, allowed))
            raise OptionError(f"codecs: the {parameter} of {name} is {values}, not {value!r}")
        config[parameter] = value
    if parameters:
        raise OptionError(f"codecs: {name} has no parameter {', '.join(map(repr, parameters))}")
    if config.get("checksum") is False:
        del config["checksum"]
    return config


def check_name(name: str) -> None:
    """Raise OptionError for a codec that h5bound does not write, with the reason."""
    if name in PARAMETERS:
        return
    reason = "does not give back every bit" if name in LOSSY else "is not a codec that h5bound writes"
    if name in ELSEWHERE:
        raise OptionError(f"codecs: {name} cannot be chosen; {ELSEWHERE[name]}")
    raise OptionError(f"codecs: {name} {reason}; use {', '.join(PARAMETERS)}")


def read_document(item: Any) -> tuple[str, dict[str, Any]]:
    """Return the name of a codec and its parameters in the words of numcodecs. Raise OptionError if it is none."""
    document: Any = item
    if not isinstance(item, (Mapping, type)):
        read = getattr(item, "get_config", None) or getattr(item, "to_dict", None)  # of numcodecs, of zarr
        document = read() if callable(read) else None
    name = document.get("id", document.get("name")) if isinstance(document, Mapping) else None
    parameters = document.get("configuration") or {} if isinstance(document, Mapping) else None
    if not isinstance(name, str) or not isinstance(parameters, Mapping):
        raise OptionError(f"codecs={item!r}: pass text like 'zstd:3', or a codec of numcodecs or zarr")
    if "id" in document:
        return name, {parameter: value for parameter, value in document.items() if parameter != "id"}
    name, parameters = name.removeprefix("numcodecs."), dict(parameters)
    if name == "blosc":
        parameters.pop("typesize", None)  # always that of the array
        shuffle = parameters.get("shuffle")
        is_open = "shuffle" in getattr(item, "_tunable_attrs", ())  # zarr: chosen by the array's type
        parameters["shuffle"] = -1 if is_open else BLOSC_SHUFFLES.get(str(shuffle), shuffle)
    return name, parameters


def is_allowed(value: object, allowed: Sequence[object]) -> bool:
    """Return whether a value is among these, and of their type: True is no level.

    >>> is_allowed(1, range(3)), is_allowed(True, range(3)), is_allowed([], ("zstd",))
    (True, False, False)
    """
    return type(value) is type(allowed[0]) and value in allowed


def describe_codecs(codecs: Codecs) -> str:
    """Return the option in one line.

    >>> describe_codecs(({"id": "shuffle", "elementsize": 4}, {"id": "zlib", "level": 9}))
    'shuffle(elementsize=4), zlib(level=9)'
    """
    if isinstance(codecs, str):
        return codecs
    parameters = (", ".join(f"{name}={value}" for name, value in item.items() if name != "id") for item in codecs)
    return ", ".join(f"{item['id']}({text})" for item, text in zip(codecs, parameters, strict=True))


def plan_chain(codecs: Codecs, dtype: np.dtype[Any], *, chunks: tuple[int, ...], zarr_format: int) -> CodecChain:
    """Return the codecs of an array that is encoded again: those of the option, by default ``blosc-zstd``.

    Raise OptionError if Blosc was asked for and a chunk is too large for it.
    """
    nbytes = prod(chunks) * dtype.itemsize
    if codecs == "keep":
        codecs = "blosc-zstd" if nbytes <= BLOSC_LIMIT else "zstd"
    configs = list_configs(codecs) if isinstance(codecs, str) else codecs
    if nbytes > BLOSC_LIMIT and any(config["id"] == "blosc" for config in configs):
        raise OptionError(
            f"codecs={describe_codecs(codecs)!r}: Blosc encodes less than 2 GiB at once, and chunks of {chunks} are "
            f"larger; choose smaller chunks or another codec, like 'zstd:3'"
        )
    compressors = tuple(adapt_codecs(configs, dtype, nbytes=nbytes))
    if zarr_format == 3:
        return CodecChain((), compressors)
    return CodecChain((*list_text_codecs(dtype), *compressors[:-1]), compressors[-1:])


def adapt_codecs(configs: Iterable[CodecConfig], dtype: np.dtype[Any], *, nbytes: int) -> Iterator[CodecConfig]:
    """Yield the codecs for an array of this type with chunks of `nbytes` bytes.

    Blosc gets the size of an element, and does not shuffle text unless asked to. Shuffle is left out where it would not
    get whole elements: it loses nothing.
    """
    is_text = dtype.kind in TEXT_CODECS
    size = -1 if is_text else nbytes  # before the next codec, -1 for not known
    for config in configs:
        if config["id"] == "blosc":
            one = 1 if is_text or dtype.itemsize > 255 else dtype.itemsize  # stored in one byte (blosc.h)
            yield {**config, "typesize": one} | ({"shuffle": max(config["shuffle"], 0)} if is_text else {})
        elif config["id"] != "shuffle" or (size >= 0 and size % config["elementsize"] == 0):
            yield config
        if config["id"] == "fletcher32" and size >= 0:
            size += 4
        elif config["id"] != "shuffle":
            size = -1
