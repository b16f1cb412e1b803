"""The page, by itself and in a browser."""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
from html.parser import HTMLParser

import pytest

from p2.serve import pace

from ..browsing import until
from ..conftest import TINY_TEXT


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def test_the_page_is_whole_and_every_field_has_a_name(served):
    answer = served.client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    elements = Elements(answer.text).found
    outside = [
        value for _, attributes in elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert outside == ["data:,"]
    assert not re.search(r"url\(|@import|https?://", answer.text)
    named = {attributes.get("for") for tag, attributes in elements if tag == "label"}
    fields = [attributes["id"] for tag, attributes in elements if tag in ("input", "textarea")]
    assert {*fields} <= named
    assert any(attributes.get("aria-live") == "polite" for _, attributes in elements)


def copied(browser) -> list[str]:
    """Calls with curl and Python by turns, a pair for each model."""
    return browser.execute_script(
        "return [...document.querySelectorAll('#calls pre')].map(e => e.textContent)"
    )


def run_shell(call: str) -> str:
    """What a call with curl is answered."""
    done = subprocess.run(["sh", "-c", call.replace("curl ", "curl -s ", 1)], capture_output=True, check=True)
    return json.loads(done.stdout)["choices"][0]["text"]


def run_python(call: str) -> str:
    """What a call with OpenAI's client prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(call, "call", "exec"), {})
    return said.getvalue().removesuffix("\n")


def test_the_page_in_a_browser(browser, served, alone, monkeypatch):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    def field(name: str):
        return browser.find_element(By.ID, name)

    browser.get(served.url)
    until(browser, "document.querySelectorAll('#models input').length === 2")

    # Tau and temperature are each other's inverse, by keyboard.
    field("tau").send_keys(Keys.ARROW_RIGHT * 50)
    tau = float(field("tau-value").text)
    assert tau == pytest.approx(2**0.5, rel=1e-3)
    assert float(field("temperature-value").text) == pytest.approx(1 / tau, rel=1e-3)
    field("temperature").send_keys(Keys.HOME)
    assert (field("tau-value").text, field("temperature-value").text) == ("4", "0.25")
    tau = 4

    # Both models write, on one seed, with a prompt that is awkward to quote.
    prompt = 'it \'s "quick" <b>&amp;\n'
    known = set(alone["lstm"].card.vocabulary)
    prompt = "".join(c for c in prompt if c in known)
    for name, value in (("prompt", prompt), ("length", "300"), ("seed", "11")):
        field(name).clear()
        field(name).send_keys(value)
    field("prompt").send_keys(Keys.CONTROL, Keys.ENTER)
    until(browser, "document.getElementById('said').textContent === 'Done.'")
    texts = browser.execute_script("return [...document.querySelectorAll('.text')].map(e => e.textContent)")
    assert texts == [
        prompt + alone[m].generate(prompt, length=300, seed=11, tau=tau) for m in ("lstm", "gru")
    ]

    # What can be copied asks for the same.
    code = copied(browser)
    assert [run_shell(code[0]), run_python(code[1])] == [texts[0].removeprefix(prompt)] * 2
    assert run_python(code[3]) == texts[1].removeprefix(prompt)

    # A long text streams, and can be stopped.
    monkeypatch.setattr(pace, "MOST_CHARACTERS", 8)  # so that it takes some seconds
    field("length").clear()
    field("length").send_keys("20000")
    field("write").send_keys(Keys.ENTER)
    until(
        browser,
        "document.activeElement.id === 'stop' && document.querySelector('.text').textContent.length > 100",
    )
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    until(browser, "document.getElementById('said').textContent === 'Stopped.'")

    # What stands in the training text is marked.
    marked = browser.execute_async_script(
        "const [written, done] = arguments, note = document.createElement('p');"
        "const text = document.createElement('div');"
        "text.append(document.createElement('span'));"
        "markVerbatim({text, note, written}).then(() =>"
        " done([...text.querySelectorAll('mark')].map(e => e.textContent)));",
        "zzzz" + TINY_TEXT[7:60] + "zz\U0001f600" + TINY_TEXT[100:128] + "q" + TINY_TEXT[3:40],
    )
    assert marked == [TINY_TEXT[7:60], TINY_TEXT[3:40]]

    # An error is said; nothing was blocked or failed on the way.
    field("prompt").send_keys("Ä")
    field("write").click()
    said = until(
        browser,
        "!writing && document.querySelector('.error') && document.getElementById('said').textContent",
    )
    assert "does not know the character 'Ä'" in said
    assert [line for line in browser.get_log("browser") if "400 (Bad Request)" not in line["message"]] == []


def test_the_page_asks_for_a_key_and_copies_none(browser, start, alone, monkeypatch):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.get(start(keys=("secret",)).url)
    until(browser, "!document.getElementById('key-field').hidden")
    for key, wanted in (("wrong", "document.getElementById('said').textContent === 'The key is not right.'"),
                        ("secret", "document.querySelectorAll('#models input').length === 1")):  # fmt: skip
        browser.find_element(By.ID, "key").clear()
        browser.find_element(By.ID, "key").send_keys(key, Keys.TAB)
        until(browser, wanted)
    code = copied(browser)
    assert "secret" not in "".join(code)
    monkeypatch.setenv("KEY", "secret")
    wanted = alone["lstm"].generate("the ", length=500, seed=7)
    browser.find_element(By.ID, "prompt").clear()
    browser.find_element(By.ID, "prompt").send_keys("the ")
    assert [run(call) for run, call in zip((run_shell, run_python), copied(browser), strict=True)] == [
        wanted
    ] * 2
    browser.get_log("browser")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits(browser, served, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(served.url)
    until(browser, "document.querySelectorAll('#models input').length === 2")
    browser.execute_script("document.getElementById('code').open = true")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
