"""Images' names, and the changes that an import asks for: two small languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon.errors import BadParameter, NotSupported
from startkit.daemon.images import changes, reference
from startkit.daemon.images.images import empty_config


@pytest.mark.parametrize(
    ("line", "error", "text"),
    [
        ("FROM x", BadParameter, "FROM is not a valid change command"),
        ("CMD", BadParameter, "CMD requires an argument"),
        ("VOLUME /x", NotSupported, "VOLUME"),
        ("ENV justaname", BadParameter, "two arguments"),
        ("LABEL a=1 b", BadParameter, "can't find ="),
        ("EXPOSE http", BadParameter, "Invalid containerPort: http"),
    ],
)
def test_a_change_that_is_not_understood_is_refused_by_name(line, error, text):
    with pytest.raises(error, match=text):
        changes.apply(empty_config(), [line])


def test_a_64_digit_name_is_refused():
    with pytest.raises(BadParameter, match="cannot specify 64-byte hexadecimal"):
        reference.parse_tagged("a" * 64)


NAMES = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,5})?", fullmatch=True)


@given(NAMES, st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True))
def test_all_long_forms_of_a_name_are_its_short_form(name, tag):
    forms = (name, f"library/{name}", f"docker.io/{name}", f"index.docker.io/library/{name}")
    assert {str(reference.parse_tagged(f"{form}:{tag}")) for form in forms} == {f"{name}:{tag}"}


@given(st.text(max_size=40))
def test_any_text_is_a_reference_or_a_400(text):
    try:
        parsed = reference.parse(text)
    except BadParameter:
        return
    assert reference.parse(str(parsed)) == parsed
    assert ".." not in parsed.name.split("/")
