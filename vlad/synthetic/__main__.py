"""`python -m vlad.synthetic examples|benchmark|preview`: writes example pictures, the synthetic benchmark or a contact sheet."""

from __future__ import annotations

import argparse
from pathlib import Path

from vlad.synthetic.benchmark import BENCHMARK_CATEGORIES, contact_sheet, write_benchmark, write_examples, write_picture
from vlad.synthetic.sampling import generate
from vlad.synthetic.vocabulary import DEFECT_NOUNS, DEFECTS, FAMILIES, FAMILY_NOUNS


def main(arguments: list[str] | None = None) -> None:
    """`python -m vlad.synthetic examples|benchmark|preview`: writes example pictures, the synthetic benchmark or a contact sheet."""
    parser = argparse.ArgumentParser(prog="python -m vlad.synthetic", description="Procedural pictures with exact defect masks.")
    commands = parser.add_subparsers(dest="command", required=True)
    examples = commands.add_parser("examples", help="example pictures with masks and references")
    examples.add_argument("folder", type=Path)
    benchmark = commands.add_parser("benchmark", help="the synthetic benchmark in MVTec AD's layout")
    benchmark.add_argument("root", type=Path)
    benchmark.add_argument("--seed", type=int, default=0)
    benchmark.add_argument(
        "--categories", nargs="+", default=list(BENCHMARK_CATEGORIES), choices=list(BENCHMARK_CATEGORIES), metavar="NAME"
    )
    for option, default in (("--n-train", 16), ("--n-good", 20), ("--n-bad", 20), ("--size", 320)):
        benchmark.add_argument(option, type=int, default=default)
    preview = commands.add_parser("preview", help="a contact sheet of random pictures with the outlines of their masks")
    preview.add_argument("file", type=Path)
    preview.add_argument("--n", type=int, default=48)
    preview.add_argument("--seed", type=int, default=0)
    preview.add_argument("--size", type=int, default=320)
    preview.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILY_NOUNS), metavar="NAME")
    preview.add_argument("--defects", nargs="+", default=list(DEFECTS), choices=list(DEFECT_NOUNS), metavar="NAME")
    options = parser.parse_args(arguments)

    if options.command == "examples":
        write_examples(options.folder)
    elif options.command == "benchmark":
        counts = {"n_train": options.n_train, "n_good": options.n_good, "n_bad": options.n_bad, "size": options.size}
        write_benchmark(options.root, seed=options.seed, categories=options.categories, **counts)
    else:
        samples = generate(options.n, seed=options.seed, families=options.families, defects=options.defects, size=options.size)
        write_picture(options.file, contact_sheet(samples))


if __name__ == "__main__":
    main()
