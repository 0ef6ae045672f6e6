"""`saccade inspect` says what recordings hold, without a server."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from saccade.clients.commands.cli import inspect
from tests.model.events.aedat_files import (
    HEADER_31,
    aedat_31,
    davis240_2,
    packet_31,
    special_31,
)
from tests.model.events.test_recordings import csv_bytes, evt3_bytes

ROWS = [(1_000 + 100 * t, t % 30, t % 20, t % 2) for t in range(200)]


def test_it_says_format_geometry_counts_and_timing(tmp_path, capsys):
    path = tmp_path / "a.raw"
    header = b"% evt 3.0\n% geometry 640x480\n% end\n"
    trigger = np.array([0xA101], "<u2").tobytes()
    path.write_bytes(evt3_bytes(ROWS, header) + trigger)
    assert inspect([str(path)]) == 0
    lines = dict(
        line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()
    )
    assert lines["format"] == "EVT3 in a Prophesee RAW file"
    assert lines["sensor"] == "640x480, from the file's header"
    assert lines["events"] == "200, 50.0% of them ON"
    assert lines["duration"] == "0.019900 s"
    assert lines["starts"] == "at  1,000 µs of the file's clock"
    assert lines["triggers"] == "1"
    assert lines["timing"] == "in order, without gaps"


def test_json_holds_every_camera_and_what_was_met(tmp_path, capsys):
    path = tmp_path / "two.aedat"
    header = HEADER_31.replace(b"DVS128", b"DAVIS240C\r\n#Source 2: DVS128")
    late = [(t - 900, x, y, p) for t, x, y, p in ROWS]
    reset = special_31([(1, 2**31 - 1), (2, 0)])
    parts = [packet_31(ROWS), packet_31(ROWS[:9], source=2), reset, packet_31(late)]
    path.write_bytes(aedat_31(parts, header))
    assert inspect([str(path), "--camera", "all", "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)
    assert (one["cameras"][0], two["cameras"][0]) == ("1 DAVIS240C", "2 DVS128")
    assert (one["events"], two["events"]) == (400, 9)
    assert (one["timing"]["resets"], one["timing"]["steps_back"]) == (1, 0)
    assert (one["triggers"], one["sensor_from"]) == (1, "camera")


def test_what_is_skipped_or_guessed_is_said(tmp_path, capsys):
    davis, table = tmp_path / "a.aedat", tmp_path / "b.csv"
    davis.write_bytes(davis240_2(ROWS, [1 << 31, 1 << 31 | 5]))
    table.write_bytes(csv_bytes([*ROWS, (50, 1, 1, 1)]))
    assert inspect([str(davis), str(table)]) == 0
    out = capsys.readouterr().out
    assert "skipped    2 frame samples" in out
    assert "30x20, guessed from the events; --sensor WxH says it" in out
    assert "1 steps back, by 20,850 µs at most" in out


def test_files_that_cannot_be_read_are_named_and_the_others_shown(tmp_path, capsys):
    good, bad = tmp_path / "a.csv", tmp_path / "b.csv"
    good.write_bytes(csv_bytes(ROWS))
    bad.write_bytes(b"nothing of the kind")
    assert inspect([str(bad), "gone.raw", str(good)]) == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"file       {good}\n")
    assert f"saccade inspect: {bad}: " in err
    assert "gone.raw: there is no such file" in err


def test_a_picture_shows_two_images_side_by_side(tmp_path):
    path, png = tmp_path / "a.csv", tmp_path / "a.png"
    path.write_bytes(csv_bytes(ROWS))
    assert inspect([str(path), "--sensor", "40x30", "--png", str(png)]) == 0
    with Image.open(png) as image:
        assert (image.format, image.size) == ("PNG", (84, 30))


def test_pictures_of_several_files_are_numbered(tmp_path, capsys):
    path, png = tmp_path / "a.csv", tmp_path / "a.png"
    path.write_bytes(csv_bytes(ROWS))
    assert inspect([str(path), str(path), "--png", str(png)]) == 0
    assert sorted(file.name for file in tmp_path.glob("*.png")) == ["a-2.png", "a.png"]
    assert inspect([str(path), "--png", str(tmp_path / "gone" / "a.png")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
