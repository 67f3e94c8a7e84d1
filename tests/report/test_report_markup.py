"""HTML from pieces."""

from pgvae.report.markup import Html, join, tag


def test_text_is_escaped_and_markup_is_not():
    inner = tag("b", "1 < 2 & 3")
    assert inner == "<b>1 &lt; 2 &amp; 3</b>"
    assert tag("p", "<b>", inner) == "<p>&lt;b&gt;<b>1 &lt; 2 &amp; 3</b></p>"


def test_attributes_are_escaped_with_their_quotes():
    assert tag("p", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;"></p>'


def test_markup_put_into_a_text_is_a_text_again():
    assert tag("p", f"{tag('i', 'x')}") == "<p>&lt;i&gt;x&lt;/i&gt;</p>"


def test_names_of_attributes_may_be_python_words():
    assert tag("p", class_="a", data_p=1) == '<p class="a" data-p="1"></p>'
    assert tag("svg", viewBox="0 0 1 1") == '<svg viewBox="0 0 1 1"></svg>'


def test_an_attribute_of_none_or_false_is_left_out_and_true_has_no_value():
    assert tag("input", checked=True, id=None, hidden=False) == "<input checked>"


def test_lists_are_joined_and_none_is_nothing():
    assert join(["<", [tag("br"), None, (1, 2)]]) == "&lt;<br>12"
    assert isinstance(join([]), Html)
