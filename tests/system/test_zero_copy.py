"""Arrays, tensors, frames and tables through the store: no copy, and nobody changes what others see."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import zactor
from zactor.runtime import current as processes
from zactor.serde.values import dumps

np = pytest.importorskip("numpy")

pytestmark = [pytest.mark.system, pytest.mark.slow]

COUNT = 250_000


class Echo:
    def echo(self, value: Any) -> Any:
        return value

    def total(self, value: Any) -> float:
        return float(value.sum())

    def keep(self, value: Any) -> None:
        self.kept = value

    def kept_total(self) -> float:
        return float(self.kept.sum())


@pytest.fixture
def echo(cluster: None) -> Iterator[Any]:
    return zactor.remote(Echo).remote()


def out_of_band(value: Any) -> tuple[int, int]:
    """Return the sizes of a value's pickle and of its buffers."""
    payload, buffers, _ = dumps(value, "the value")
    return len(payload), sum(map(len, buffers))


def is_mapped(address: int) -> bool:
    """Whether an address is in a segment of the store."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, *_ = line.split()
            start, end = (int(each, 16) for each in span.split("-"))
            if start <= address < end:
                return "zactor-" in line
    return False


def test_frames_come_without_a_copy_and_read_only(echo: Any) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": np.arange(COUNT), "b": np.ones(COUNT)})
    assert out_of_band(frame)[0] < 10_000
    for ref in (zactor.put(frame), echo.echo.remote(frame)):
        got = zactor.get(ref)
        column = got["a"].to_numpy()
        assert got.equals(frame)
        assert is_mapped(column.__array_interface__["data"][0])
        assert not column.flags.writeable
        changed = got.copy()
        changed.loc[0, "a"] = 7
        assert zactor.get(ref)["a"][0] == 0


def test_tables_come_without_a_copy(echo: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": np.arange(COUNT), "s": [str(each) for each in range(COUNT)]})
    assert out_of_band(table)[0] < 10_000
    for ref in (zactor.put(table), echo.echo.remote(table)):
        got = zactor.get(ref)
        assert got.equals(table)
        for name in ("a", "s"):
            data = got[name].chunk(0).buffers()[-1]
            assert is_mapped(data.address)
            assert not data.is_mutable


def test_tensors_come_without_a_copy_and_what_is_written_is_the_writers_own(echo: Any) -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(COUNT, dtype=torch.float64)
    size, buffers = out_of_band(tensor)
    assert size < 1_000
    assert buffers == 8 * COUNT
    for ref in (zactor.put(tensor), echo.echo.remote(tensor)):
        first, second = zactor.get(ref), zactor.get(ref)
        assert torch.equal(first, tensor)
        assert is_mapped(first.data_ptr())
        first += 1
        assert float(first[0]) == 1.0
        assert float(second[0]) == 0.0
        assert torch.equal(zactor.get(ref), tensor)
    tensor += 1  # after it was sent
    assert zactor.get(echo.total.remote(tensor)) == float(tensor.sum())


def test_tensors_of_every_kind_are_what_they_were(echo: Any) -> None:
    torch = pytest.importorskip("torch")
    base = torch.arange(COUNT * 2, dtype=torch.float32).reshape(2, COUNT)
    model = torch.nn.Linear(300, 200)
    kinds = {
        "transposed": base.T,
        "slice": base[:, 10:20],
        "needs a gradient": torch.ones(COUNT, requires_grad=True),
        "half": base.to(torch.bfloat16),
        "bits": base > 3,
        "complex": torch.ones(COUNT, dtype=torch.complex64),
        "empty": torch.empty(0, 3),
        "small": torch.ones(3),
        "parameter": torch.nn.Parameter(torch.ones(COUNT)),
    }
    got = zactor.get(echo.echo.remote(kinds))
    for name, tensor in kinds.items():
        assert torch.equal(got[name], tensor), name
        assert got[name].dtype == tensor.dtype
        assert got[name].stride() == tensor.stride()
        assert got[name].requires_grad == tensor.requires_grad
        assert type(got[name]) is type(tensor)
    same = zactor.get(echo.echo.remote(model))
    assert all(
        torch.equal(left, right)
        for left, right in zip(model.parameters(), same.parameters(), strict=True)
    )


def test_a_tensor_keeps_its_segment_from_being_used_again(echo: Any) -> None:
    torch = pytest.importorskip("torch")
    ref = zactor.put(torch.zeros(COUNT))
    tensor = zactor.get(ref)
    del ref
    zactor.get(echo.keep.remote(torch.ones(COUNT)))
    for number in range(1, 20):  # of the same size: they would take its segment
        assert float(zactor.get(zactor.put(torch.full((COUNT,), number)))[5]) == number
        zactor.get(echo.echo.remote(torch.full((COUNT,), number)))
    assert float(tensor.sum()) == 0.0
    assert zactor.get(echo.kept_total.remote()) == COUNT
    store = processes.current().objects.store  # type: ignore[union-attr]
    filled = store._pool.stats().filled
    del tensor
    store.look()
    assert store._pool.stats().filled <= filled


def test_pickles_of_others_are_not_changed(echo: Any) -> None:
    torch = pytest.importorskip("torch")
    zactor.put(torch.ones(COUNT))
    tensor = torch.arange(5_000)
    for protocol in (2, 4, 5):
        data = pickle.dumps(tensor, protocol)
        assert b"zactor" not in data
        assert torch.equal(pickle.loads(data), tensor)


def test_ten_thousand_references_in_one_value(echo: Any) -> None:
    refs = [zactor.put(number) for number in range(10_000)]
    nested: dict[str, Any] = {"refs": refs, "more": [refs[:10], tuple(refs[-10:])]}
    got = zactor.get(echo.echo.remote(nested))
    assert zactor.get(got["refs"]) == list(range(10_000))
    assert got["more"][0][0] == refs[0]
    put = zactor.get(zactor.put(nested))
    del refs, nested, got
    assert zactor.get(put["refs"][9_999]) == 9_999
    assert zactor.get(list(put["more"][1])) == list(range(9_990, 10_000))
