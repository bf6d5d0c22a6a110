"""Procedural pictures of parts and surfaces with exact defect masks, names and captions: the `synthetic` set, the examples, and what the
embedded model was trained on.

from vlad.synthetic import make_sample
sample = make_sample(0)            # sample.image, sample.mask, sample.class_name, sample.defect, sample.caption
"""

from vlad.synthetic.benchmark import BENCHMARK_CATEGORIES, contact_sheet, write_benchmark, write_examples, write_picture
from vlad.synthetic.sampling import ProductLine, Sample, generate, make_pair, make_sample
from vlad.synthetic.vocabulary import (
    ABNORMAL_ADJECTIVES,
    DEFECT_ADJECTIVES,
    DEFECT_NOUNS,
    DEFECTS,
    FAMILIES,
    FAMILY_NOUNS,
    HELD_OUT_DEFECTS,
    HELD_OUT_FAMILIES,
    NORMAL_ADJECTIVES,
)

__all__ = [
    "ABNORMAL_ADJECTIVES",
    "BENCHMARK_CATEGORIES",
    "DEFECTS",
    "DEFECT_ADJECTIVES",
    "DEFECT_NOUNS",
    "FAMILIES",
    "FAMILY_NOUNS",
    "HELD_OUT_DEFECTS",
    "HELD_OUT_FAMILIES",
    "NORMAL_ADJECTIVES",
    "ProductLine",
    "Sample",
    "contact_sheet",
    "generate",
    "make_pair",
    "make_sample",
    "write_benchmark",
    "write_examples",
    "write_picture",
]
