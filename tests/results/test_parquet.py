"""Tables of outcomes: what is written comes back to the bit, others can read it, and hostile files end in one line."""

from __future__ import annotations

import io
import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nsbench.results.parquet import pack
from nsbench.results.parquet_reading import Known, read_columns, unpack
from nsbench.types import PROBABILITY_STEP, Outcomes


def outcomes(n: int = 50, seed: int = 0, *, attacked: bool = False, kept: bool = True, prefix: str = "i") -> Outcomes:
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, 1000, (2, n))
    extra = {"linf": rng.random(n).astype(np.float32), "steps": rng.integers(0, 90, n)} if attacked else {}
    ids = np.array([f"{prefix}{k:05d}" for k in range(n)])
    if not kept:
        return Outcomes(ids, labels, predictions, extra)
    probability = np.round(rng.random((2, n)) / PROBABILITY_STEP) * PROBABILITY_STEP
    least, largest = np.sort(probability.astype(np.float32), axis=0)
    return Outcomes(ids, labels, predictions, extra, least, largest, rng.integers(0, 1000, (n, 5)))


def assert_same(one: Outcomes, other: Outcomes) -> None:
    assert one.ids.tolist() == other.ids.tolist()
    assert set(one.extra) == set(other.extra)
    pairs = [(one.labels, other.labels), (one.predictions, other.predictions), (one.top5, other.top5)]
    pairs += [(one.label_probability, other.label_probability), (one.confidence, other.confidence)]
    pairs += [(one.extra[name], other.extra[name]) for name in one.extra]
    for mine, theirs in pairs:
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.tobytes() == theirs.astype(mine.dtype).tobytes()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_conditions_with_other_columns_come_back_in_their_order(order: tuple[int, ...]) -> None:
    three = [outcomes(attacked=True), outcomes(20, 1, prefix="ö/猫 "), outcomes(3, 2, kept=False, prefix="c")]
    given = {f"schön/{k}": three[k] for k in order}
    content = pack(given)
    back = unpack(content)
    assert list(back) == list(given)
    for name, one in given.items():
        assert_same(one, back[name])
    assert pack(back) == content  # equal outcomes, equal bytes


def test_floats_keep_every_bit_and_integers_their_range() -> None:
    floats = np.array([0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 1 / 255, 3.4e38], dtype=np.float32)
    ids, zeros = np.array(list("abcdefgh")), np.zeros(8, dtype=np.int64)
    for least, largest in ((0, 255), (0, 256), (-1, 127), (-1, 128), (0, 2**32), (-(2**63), 2**63 - 1)):
        extra = {"l2": floats, "k": np.array([least, largest] * 4), "flag": np.arange(8) > 3}
        back = unpack(pack({"a": Outcomes(ids, zeros, zeros, extra), "b": Outcomes(ids, zeros, zeros)}))
        assert back["a"].extra["l2"].tobytes() == floats.tobytes()
        assert back["a"].extra["k"].tolist() == extra["k"].tolist()
        assert back["a"].extra["flag"].tolist() == extra["flag"].tolist()
        assert back["b"].extra == {}


def test_fifty_thousand_images_take_less_than_a_megabyte_and_a_half() -> None:
    one = outcomes(50_000)
    named = Outcomes(
        np.array([f"ILSVRC2012_val_{k:08d}" for k in range(50_000)]), one.labels, one.predictions, {},
        one.label_probability, one.confidence, one.top5,
    )  # fmt: skip
    assert len(pack({"clean": named})) < 1_500_000


def test_others_open_it() -> None:
    one = outcomes(attacked=True)
    frame = pd.read_parquet(io.BytesIO(pack({"a": one, "b": outcomes(10, 3, prefix="q")})))
    assert frame["condition"].tolist() == ["a"] * 50 + ["b"] * 10
    right = frame[frame["condition"] == "a"].eval("label == prediction")
    assert right.tolist() == one.correct.tolist()
    assert {"id", "label_probability", "confidence", "top1", "top5", "linf", "steps"} <= set(frame.columns)


def test_files_on_the_same_images_share_them() -> None:
    known, first, second = Known(), outcomes(), outcomes(seed=1)
    same = Outcomes(first.ids, first.labels, second.predictions)
    a = read_columns(pack({"x": first}), ["prediction"], known)
    b = read_columns(pack({"y": same, "z": same}), ["prediction", "linf"], known)
    c = read_columns(pack({"x": Outcomes(first.ids, first.labels + 1, first.predictions)}), [], known)
    assert a["x"].images is b["y"].images is b["z"].images
    assert c["x"].images is not a["x"].images
    assert b["z"].columns["prediction"].tolist() == second.predictions.tolist()
    assert set(b["z"].columns) == {"prediction"}


@pytest.mark.parametrize(
    "change",
    [
        {"ids": np.array(["a", "a"])},
        {"ids": np.array([b"a", b"b"])},
        {"ids": np.array(["a", "\udc80"])},
        {"labels": np.zeros(3, dtype=int)},
        {"predictions": np.zeros(2)},
        {"extra": {"label": np.zeros(2)}},
        {"extra": {"x": np.array(["a", "b"])}},
        {"extra": {"x": np.zeros((2, 2))}},
        {"top5": np.zeros((2, 6), dtype=int)},
        {"confidence": np.zeros(2, dtype=int)},
    ],
)
def test_what_cannot_be_stored_is_refused(change: dict[str, object]) -> None:
    plain = {"ids": np.array(["a", "b"]), "labels": np.zeros(2, dtype=int), "predictions": np.zeros(2, dtype=int)}
    assert pack({"a": Outcomes(**plain)})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\w"):
        pack({"a": Outcomes(**(plain | change))})  # type: ignore[arg-type]


def test_nothing_cannot_be_stored() -> None:
    with pytest.raises(ValueError, match="without images"):
        pack({})


# Hostile files


def table(columns: dict[str, pa.Array | None] | None = None, **options: object) -> bytes:
    """A table by another hand."""
    plain = {
        "condition": pa.array(["a", "a", "b"]),
        "id": pa.array(["x", "y", "x"]),
        "label": pa.array([1, 2, 1]),
        "prediction": pa.array([1, 2, 3]),
    }
    chosen = {name: values for name, values in (plain | (columns or {})).items() if values is not None}
    buffer = io.BytesIO()
    pq.write_table(pa.table(chosen), buffer, **({"compression": "snappy"} | options))
    return buffer.getvalue()


def assert_refused(content: bytes, word: str = "") -> None:
    for read in (unpack, lambda file: read_columns(file, ["prediction", "linf", "confidence", "x"])):
        with pytest.raises(ValueError, match="is no table of outcomes") as caught:
            read(content)
        assert "\n" not in str(caught.value)
        assert word in str(caught.value)


def test_a_plain_table_by_another_hand_is_read() -> None:
    for codec in ("snappy", "gzip", "none"):
        back = unpack(table(compression=codec))
        assert {name: one.ids.tolist() for name, one in back.items()} == {"a": ["x", "y"], "b": ["x"]}


@pytest.mark.parametrize(
    ("columns", "word"),
    [
        *(({name: None}, name) for name in ("condition", "id", "label", "prediction")),
        ({"label": pa.array(["1", "2", "3"])}, "label"),
        ({"label": pa.array([1.0, 2.0, 3.0])}, "label"),
        ({"label": pa.array([1, None, 2])}, "label"),
        ({"prediction": pa.array([1, None, 2])}, "prediction"),
        ({"id": pa.array(["x", None, "y"])}, "id"),
        ({"id": pa.array(["x", "x", "x"])}, "twice"),
        ({"id": pa.array(["x", "y\0", "x"])}, "zero"),
        ({"id": pa.array(["x" * 2000, "y", "x"])}, "too long"),
        ({"condition": pa.array(["a", "b", "a"])}, "two places"),
        ({"confidence": pa.array([1.0, 2.0, 3.0])}, "confidence"),
        ({"x": pa.array(["a", "b", "c"])}, "'x'"),
        ({"x": pa.array([[1], [2], [3]])}, "x"),
        ({"x": pa.array([1, 2, 3], pa.timestamp("s"))}, "'x'"),
        ({"linf": pa.array([1, None, 2], pa.float32())}, "gaps"),
    ],
)
def test_wrong_columns(columns: dict[str, pa.Array | None], word: str) -> None:
    assert_refused(table(columns), word)


def test_other_codecs_row_groups_and_no_rows() -> None:
    assert_refused(table(compression="zstd"), "ZSTD")  # a page may hold 30,000 times its size
    assert_refused(table(row_group_size=2), "row groups")
    empty = pa.table({"condition": pa.array([], pa.string()), "id": pa.array([], pa.string()),
                      "label": pa.array([], pa.int64()), "prediction": pa.array([], pa.int64())})  # fmt: skip
    buffer = io.BytesIO()
    pq.write_table(empty, buffer, compression="snappy")
    assert_refused(buffer.getvalue())


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PAR1PAR1", b"PAR1\0\0\0\0PAR1", b"PAR1" + b"\xff" * 40 + b"PAR1", b"x" * 1000],
)
def test_what_is_no_table(content: bytes) -> None:
    assert_refused(content)


def told_of(content: bytes) -> str | dict[str, Outcomes]:
    try:
        return unpack(content)
    except ValueError as error:
        return str(error)


def test_torn_and_flipped_tables_end_in_one_line_or_in_outcomes() -> None:
    content = pack({"a": outcomes(20, attacked=True), "b": outcomes(20, 1)})
    assert_refused(content[:-1])
    assert_refused(content[1:])
    assert_refused(content[:60] + content[-60:])
    rng = np.random.default_rng(0)
    for _ in range(300):
        flipped = bytearray(content)
        flipped[rng.integers(len(content))] ^= 1 << rng.integers(8)
        told = told_of(bytes(flipped))
        assert isinstance(told, str) or all(len(one.ids) == len(one.predictions) for one in told.values())
        assert "\n" not in told


def test_many_rows_of_one_long_string_are_not_spelt_out() -> None:
    n = 100_000
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["x" * 1_000_000]))
    columns = {"condition": pa.array([f"c{k}" for k in range(n)]), "id": long, "label": pa.array(np.arange(n)),
               "prediction": pa.array(np.zeros(n, np.int64))}  # fmt: skip
    assert_refused(table(columns, store_schema=False, write_statistics=False), "too long")


def test_one_long_string_does_not_widen_the_others() -> None:
    """A table of 2 MB whose ids would be 2 GB: arrays hold strings of one width."""
    n = 500_000
    ids = pa.array([f"{k:07}" for k in range(n - 1)] + ["x" * 1000])
    zeros = pa.array(np.zeros(n, np.uint8))
    content = table({"condition": pa.array(["a"] * n), "id": ids, "label": zeros, "prediction": zeros}, row_group_size=n,
                    use_dictionary=["condition", "label", "prediction"])  # fmt: skip
    assert len(content) < 3 << 20
    tracemalloc.start()
    assert_refused(content, "too long")
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


def test_a_table_that_declares_too_many_rows() -> None:
    n = 40_000_000
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array(["a"]))
    zeros = pa.array(np.zeros(n, np.int8))
    columns = {"condition": one, "id": one, "label": zeros, "prediction": zeros}
    assert_refused(table(columns, row_group_size=n), "rows")
