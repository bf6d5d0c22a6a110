"""`vlad detect --engine ray`: more pictures than one machine judges."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from vlad.cli import options
from vlad.errors import ConfigError
from vlad.references.thresholds import TEXT_THRESHOLD
from vlad.references.unlabelled import MutualSettings
from vlad.together import by_each_other
from vlad.untrusted import printable

if TYPE_CHECKING:
    from vlad.cluster.run import Summary
    from vlad.detector import AnomalyDetector
    from vlad.together import Adapting


@dataclass(frozen=True, kw_only=True)
class Many:
    """What is run on a cluster, and how; as of `vlad detect`."""

    inputs: list[str]
    recursive: bool
    out: Path
    kind: str
    workers: int | None
    device: str
    maps: bool
    batch_size: int
    mutual: bool | None
    expect_anomalous: float | None
    quiet: bool


def detect_many(detector: AnomalyDetector, follow: Adapting | None, how: Many, summary: Summary) -> None:
    """Judge all pictures, write the parts of results that are not there yet, and count in `summary`.

    Raises:
        ConfigError: something cannot be done on a cluster, or `out` holds another run.
        ImageReadError: an input holds no picture.
        OutputError: something could not be written.
    """
    from vlad.cluster.parts import Parts
    from vlad.cluster.paths import Paths
    from vlad.cluster.run import Cluster, block_of, detect
    from vlad.disk import held

    if how.mutual and detector.memory is not None:
        raise ConfigError("--mutual beside references judges pictures in one process; leave --mutual, the references or --engine ray out")
    paths = Paths(how.inputs, recursive=how.recursive)
    chosen = True if how.mutual is None and how.expect_anomalous is not None else how.mutual
    mutual = by_each_other(detector, paths.count, mutual=chosen)
    if mutual is False and chosen is False and not detector.decides_alone:
        detector = detector.copy(text_threshold=TEXT_THRESHOLD)
    if not how.quiet:
        typer.echo(
            f"{paths.count:,} pictures" + (", judged by a sample of them, as if all were of one product and most good" if mutual else ""),
            err=True,
        )
    backbones = [one for one in (detector.backbone, getattr(detector, "patch_backbone", None)) if one is not None]
    memory = detector.memory
    identity = {
        "list of pictures": {"count": paths.count, "sha256": paths.sha256},
        "model": [[backbone.name, backbone.fingerprint] for backbone in backbones],
        "prompts": detector.prompts.fingerprint,
        "detector": detector.config.to_dict(),
        "references": [] if memory is None else sorted(one.sha256 for one in memory.references.values()),
        "memory": None if memory is None else {key: str(value) for key, value in asdict(memory.settings).items()},
        "labels": None if detector.labels is None else detector.labels.to_dict(),
        "mutual": mutual,
        "expect_anomalous": how.expect_anomalous,
        "adapt": None if follow is None else {"fewest": follow.fewest, "limit": follow.limit},
        "maps": how.maps,
        "block": block_of(paths.count),
    }
    with held(how.out):
        parts = Parts(how.out, how.kind, identity)
        with _bar(paths.count, how.quiet) as bar:
            detect(
                detector,
                paths,
                parts,
                Cluster(workers=how.workers, device=how.device),
                mutual=mutual,
                settings=MutualSettings(expect_anomalous=how.expect_anomalous),
                follow=follow,
                summary=summary,
                maps=how.maps,
                batch_size=how.batch_size,
                tell=bar.update,
            )


def _bar(total: int, quiet: bool):  # type: ignore[no-untyped-def]
    import sys

    from tqdm import tqdm

    return tqdm(total=total, unit="picture", disable=quiet or not sys.stderr.isatty(), leave=False)


def tell(summary: Summary, how: Many) -> None:
    """What came of it, on stderr."""
    for line in summary.errors:
        options.complain(line)
    if how.quiet:
        return
    verdicts = summary.verdicts
    parts = [f"{verdicts['anomalous']:,} anomalous, {verdicts['normal']:,} normal"]
    parts += [f"{verdicts[name]:,} {name}" for name in ("undecided", "failed") if verdicts[name]]
    parts += [f"{summary.before:,} of them recorded before"] if summary.before else []
    typer.echo(printable("; ".join([*parts, f"results in {how.out / 'parts'}"]), one_line=True), err=True)
