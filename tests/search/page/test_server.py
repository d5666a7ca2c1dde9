"""The API of the page, and what the server sends, through HTTP."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modeling_atri.search import SoundIndex
from tests.helpers.pages import ANSWERS, HEARD, LONG, known_index, served
from tests.helpers.tiny import CAPTIONS


gradio_client = pytest.importorskip("gradio_client", reason="needs the extra `search`")
pytestmark = pytest.mark.heavy


@dataclass(frozen=True)
class Api:
    """A page and a client of its API."""

    index: SoundIndex
    folder: Path
    url: str
    client: Any

    def search(self, query: str = "", **options: Any) -> list[dict]:
        values = {"language": "", "without": "", "sound": None, "by": "file", "top_k": 10, "filters": {}} | options
        return self.client.predict(query, *values.values(), api_name="/search")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    from modeling_atri.search.page import page_app

    folder = tmp_path_factory.mktemp("api")
    index = known_index(folder, num_others=10)
    with served(page_app(index, max_upload_mb=0.2)) as url:
        yield Api(index, folder, url, gradio_client.Client(url, verbose=False))


def test_the_endpoints_are_documented(api):
    named = api.client.view_api(return_format="dict")["named_endpoints"]
    assert set(named) == {"/search", "/compare_languages", "/columns"}
    labels = [parameter["label"] for parameter in named["/search"]["parameters"]]
    assert len(labels) == 7 and labels[0] == "Question, in any language of the model"


@pytest.mark.parametrize("code", list(CAPTIONS))
def test_a_question_finds_its_sound(api, code):
    hits = api.search(CAPTIONS[code], language=code)
    assert hits[0]["sound"] == ANSWERS[code] and hits[0]["score"] == pytest.approx(1.0, abs=1e-5)
    assert len(hits) == 10 and str(api.folder) not in json.dumps(hits)


def test_hits_are_those_of_the_index(api):
    found = api.index.search(CAPTIONS["fra_Latn"], "fr", top_k=5, without="rain", where="year < 2006")
    hits = api.search(CAPTIONS["fra_Latn"], language="fr", without="rain", top_k=5, filters={"year": [None, 2005]})
    assert [(hit["sound"], hit["score"]) for hit in hits] == [(hit.path, pytest.approx(hit.score)) for hit in found]
    assert hits[0]["metadata"] == dict(found[0].metadata)


def test_a_moment(api):
    hit = api.search(CAPTIONS["cat_Latn"], language="ca", by="moment")[0]
    assert (hit["sound"], hit["start_s"], hit["end_s"], hit["duration_s"]) == (LONG, 20.0, 30.0, 60.0)


def test_an_uploaded_sound_finds_itself(api):
    sound = gradio_client.handle_file(str(api.folder / "sounds" / HEARD))
    hit = api.search(sound=sound)[0]
    assert hit["sound"] == HEARD and hit["score"] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Write a question"),
        ({"query": "   "}, "Write a question"),
        ({"query": "x" * 501}, "at most 500 characters, and this one has 501"),
        ({"query": "dog", "without": "x" * 501}, "at most 500 characters"),
        ({"query": "dog", "language": "klingon"}, "klingon"),
        ({"query": "dog", "top_k": 0}, "From 1 to 100"),
        ({"query": "dog", "top_k": 101}, "From 1 to 100"),
        ({"query": "dog", "filters": {"nothing": 1}}, "no filter for the column 'nothing'"),
        ({"query": "dog", "filters": {"year": ["1 OR TRUE", None]}}, "takes two numbers"),
    ],
)
def test_a_wrong_question_is_a_sentence(api, options, message):
    with pytest.raises(gradio_client.exceptions.AppError, match=message):
        api.search(**options)


def test_an_upload_that_is_no_sound_is_a_sentence_without_its_place(api, tmp_path):
    (tmp_path / "page.wav").write_text("<html>no</html>")
    with pytest.raises(gradio_client.exceptions.AppError, match=r"page\.wav.*HTML") as error:
        api.search(sound=gradio_client.handle_file(str(tmp_path / "page.wav")))
    assert "gradio/" not in str(error.value)


def test_a_file_of_the_server_cannot_be_named_as_an_upload(api):
    """By HTTP, because a client of Gradio on the same machine would upload the file."""
    import httpx

    secret = {"path": str(api.folder / "sounds" / HEARD), "meta": {"_type": "gradio.FileData"}}
    call = f"{api.url}/gradio_api/call/search"
    event = httpx.post(call, json={"data": ["", "", "", secret, "file", 10, {}]}).json()["event_id"]
    answer = httpx.get(f"{call}/{event}", timeout=60).text
    assert "event: error" in answer and "was not uploaded" in answer


@pytest.mark.parametrize("address", ["{}/sounds/x.wav", "http://192.0.2.1/x.wav", "https://192.0.2.1/x.wav"])
def test_a_sound_is_not_fetched_from_an_address(api, address):
    import httpx

    sound = {"path": address.format(api.url), "meta": {"_type": "gradio.FileData"}}
    call = f"{api.url}/gradio_api/call/search"
    event = httpx.post(call, json={"data": ["", "", "", sound, "file", 10, {}]}).json()["event_id"]
    answer = httpx.get(f"{call}/{event}", timeout=60).text
    assert "event: error" in answer and "Upload the sound itself" in answer


def test_an_upload_that_is_too_large_is_refused(api, tmp_path):
    (tmp_path / "large.wav").write_bytes(bytes(300_000))
    with pytest.raises(Exception, match="413|maximum"):
        api.search(sound=gradio_client.handle_file(str(tmp_path / "large.wav")))


def test_languages_are_compared(api):
    questions = {"en": CAPTIONS["eng_Latn"], "ja": CAPTIONS["jpn_Jpan"]}
    expected = api.index.compare_languages(questions)
    found = api.client.predict(questions, api_name="/compare_languages")
    assert (found["overlap"], found["rank_variance"]) == (expected.overlap, expected.rank_variance)
    assert found["ranks"] == expected.ranks
    for language, hits in expected.hits.items():
        of_language = found["languages"][language]
        assert [hit["sound"] for hit in of_language["hits"]] == [hit.path for hit in hits[: expected.top_k]]
        assert of_language["question"] == questions[{"eng_Latn": "en", "jpn_Jpan": "ja"}[language]]


def test_columns_say_how_to_filter(api):
    found = {item["column"]: item for item in api.client.predict(api_name="/columns")}
    assert found["licence"]["kind"] == "choice" and set(found["licence"]["choices"]) == {"cc0", "cc-by", "l'auteur"}
    assert found["tags"]["is_list"] and found["year"]["kind"] == "range" and found["checked"]["kind"] == "yes_no"


@pytest.mark.parametrize(
    "path", ["/gradio_api/file=/etc/passwd", "/file=/etc/passwd", "/gradio_api/file=tests/helpers/tiny.py"]
)
def test_gradio_serves_no_other_file(api, path):
    import httpx

    assert httpx.get(api.url + path).status_code in (403, 404)


def test_other_web_sites_may_not_ask(api):
    import httpx

    headers = {"Origin": "https://example.com"}
    assert "example.com" not in httpx.get(f"{api.url}/config", headers=headers).headers.get(
        "access-control-allow-origin", ""
    )


def test_the_page_names_no_other_machine(api):
    import httpx

    page = httpx.get(api.url).text
    for part in ("fonts.googleapis", "cdnjs", "gstatic"):
        assert part not in page
