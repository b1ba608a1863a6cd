from __future__ import annotations

from pathlib import Path

from titan_sdk.cluster.logs import append_note, read_log


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path / "none") == ""


def test_bytes_that_are_no_text_are_shown_as_such(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\xff\r\n\x00b")
    assert read_log(path) == "a�\r\n\x00b"


def test_a_note_is_one_marked_line_after_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    append_note(path, "first")
    append_note(path, "second")
    assert read_log(path) == "[titan] first\n[titan] second\n"


def test_of_a_very_long_log_the_end_is_sent_and_said_so(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"line {n}\n" for n in range(1000)))
    text = read_log(path, limit=100)
    assert text.startswith("[titan] the first ")
    assert text.endswith("line 998\nline 999\n")
    assert all(line.startswith("line ") for line in text.splitlines()[1:])
