"""Pictures of words. [tests]"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
import pytest
from vector_samples import WORDS, some_pieces, some_vectors

from langmill.core.errors import ConfigError, DataError
from langmill.vectors.picture import draw, principal_components, project
from langmill.vectors.table import WordVectors


def test_principal_components_are_scikit_learns() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    rows = np.random.default_rng(0).normal(size=(30, 7)).astype(np.float32)
    theirs = decomposition.PCA(2).fit_transform(rows)
    ours = principal_components(rows)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(ours, principal_components(rows))
    assert principal_components(rows[:, :1]).shape == (30, 2)


@pytest.mark.parametrize("method", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_neighbours_stay_neighbours_and_the_seed_decides(method: str) -> None:
    pytest.importorskip({"tsne": "sklearn", "umap": "umap"}[method])
    random = np.random.default_rng(1)
    centres = np.repeat(random.normal(size=(2, 10)) * 8, 20, axis=0)
    rows = (centres + random.normal(size=centres.shape)).astype(np.float32)
    points = project(rows, method=method, seed=3)  # type: ignore[arg-type]
    assert points.shape == (40, 2)
    one, other = points[:20], points[20:]
    gap = np.linalg.norm(one.mean(0) - other.mean(0))
    assert gap > 2 * max(one.std(0).max(), other.std(0).max())
    np.testing.assert_array_equal(points, project(rows, method=method, seed=3))  # type: ignore[arg-type]


def test_a_page_works_offline(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    vectors = some_vectors()
    vectors = WordVectors([*vectors.words[:-1], "<script>alert(1)</script>"], vectors.matrix)
    assert draw(vectors, tmp_path / "a.html", count=99) == vectors.words
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    assert "<script>alert(1)" not in page
    data = page[page.rindex("Plotly.newPlot") :]
    assert all(
        word in data or word.encode("ascii", "backslashreplace").decode() in data for word in ("king", "北京")
    )


def test_a_picture_and_a_warning_where_fonts_lack_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    words = ["king", "queen", "man", "$x$_{"]
    vectors = WordVectors([*words, *some_vectors().words[4:]], some_vectors().matrix)
    assert draw(vectors, tmp_path / "a.png", words=[*words, "king"]) == words
    data = (tmp_path / "a.png").read_bytes()
    assert data.startswith(b"\x89PNG") and struct.unpack(">2I", data[16:24]) == (1400, 1000)
    assert not capsys.readouterr().err
    unassigned = WordVectors(["a", "b", "\U000e1234"], np.eye(3, dtype=np.float32))
    draw(unassigned, tmp_path / "b.png")
    assert "characters missing from the fonts that are installed show as boxes: " in capsys.readouterr().err


def test_unknown_words_come_from_pieces_or_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    assert draw(some_pieces(), tmp_path / "a.html", words=["king", "kings", "北京人"])[1] == "kings"
    with pytest.raises(DataError, match="'kings' is not among"):
        draw(some_vectors(), tmp_path / "b.html", words=["king", "kings", *WORDS])
    with pytest.raises(DataError, match="2 words make no picture"):
        draw(some_vectors(), tmp_path / "b.html", words=["king", "man", "king"])
    with pytest.raises(ConfigError, match=r"unknown ending '.jpg'; allowed: .png .html"):
        draw(some_vectors(), tmp_path / "b.jpg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.html"]
