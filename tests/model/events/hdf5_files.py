"""HDF5 files of events, laid out as those that people have."""

from __future__ import annotations

import struct
from itertools import groupby

import h5py
import numpy as np

from saccade.model.events.encodings.ecf import FILTER

METAVISION_DTYPE = np.dtype(
    {
        "names": ["x", "y", "p", "t"],
        "formats": ["<u2", "<u2", "<i2", "<i8"],
        "offsets": [0, 2, 4, 8],
        "itemsize": 16,
    }
)


def write_columns(path, events, group="events", names="txyp", **options):
    with h5py.File(path, "w") as file:
        home = file.require_group(group)
        for name, field in zip(names, "txyp", strict=True):
            home.create_dataset(name, data=events[field], **options)


def write_table(path, events, order, dtype, name="events", scale=1):
    columns = [events[field].astype(dtype) for field in order]
    columns[order.index("t")] = columns[order.index("t")] * scale
    with h5py.File(path, "w") as file:
        file.create_dataset(name, data=np.stack(columns, axis=1), chunks=True)


def write_metavision(path, events, geometry="128x128", block=300, mode=0):
    """Write events as Metavision does, with ECF where `mode` is not None."""
    rows = np.zeros(len(events), METAVISION_DTYPE)
    for field in "txyp":
        rows[field] = events[field]
    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = geometry
        file.attrs["format"] = "ECF"
        if mode is None:
            file.create_dataset("CD/events", data=rows, chunks=(block,))
        else:
            _write_ecf(file, rows, block, mode)
        edges = np.zeros(1, [("p", "<i2"), ("t", "<i8"), ("id", "<i2")])
        edges[0] = (1, int(events["t"][0]) + 5, 2)
        file.create_dataset("EXT_TRIGGER/events", data=edges)


def _write_ecf(file, rows, block, mode):
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((block,))
    plist.set_filter(FILTER, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((len(rows),), (h5py.h5s.UNLIMITED,))
    home = file.create_group("CD")
    kind = h5py.h5t.py_create(METAVISION_DTYPE)
    data = h5py.h5d.create(home.id, b"events", kind, space, plist)
    for begin in range(0, len(rows), block):
        part = np.zeros(block, METAVISION_DTYPE)
        part[: len(rows[begin : begin + block])] = rows[begin : begin + block]
        data.write_direct_chunk((begin,), encode_ecf(part, mode))


def encode_ecf(rows, mode):
    """Encode a block as the ECF codec does; mode 1 and 2 pack what 0 runs."""
    block = struct.pack("<Iq", len(rows) << 2 | mode, rows["t"][0])
    block += _times(rows["t"].tolist())
    x, y, p = (rows[field].astype(np.int64) for field in "xyp")
    if mode == 2:
        return block + _packed(y << 12 | x << 1 | p, 8)
    block += _runs(y.tolist(), 5, 2)
    if mode == 1:
        return block + _packed(x << 1 | p, 4)
    return block + _columns(x.tolist()) + _runs(p.tolist(), 7, 1)


def _times(times):
    data, newest = bytearray(), times[0]
    for time, run in groupby(times):
        count, step = len(list(run)), max(time - newest, 0)
        newest = max(time, newest)
        if step >= 15:
            while step:
                data.append(0xF0 | step & 15)
                step >>= 4
        data += bytes([step << 4 | min(count, 15)])
        data += struct.pack("<H", count) if count >= 15 else b""
    return bytes(data)


def _runs(values, bits, size):
    data, most = bytearray(), (1 << bits) - 1
    for value, run in groupby(values):
        count = len(list(run))
        data += (value << bits | min(count, most)).to_bytes(size, "little")
        data += struct.pack("<H", count) if count >= most else b""
    return bytes(data)


def _columns(columns):
    words, at = [], 0
    while at < len(columns):
        first, mask = columns[at], 0
        at += 1
        for offset in range(1, 6):
            if at < len(columns) and columns[at] == first + offset:
                mask |= 1 << (5 - offset)
                at += 1
        words.append(first << 5 | mask)
    return np.array(words, "<u2").tobytes()


def _packed(values, bits):
    a, b, c, d = np.pad(values, (0, -len(values) % 4)).reshape(-1, 4).T
    words = [
        a << bits | b & (1 << bits) - 1,
        b >> bits << 2 * bits | c & (1 << 2 * bits) - 1,
        c >> 2 * bits << 3 * bits | d,
    ]
    return np.stack(words, axis=1).astype(f"<u{bits // 2}").tobytes()
