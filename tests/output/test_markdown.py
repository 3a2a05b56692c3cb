# SPDX-License-Identifier: Apache-2.0
import pytest

from lightning_gradwatch.output.markdown import escape


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("net.0.weight", "net.0.weight"),
        ("a_b*c`d", "a\\_b\\*c\\`d"),
        ("[link](http://x)", "\\[link\\](http://x)"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("&lt;", "&amp;lt;"),
        ("\\", "\\\\"),
    ],
)
def test_what_a_user_named_is_shown_as_it_is(text, shown):
    assert escape(text) == shown
