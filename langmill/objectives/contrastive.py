"""Vectors of texts that belong together near each other, all others apart. [objectives]

Each loss returns (loss_sum, count), in nats. Shape letters: B pairs, C candidates, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from langmill.batches.labelled import LabelledBatch
from langmill.batches.text_pairs import PairBatch
from langmill.core.distributed import World

Encode = Callable[[LabelledBatch], Tensor]
"""From a batch of texts to their vectors, (B, D)."""
ALONE = World()


def known_pairs(texts: Tensor, candidates: Tensor) -> Tensor:
    """Return which candidates are no negatives of which texts, (B, C): a text's own, and others that belong to it.

    texts: (B,), candidates: (C,), the first B of them belonging to `texts` in order; equal numbers mean equal texts.
    What belongs to a text is what stands beside an equal one anywhere in the batch, and the text itself.

    >>> known_pairs(torch.tensor([7, 8, 7]), torch.tensor([1, 2, 3, 2])).int().tolist()
    [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]
    """
    same = texts[:, None] == texts[None]  # (B, B)
    belongs = candidates[None, : len(texts)] == candidates[:, None]  # (C, B)
    return (same.float() @ belongs.T.float() > 0) | (texts[:, None] == candidates[None])


def info_nce(
    vectors: Tensor, candidates: Tensor, known: Tensor, *, temperature: float, symmetric: bool = False
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of finding each text's own candidate among its negatives, by cosine, and B.

    van den Oord et al. 2018 (arXiv:1807.03748), equation 4, with the other pairs of the batch as negatives; on a text
    and itself under another dropout it is SimCSE (Gao, Yao and Chen 2021, arXiv:2104.08821, equation 1).

    vectors: (B, D). candidates: (C, D), the first B of them belonging to `vectors` in order. known: (B, C), True where a
    candidate is no negative; see `known_pairs`. temperature: by what cosines are divided. symmetric: average with
    finding the text by its candidate (Radford et al. 2021, arXiv:2103.00020, figure 3).
    """
    count = len(vectors)
    scores = cosines(vectors, candidates) / temperature  # (B, C)
    own = torch.eye(count, len(candidates), dtype=torch.bool, device=scores.device)
    scores = scores.masked_fill(known & ~own, -torch.inf)
    targets = torch.arange(count, device=scores.device)
    loss = F.cross_entropy(scores, targets, reduction="sum")
    if symmetric:
        loss = (loss + F.cross_entropy(scores[:, :count].T, targets, reduction="sum")) / 2
    return loss, torch.tensor(count, device=scores.device)


def cosent(vectors: Tensor, others: Tensor, scores: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the loss of cosines that are not in the order of the scores, times B, and B.

    log(1 + sum of exp((cos_j - cos_i) / temperature) over all i, j where score_i > score_j): Su 2022, "CoSENT"
    (kexue.fm/archives/8847). Only the order of the scores counts, as for Spearman's correlation, so that they may have
    any scale. vectors, others: (B, D), the two sides of the pairs. scores: (B,).
    """
    near = F.cosine_similarity(vectors, others, dim=1) / temperature  # (B,)
    gaps = (near[None] - near[:, None])[scores[:, None] > scores[None]]
    loss = torch.cat([gaps.new_zeros(1), gaps]).logsumexp(0)
    return loss * len(scores), torch.tensor(len(scores), device=scores.device)


def cosines(one: Tensor, other: Tensor) -> Tensor:
    """Return the cosine of each of (B, D) and each of (C, D), (B, C)."""
    return F.normalize(one, dim=-1) @ F.normalize(other, dim=-1).T


def contrastive(
    encode: Encode,
    batch: PairBatch,
    *,
    temperature: float,
    symmetric: bool,
    sizes: Sequence[int] = (),
    here: World = ALONE,
) -> tuple[Tensor, Tensor]:
    """Return the loss of a batch: `cosent` where scores are known, else `info_nce` with all of the batch as negatives.

    sizes: beginnings of the vectors whose losses are averaged with that of the whole (Kusupati et al. 2022,
    arXiv:2205.13147, equation 1, all weights equal).

    A batch that is more than one forward pass is read in parts of which only the vectors are kept, and read once more
    on the way back: the memory of one part, the gradient of the whole (GradCache: Gao et al. 2021, arXiv:2101.06983).

    here: several processes are one batch. Each computes the loss of all their vectors, of which its own have gradients;
    summed over the processes, these are the gradient of the whole. Of the loss each returns its share.
    """
    count = len(batch.texts.targets)
    vectors = torch.cat(here.gather(read_parts(encode, batch.texts, batch.rows)))
    parts = read_parts(encode, batch.candidates, batch.rows)
    # The texts that belong come first, of all processes, then those that do not.
    candidates = torch.cat(here.gather(parts[:count]) + here.gather(parts[count:]))
    targets = batch.candidates.targets
    known = known_pairs(
        torch.cat(here.gather(batch.texts.targets)),
        torch.cat(here.gather(targets[:count]) + here.gather(targets[count:])),
    )
    scores = None if batch.scores is None else torch.cat(here.gather(batch.scores))
    total = vectors.new_zeros(())
    widths = (*sizes, vectors.shape[1])
    for width in widths:
        one, other = vectors[:, :width], candidates[:, :width]
        if scores is not None:
            loss, _ = cosent(one, other, scores, temperature=temperature)
        else:
            loss, _ = info_nce(one, other, known, temperature=temperature, symmetric=symmetric)
        total = total + loss / len(widths)
    share = total.detach() / here.size
    return total - total.detach() + share, torch.tensor(count, device=total.device)


def read_parts(encode: Encode, batch: LabelledBatch, rows: int) -> Tensor:
    """Return the vectors of all texts, (B, D), read in forward passes of at most `rows` texts."""
    from torch.utils.checkpoint import checkpoint

    parts = batch.split(rows)
    if len(parts) == 1 or not torch.is_grad_enabled():
        return torch.cat([encode(part) for part in parts])
    return torch.cat([checkpoint(encode, part, use_reentrant=False) for part in parts])
