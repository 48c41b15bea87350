"""Read and write matched priors and traces as netCDF, identified by digests over named arrays."""

from __future__ import annotations

import hashlib
import json
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import xarray as xr

from lindley.errors import LedgerCorrupt
from lindley.model.coordinates import Coordinates
from lindley.prior.matched import MatchedPrior, array_bytes
from lindley.prior.mixture import map_of
from lindley.prior.triangular import ARRAYS

#: Files are written with the C library, several times faster than h5netcdf, and read with h5netcdf, which
#: has less native code between a damaged file and the process.
_WRITER: Literal["netcdf4"] = "netcdf4"
#: The C library allows one thread at a time, and ends the process otherwise.
_writing = threading.Lock()
#: Files of a Zarr store that describe arrays, and the codecs that may decode them.
_ZARR_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zmetadata", ".zattrs")
_CODECS = {
    *("bytes", "transpose", "crc32c", "sharding_indexed", "vlen-utf8", "vlen-bytes", "vlen-array"),
    *("blosc", "zstd", "gzip", "zlib", "lz4", "lzma", "bz2", "shuffle", "delta", "fixedscaleoffset"),
    *("numcodecs.blosc", "numcodecs.zstd", "numcodecs.gzip", "numcodecs.zlib", "numcodecs.lz4"),
}
#: Bytes of a file's arrays in memory at most, as the file states their shapes: a few kB can state any.
MOST_BYTES = 8 * 2**30
#: Level of compression, above which files get no smaller; and bytes from which an array is worth a chunk.
_LEVEL, _WORTH_IT = 4, 4096
#: Parts of a mixture at most, as its file states them.
_MOST_PARTS = 64


def write_netcdf(data: xr.Dataset | xr.DataTree, path: Path, encoding: dict[str, Any] | None = None) -> None:
    """Write a netCDF 4 file; threads take turns."""
    with _writing:
        data.to_netcdf(path, engine=_WRITER, encoding=encoding)


def write_matched_prior(prior: MatchedPrior, path: Path) -> None:
    """Write a matched prior as netCDF, its coordinates as an attribute."""
    dims: dict[str, tuple[str, ...]] = dict.fromkeys(ARRAYS, ("step",))
    dims |= {"linear": ("step", "step_before"), "widen": ("step", "bend")}
    dims["quadratic"] = ("step", "bend", "bend_too")
    dims["margins"] = ("margin", "coordinate")

    def named(name: str) -> tuple[str, ...]:
        """Name the dims of an array; those of bends by part, since a part of a mixture may have none."""
        kind, _, part = name.rpartition("_") if name not in dims else (name, "", "")
        own = (f"{dim}_{part}" if part and dim.startswith("bend") else dim for dim in dims.get(kind, ()))
        return tuple(own) if kind in dims else ("part",)

    dataset = xr.Dataset(
        {name: (named(name), array) for name, array in prior.arrays().items()},
        attrs={
            "family": prior.family,
            "reason": prior.reason,
            "moments": prior.moments,
            "shrinkage": prior.shrinkage,
            "blocks": json.dumps(prior.coordinates.as_list()),
        },
    )
    write_netcdf(dataset, path)


def read_matched_prior(path: Path) -> MatchedPrior:
    """Read what `write_matched_prior` wrote.

    Raises
    ------
    LedgerCorrupt
        If the file is not a matched prior.
    """
    with _readable(path):
        # Not through xarray, whose dimensions and coordinates take ten times as long as the arrays.
        with h5py.File(path, "r") as file:
            held = {name: file[name] for name in _names_of_arrays(file)}
            _check_size(sum(data.size * data.dtype.itemsize for data in held.values()))
            coordinates = Coordinates.from_list(json.loads(_text(file.attrs["blocks"])))
            arrays: dict[str, np.ndarray] = {
                name: np.ascontiguousarray(data[()], int if name.startswith("order") else float)
                for name, data in held.items()
            }
            reason = _text(file.attrs["reason"])
            moments = _text(file.attrs["moments"])
            shrinkage = float(np.ravel(file.attrs["shrinkage"])[0])
        sizes = {
            array.shape[1] if name.startswith("margins") else len(array)
            for name, array in arrays.items()
            if name != "weights"
        }
        if sizes != {coordinates.size}:
            raise ValueError(f"arrays of another size than {coordinates.size} coordinates")
        prior = MatchedPrior(coordinates, map_of(arrays), reason, moments, shrinkage)
        prior.digest.encode()  # labels that are no text have none
        return prior


def _names_of_arrays(file: h5py.File) -> list[str]:
    """Return the names of a matched prior's arrays: those of a mixture have the number of a part behind."""
    if "weights" not in file:
        return list(ARRAYS)
    parts = range(file["weights"].size)
    if len(parts) > _MOST_PARTS:
        raise ValueError(f"a mixture of {len(parts)} parts, at most {_MOST_PARTS} are read")
    return ["weights", *(f"{name}_{part}" for part in parts for name in ARRAYS)]


def write_trace(tree: xr.DataTree, path: Path) -> None:
    """Write a trace as netCDF in ArviZ's schema (`arviz.from_netcdf` reads it)."""
    encoding = {f"/{name}": _compressed(child.dataset) for name, child in tree.children.items()}
    write_netcdf(tree, path, encoding)


def write_draws(draws: xr.Dataset, path: Path) -> None:
    """Write the draws that a registered belief predicts with."""
    write_netcdf(draws, path, _compressed(draws))


def _compressed(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Return the encoding of a dataset's large arrays.

    Of arrays of noise, the bytes of exponents and of rounded digits can be compressed.
    """
    return {
        str(name): {"zlib": True, "shuffle": True, "complevel": _LEVEL}
        for name, array in dataset.variables.items()
        if array.dtype.kind in "biuf" and array.nbytes >= _WORTH_IT
    }


def read_trace(path: Path) -> xr.DataTree:
    """Read a trace into memory.

    Raises
    ------
    LedgerCorrupt
        If the file is not a trace.
    """
    with _readable(path), xr.open_datatree(path, engine="h5netcdf") as tree:
        _check_size(sum(node.dataset.nbytes for node in tree.subtree))
        return tree.load()


def read_zarr_trace(folder: Path) -> xr.DataTree:
    """Read a trace from a Zarr store into memory.

    A store names the codecs of its arrays, and some of them run code (pickle): only those that compress
    numbers and text are let through.

    Raises
    ------
    LedgerCorrupt
        If the folder is not a trace, or names another codec.
    """
    with _readable(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on metadata that a newer version of Zarr may read otherwise
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"a link, {path.name}")
            if path.name in _ZARR_METADATA:
                unknown = set(_codecs(json.loads(path.read_text("utf-8")))) - _CODECS
                if unknown:
                    raise ValueError(f"the codec {min(unknown)[:40]!r}, which is not let through")
        with xr.open_datatree(folder, engine="zarr", consolidated=False) as tree:
            _check_size(sum(node.dataset.nbytes for node in tree.subtree))
            return tree.load()


def _codecs(metadata: Any) -> Iterator[str]:
    """Give the names of all codecs in the metadata of a Zarr store, versions 2 and 3."""
    if isinstance(metadata, dict):
        for key, value in metadata.items():
            if key in ("codecs", "filters", "index_codecs"):
                yield from (str(each.get("name", each.get("id"))) for each in value or ())
            if key == "compressor" and value:
                yield str(value.get("id"))
            yield from _codecs(value)
    elif isinstance(metadata, list):
        for value in metadata:
            yield from _codecs(value)


def draws_digest(tree: xr.DataTree) -> str:
    """Return the sha256 over the named arrays of a trace's posterior and of what is carried forward."""
    sha = hashlib.sha256(b"lindley-draws/1")
    for group in ("coordinates", "posterior", *({"modes"} & set(tree.children))):
        dataset = tree[group].dataset
        for name in sorted(map(str, dataset.data_vars)):
            sha.update(array_bytes(f"{group}/{name}", dataset[name].values))
    return sha.hexdigest()


def weighted(tree: xr.DataTree) -> tuple[np.ndarray, np.ndarray]:
    """Return a trace's draws [chain, draw, coordinate] and their weights [sample], chain after chain.

    Imported draws have no weights: they count equally.
    """
    group = tree["coordinates"]
    u = np.asarray(group["u"].values, float)
    if "weight" in group:
        return u, np.asarray(group["weight"].values, float).ravel()
    count = u.shape[0] * u.shape[1]
    return u, np.full(count, 1 / count)


def modes_of(tree: xr.DataTree) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """Return what a mixture was matched to.

    Returns
    -------
    tuple
        The draws [draw, coordinate] of each mode with their weights [draw], missing ones left out, and the
        modes' own weights [mode]: the sums of the weights of the draws that are kept of each.

    Raises
    ------
    KeyError
        If the trace has no modes.
    """
    group, kept = tree["modes"].dataset, tree["coordinates"].dataset
    u, weight = np.asarray(group["u"].values, float), np.asarray(group["weight"].values, float)
    mode = kept["mode"].values.ravel().astype(int)
    shares = np.bincount(mode, kept["weight"].values.ravel(), minlength=len(u))
    held = np.isfinite(weight)
    return [(of[here], w[here]) for of, w, here in zip(u, weight, held, strict=True)], shares


def file_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder, by its path with forward slashes."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _text(value: Any) -> str:
    """Return a text attribute, which netCDF writers store in three ways."""
    if isinstance(value, h5py.Empty):
        return ""
    one = np.ravel(np.asarray(value, dtype=object))[0]
    return one.decode() if isinstance(one, bytes) else str(one)


def _check_size(stated: int) -> None:
    """Refuse arrays too big to read, before any value is read."""
    if stated > MOST_BYTES:
        raise ValueError(f"{stated:,} bytes in memory, at most {MOST_BYTES:,} are read")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Refuse a file that cannot be read."""
    try:
        yield
    except Exception as error:  # damaged files make the HDF5 stack raise nearly anything
        raise LedgerCorrupt(
            f"The artifact {path.name} cannot be read",
            expected="the netCDF file that the link's record lists",
            found=f"{type(error).__name__}: {str(error)[:200]}",
        ) from error
