"""Of several processes the main one says what went wrong, and another one only where it is alone with it."""

import pytest

from kdaudit.cli import several
from kdaudit.errors import ConfigError, ModelError

GONE = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:2873")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long this process waited before it said anything."""
    told: list[float] = []
    monkeypatch.setattr("kdaudit.cli.several.time.sleep", told.append)
    return told


def raised(error: Exception) -> Exception:
    with pytest.raises(Exception) as caught, several.speaking_once():  # noqa: PT011  # each case says which
        raise error
    return caught.value


@pytest.mark.parametrize(("rank", "n_waits"), [(None, 0), ("0", 0), ("1", 1), ("7", 1)])
def test_every_process_but_the_first_lets_it_speak(
    rank: str | None, n_waits: int, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "8")
    error = ConfigError("--epochs: 0 is too small")
    assert raised(error) is error
    assert waits == [several.PATIENCE] * n_waits


def test_the_end_of_another_process_is_no_bug_of_this_one(waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert raised(GONE) is GONE
    assert waits == []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    found = raised(GONE)
    assert isinstance(found, ModelError)
    assert "another process of this run has ended" in str(found)
    assert waits == [several.PATIENCE]
