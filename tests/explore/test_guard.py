"""Who may ask."""

import pytest
from client import Client

from pgvae.explore import make_app
from pgvae.explore.guard import is_local


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "[::1]"]
)
def test_names_of_this_machine_are_local(host):
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    ["", ":8000", "evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0:80", "[::]:1"],
)
def test_other_names_are_not(host):
    assert not is_local(host)


def test_a_name_that_was_made_to_lead_here_is_refused(client):
    answer = client.send("/api/about", host="evil.example:8000")
    assert (answer.status, answer.text.count("\n")) == (421, 0)
    assert client.get("/", host="").status == 421


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9"])
def test_requests_of_another_page_are_refused(client, origin):
    assert client.send("/api/about", origin=origin).status == 403
    assert client.send("/api/about", sec_fetch_site="cross-site").status == 403


def test_the_page_itself_may_ask_at_any_port_that_leads_here(client):
    own = {"host": "localhost:9000", "origin": "http://localhost:9000"}
    assert client.send("/api/about", **own, sec_fetch_site="same-origin").status == 200
    assert client.get("/", sec_fetch_site="cross-site").status == 200  # a link in another page


def test_every_answer_forbids_what_is_not_of_the_page(client):
    for answer in (client.get("/"), client.ask("look"), client.get("/", host="evil.example")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


def test_where_others_can_reach_it_a_token_is_needed(explorer):
    with Client(make_app(explorer, token="secret")) as client:
        others = {"host": "machine.example:8000"}
        assert client.get("/", **others).status == 403
        assert client.send("/api/about", **others, cookie="pgvae-8000=guess").status == 403
        assert client.get("/", query="token=guess", **others).status == 403
        assert client.send("/api/about", **others, cookie=";;=\x7f").status == 403
        answer = client.get("/", query="token=secret", **others)
        assert (answer.status, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert "httponly" in cookie.lower()
        assert "samesite=strict" in cookie.lower()
        assert client.get("/", **others, cookie=cookie.split(";")[0]).status == 200
