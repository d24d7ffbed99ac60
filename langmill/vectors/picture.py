"""Words drawn as points of a plane: PCA, t-SNE or UMAP, as a picture or a page. [vectors]"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from langmill.core.errors import ConfigError, DataError, MissingDependencyError
from langmill.core.files import atomic_write
from langmill.core.log import say
from langmill.core.page import all_scripts
from langmill.vectors.query import vectors_of
from langmill.vectors.table import WordVectors, unit

Projection = Literal["pca", "tsne", "umap"]
MISSING = "a picture needs {}; pip install 'langmill[viz]'"


def draw(
    vectors: WordVectors,
    path: Path | str,
    *,
    words: Sequence[str] = (),
    count: int = 300,
    method: Projection = "pca",
    seed: int = 0,
) -> list[str]:
    """Draw words to a `.png`, or to a `.html` page that works offline and shows a word under the mouse.

    words: which ones; by default the `count` most frequent. The same seed gives the same picture. Returns the
    words drawn.
    """
    path = Path(path)
    drawers = {".png": draw_png, ".html": draw_html}
    if path.suffix.lower() not in drawers:
        raise ConfigError(f"{path}: unknown ending {path.suffix!r}; allowed: .png .html")
    chosen = list(dict.fromkeys(words)) or vectors.words[:count]
    if len(chosen) < 3:
        raise DataError(f"{len(chosen)} words make no picture; give at least three")
    points = project(unit(vectors_of(vectors, chosen)), method=method, seed=seed)
    drawers[path.suffix.lower()](path, chosen, points, f"{method.upper()} of {len(chosen)} words")
    return chosen


def project(rows: NDArray[np.float32], *, method: Projection = "pca", seed: int = 0) -> NDArray[np.float64]:
    """Return points of a plane (words, 2) for rows (words, width)."""
    if method == "pca":
        return principal_components(rows)
    say(f"{method.upper()} of {len(rows):,} words …")
    try:
        if method == "tsne":
            from sklearn.manifold import TSNE

            perplexity = min(30.0, (len(rows) - 1) / 3)
            plane = TSNE(init="pca", perplexity=perplexity, random_state=seed).fit_transform(rows)
        else:
            from umap import UMAP

            neighbours = min(15, len(rows) - 1)
            # A random start: the spectral one fails with so few words.
            start = "random" if len(rows) < 10 else "spectral"
            plane = UMAP(n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1).fit_transform(rows)
    except ImportError as error:
        name = {"tsne": "scikit-learn", "umap": "umap-learn"}[method]
        raise MissingDependencyError(MISSING.format(name)) from error
    return np.asarray(plane, np.float64)


def principal_components(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the two directions of largest variance (words, 2), each turned so that its largest weight is positive.

    >>> principal_components(np.array([[1, 0, 0], [-1, 0, 0], [0, 0.5, 0], [0, -0.5, 0]], np.float32)).tolist()
    [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]]
    """
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = np.pad(directions[:2], ((0, max(0, 2 - len(directions))), (0, 0)))
    largest = np.abs(directions).argmax(1)
    signs = np.where(directions[[0, 1], largest] < 0, -1.0, 1.0)
    return centred @ (directions * signs[:, None]).T


def draw_png(path: Path, words: Sequence[str], points: NDArray[np.float64], title: str) -> None:
    """Draw words beside their points."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(MISSING.format("matplotlib")) from error
    with all_scripts(path):
        figure = Figure(figsize=(14, 10), layout="constrained")
        axes = figure.add_subplot()
        axes.scatter(points[:, 0], points[:, 1], s=6)
        for word, (x, y) in zip(words, points, strict=True):
            axes.annotate(
                word.replace("$", r"\$"),
                (x, y),
                xytext=(2, 2),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set_title(title)
        axes.set_xticks([])
        axes.set_yticks([])
        atomic_write(path, lambda aside: FigureCanvasAgg(figure).print_figure(aside, dpi=100, format="png"))


def draw_html(path: Path, words: Sequence[str], points: NDArray[np.float64], title: str) -> None:
    """Draw a page that holds all it needs."""
    try:
        import plotly.graph_objects as graph
    except ImportError as error:
        raise MissingDependencyError(MISSING.format("plotly")) from error
    from html import escape

    labels = [escape(word) for word in words]
    scatter = graph.Scattergl if len(words) > 2000 else graph.Scatter
    figure = graph.Figure(
        scatter(
            x=points[:, 0],
            y=points[:, 1],
            mode="markers+text" if len(words) <= 300 else "markers",
            text=labels,
            textposition="top center",
            textfont={"size": 10},
            hovertemplate="%{text}<extra></extra>",
        )
    )
    figure.update_layout(title=title, template="plotly_white", xaxis_visible=False, yaxis_visible=False)
    atomic_write(path, figure.to_html(include_plotlyjs=True, full_html=True))
