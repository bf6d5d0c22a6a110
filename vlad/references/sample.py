"""Any number of unlabelled pictures of one product, judged by a sample of them.

Judged by each other, pictures have to be seen twice, and all of them by one process. A sample says as much about what most of them show:
it is judged by itself, which gives the thresholds, and every picture is then compared with pictures of the sample, one by one and anywhere.
As among each other (`vlad.references.unlabelled`) each has at most `others` of them, drawn by a hash of its pixels and so the same wherever
and in whatever order it is seen; a picture of the sample is not compared with itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlad.errors import ConfigError, ImageReadError
from vlad.pictures.batches import read_batches
from vlad.pictures.reading import DEFAULT_READER, ImageSource, Reader
from vlad.references.memory import fingerprint
from vlad.references.unlabelled import TURNED_OTHERS, Judged, MutualSettings, judge, kinds_of
from vlad.scoring.base import Comparison, mean_of_top
from vlad.scoring.batch_threshold import FEWEST
from vlad.scoring.pictures import of_inside

if TYPE_CHECKING:
    from torch import Tensor

    from vlad.backbones.encoder import Encoder
    from vlad.pictures.roi import Roi
    from vlad.scoring.mutual import TokenStore

_OTHER_KIND = 0.2  # share of the sample from which pictures of another kind are no stray ones


@dataclass(frozen=True)
class MutualSample:
    """What a sample of the pictures said. Plain arrays and numbers, so that it can be sent anywhere.

    Attributes:
        tokens: for each picture of the sample its tokens float16 (P, C), one array for each angle.
        keys: hashes of their pixels.
        share: of the others that counts.
        others: each picture is compared with so many.
        scores: of the sample among itself, float (N,).
        threshold, mask_threshold: from these scores.
        is_turned: whether the sample is looked at from several angles.
    """

    tokens: tuple[tuple[np.ndarray, ...], ...]
    keys: tuple[str, ...]
    share: float
    others: int
    scores: np.ndarray
    threshold: float
    mask_threshold: float
    is_turned: bool

    @classmethod
    def look(
        cls,
        images: Sequence[ImageSource],
        encoder: Encoder,
        settings: MutualSettings,
        *,
        batch_size: int = 8,
        read: Reader = DEFAULT_READER,
        top_share: float = 0.01,
        roi: Roi | None = None,
    ) -> MutualSample:
        """Judge a sample by itself. Unreadable pictures are left out, and so are a few of another kind.

        Args:
            images: the sample, at least eight pictures.
            encoder, settings, batch_size, read, top_share, roi: as of `vlad.references.unlabelled.judge`; pictures are not rescored.

        Raises:
            ConfigError: too few pictures, or they show several kinds of product.
        """
        kept: list[tuple[tuple[tuple[np.ndarray, ...], ...], list[str], float, bool]] = []

        def keep(store: TokenStore, keys: list[str], share: float, is_turned: bool) -> None:
            if not kept:  # the largest group comes first
                entries = (tuple(angle.half().numpy() for angle in store[place]) for place in range(len(store)))
                kept.append((tuple(entries), keys, share, is_turned))

        options = {"batch_size": batch_size, "read": read, "top_share": top_share, "roi": roi}
        judged = judge(images, encoder, settings, on_error="return", keep=keep, **options)  # type: ignore[arg-type]
        found = [one for one in judged if isinstance(one, Judged)]
        main = [one for one in found if one.group == 0]
        if len(main) < FEWEST or not kept:
            raise ConfigError(f"pictures are judged by a sample of at least {FEWEST} of one product, got {len(main)}; give references")
        if len(main) < (1 - _OTHER_KIND) * len(found):
            raise ConfigError(f"a sample of the pictures shows {kinds_of(found)}; sort them by product and run each by itself")
        if main[0].threshold is None or main[0].mask_threshold is None:
            raise ConfigError(f"a sample of the pictures cannot be judged: {main[0].undecided}")
        tokens, keys, share, is_turned = kept[0]
        scores = np.array([one.scores["mutual"] for one in main])
        others = min(settings.others, TURNED_OTHERS) if is_turned else settings.others
        return cls(tokens, tuple(keys), share, others, scores, main[0].threshold, main[0].mask_threshold, is_turned)

    def judge(
        self,
        images: Iterable[ImageSource],
        encoder: Encoder,
        *,
        batch_size: int = 8,
        read: Reader = DEFAULT_READER,
        top_share: float = 0.01,
        on_error: str = "raise",
        roi: Roi | None = None,
    ) -> Iterator[Judged | ImageReadError]:
        """Each picture judged by the sample, in order.

        Args:
            images, encoder, batch_size, read, top_share, on_error, roi: as of `vlad.references.unlabelled.judge`.
        """
        from vlad.scoring.mutual import smooth

        for batch in read_batches(images, batch_size, on_error=on_error, read=read, roi=roi):
            readable = [picture for _, picture, _ in batch if isinstance(picture, np.ndarray)]
            cuts = [(picture, None) if roi is None else roi.cut(picture) for picture in readable]
            seen = encoder.see([picture for picture, _ in cuts], patches=True, text=False)
            views = iter([of_inside(view, inside) for view, (_, inside) in zip(seen, cuts, strict=True)])
            parts = iter(cuts)
            for source, picture, notes in batch:
                if isinstance(picture, ImageReadError):
                    yield picture
                    continue
                view, (part, _) = next(views), next(parts)
                assert view.patches is not None
                patches, inside = view.patches, view.inside
                tokens = smooth(patches.tokens, patches.grid).float().cpu()
                inside = None if inside is None else inside.cpu()
                distances = self._distances(tokens if inside is None else tokens[inside], fingerprint(part))
                score = mean_of_top(distances, top_share)
                if inside is not None:
                    whole = distances.new_zeros(len(inside))
                    whole[inside] = distances
                    distances = whole
                yield Judged(
                    source,
                    (picture.shape[0], picture.shape[1]),
                    0,
                    Comparison(score, distances, patches.grid, patches.shown),
                    view.embedding.cpu().numpy(),
                    self.threshold,
                    self.mask_threshold,
                    self._numbers(score, float(distances.max())),
                    "",
                    roi,
                    notes,
                )

    def _distances(self, tokens: Tensor, key: str) -> Tensor:
        """Distances (P,) in [0, 1] of a picture's patches from those of the sample that fall to it."""
        import torch
        from torch.nn import functional as F

        order = np.random.default_rng(int(key[:16], 16)).permutation(len(self.keys))
        chosen = [place for place in order.tolist() if self.keys[place] != key][: self.others]
        tokens = F.normalize(tokens.half().float(), dim=-1)  # as rough as the sample's
        nearest = []
        for place in chosen:
            best = torch.full((len(tokens),), -1.0)
            for angle in self.tokens[place]:
                best = torch.maximum(best, (tokens @ F.normalize(torch.from_numpy(angle).float(), dim=-1).T).amax(1))
            nearest.append((1 - best).div_(2).clamp_(0, 1))
        lowest = max(1, int(self.share * len(nearest) + 1e-9))
        return torch.stack(nearest).topk(lowest, dim=0, largest=False).values.mean(0)

    def _numbers(self, score: float, peak: float) -> dict[str, float]:
        middle = float(np.median(self.scores))
        spread = 1.4826 * float(np.median(np.abs(self.scores - middle)))
        return {
            "mutual": score,
            "mutual_map_max": peak,
            "mutual_pictures": float(len(self.keys)),
            "mutual_turned": float(self.is_turned),
            "mutual_rank": float((self.scores < score).mean()),
            "mutual_z": (score - middle) / spread if spread > 0 else 0.0,
        }
