"""The part after the question mark: whatever it is, it is a value or a 400."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from startkit.daemon.errors import BadParameter
from startkit.daemon.query import Query


@given(st.text(max_size=60), st.sampled_from(["flag", "number", "moment", "text", "many"]))
def test_any_query_is_values_or_a_400_that_names_the_parameter(text, kind):
    query = Query(text)
    for name in [key for key, _ in query.pairs] or ["x"]:
        try:
            getattr(query, kind)(name)
        except BadParameter as error:
            told = BadParameter(f"for {name}: ").message  # in one line, control characters escaped
            assert told in error.message  # noqa: PT017 -- either way is right


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5.0), ("5.25", 5.25), ("1970-01-01T00:00:02Z", 2.0),
     ("1970-01-01T01:00:00.123456789+01:00", 0.123456), ("", None)],
)  # fmt: skip
def test_moments_come_as_unix_time_or_rfc_3339(text, seconds):
    assert Query(f"since={quote(text)}").moment("since") == seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", True), ("true", True), ("True", True), ("0", False), ("false", False), ("", False)],
)
def test_booleans_come_in_gos_forms(text, value):
    assert Query(f"all={text}").flag("all") is value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":["b","c"]}', {"a": ["b", "c"]}),
        ('{"a":{"b":true,"c":false}}', {"a": ["b"]}),
        ("{}", {}),
        ("", {}),
    ],
)
def test_filters_come_as_lists_or_as_maps(text, value):
    assert Query(f"filters={quote(text)}").filters() == value


@pytest.mark.parametrize("text", ["{", "[]", '{"a":1}', '{"a":{"b":"c"}}', '"a"'])
def test_other_filters_are_a_400(text):
    with pytest.raises(BadParameter, match="invalid filters"):
        Query(f"filters={quote(text)}").filters()


@pytest.mark.parametrize(
    ("kind", "text"),
    [("flag", "perhaps"), ("number", "many"), ("number", "1.5"), ("number", "9" * 30),
     ("moment", "yesterday"), ("moment", "0001-01-01"), ("moment", "1e9"), ("moment", "9" * 400)],
)  # fmt: skip
def test_other_values_are_a_400_that_names_the_parameter(kind, text):
    with pytest.raises(BadParameter, match="for key: "):
        getattr(Query(f"key={text}"), kind)("key")
