"""The table of formats."""

from kdaudit.config import FORMATS as NAMES
from kdaudit.report.formats import FORMATS


def test_the_formats_that_an_option_may_name_are_those_of_the_table() -> None:
    assert tuple(FORMATS) == NAMES


def test_no_two_formats_share_a_file() -> None:
    assert len({form.file for form in FORMATS.values()}) == len(FORMATS)
