"""The page in Chromium: its text is that of `p2 generate`, and what is wrong stands on it as a sentence."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shlex
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import p2
from p2.cli import main
from p2.contract.noise import NoiseSource
from p2.export.web import page as web

from ...browsing import until
from ...conftest import CELLS, make_card, step_bytes

ANY = "".join(sorted("\0\t\n\r ab<&'\"e\u0301\u200d\u2028\u202e\ufeff日本\U0001f468\U0001f3fd"))
CARDS = {f"{cell}-{reset}": make_card(cell, reset) for cell, reset in CELLS}
CARDS |= {precision: make_card("lstm", precision=precision) for precision in ("int8", "int4", "float16")}
CARDS["any"] = make_card("gru", vocabulary=ANY)


def put(folder: Path, name: str, runtime: Path | None) -> Path:
    """A page of one of the models; returns the model's script."""
    onnx = folder.parent / f"{name}.onnx"
    onnx.write_bytes(step_bytes(CARDS[name]))
    page = web.Page(folder, runtime)
    page.check()
    page.put(onnx, lambda _: None)
    (script,) = folder.glob("model-*.js")
    return script


@pytest.fixture(scope="session")
def pages(runtime, tmp_path_factory) -> dict[str, Path]:
    """The models' scripts by name, all in the folder of the page of ``lstm-after``."""
    base = tmp_path_factory.mktemp("web")
    with pytest.MonkeyPatch.context() as patch:
        scripts = {"lstm-after": put(base / "page", "lstm-after", runtime)}
        # ONNX Runtime is packed once: it takes half a second.
        patch.setattr(web, "runtime_script", lambda _: b"")
        for name in CARDS.keys() - scripts.keys():
            script = put(base / name, name, runtime)
            scripts[name] = script.rename(base / "page" / script.name)
    return scripts


@pytest.fixture(scope="session")
def engines(pages) -> dict[str, p2.Model]:
    """What `p2 generate` opens."""
    folder = pages["any"].parents[1]
    return {name: p2.load(folder / f"{name}.onnx", threads=1) for name in CARDS}


def ready(browser, url: str) -> None:
    browser.get(url)
    until(browser, "!document.getElementById('write').disabled || !document.getElementById('problem').hidden")


@pytest.fixture
def opened(browser, pages):
    """The page, opened from its folder as by a double click; ``opened("int8")`` changes the model."""
    url = pages["lstm-after"].parent.joinpath("index.html").as_uri()
    if browser.current_url != url:
        browser.get_log("browser")
        ready(browser, url)
        assert problem(browser) == ""

    def change(name: str) -> None:
        browser.execute_async_script(
            "const [name, done] = arguments; held(name, 'p2Model').then(open).then(calls).then(done)",
            pages[name].name,
        )

    yield change
    assert browser.get_log("browser") == []


def problem(browser) -> str:
    return browser.execute_script("return $('problem').hidden ? '' : $('problem').textContent")


def write(browser, **fields: object) -> str:
    """Set the fields that are named, all others as they were at first, and press Write."""
    fields = {"prompt": "", "tau": 0, "length": 500, "seed": 7, "top-k": 0, "top-p": 1, "min-p": 0} | fields
    browser.execute_script(
        "const fields = arguments[0];"
        "$('greedy').checked = !!fields.greedy; delete fields.greedy;"
        "for (const [name, value] of Object.entries(fields)) $(name).value = value;"
        "slide('tau', 'temperature'); $('form').requestSubmit();",
        fields,
    )
    until(browser, "!writing")
    return browser.execute_script("return $('text').textContent")


ORDERS = [
    ({}, {}),
    (
        {"seed": str(-(2**64) - 5), "tau": 1, "prompt": "the "},
        {"seed": -(2**64) - 5, "tau": 2, "prompt": "the "},
    ),
    (
        {"tau": -0.5, "top-k": 12, "top-p": 0.9, "min-p": 0.02},
        {"tau": 0.7071, "top_k": 12, "top_p": 0.9, "min_p": 0.02},
    ),
    ({"greedy": True, "prompt": "she"}, {"greedy": True, "prompt": "she"}),
]


@pytest.mark.parametrize("name", [name for name in CARDS if name != "any"])
def test_the_text_is_that_of_p2_generate(browser, opened, engines, name):
    """Float32 to the letter; int8 and int4 too, for what they compute is defined to the last bit."""
    opened(name)
    for seen, asked in ORDERS:
        assert write(browser, **seen) == engines[name].generate(**({"seed": 7, "length": 500} | asked)), asked
    assert problem(browser) == ""
    assert f"{CARDS[name].cell} 2 × 32, 30 characters, {CARDS[name].precision}." in (
        browser.execute_script("return $('about').textContent")
    )


def test_any_character_is_written_as_it_is(browser, opened, engines):
    opened("any")
    prompt = "日\u202ee\u0301\U0001f468\u200d\U0001f3fd\0<'&"
    text = write(browser, prompt=prompt, length=800)
    assert text == engines["any"].generate(prompt, length=800, seed=7)
    assert set(ANY) == set(text)
    assert browser.execute_script("return $('given').textContent") == prompt
    assert "800 characters, " in browser.execute_script("return $('speed').textContent")


def test_the_command_that_the_page_shows_writes_the_same(browser, opened, engines, capsys, monkeypatch):
    opened("gru-before")
    monkeypatch.chdir(engines["gru-before"].engine.path.parent)
    for fields in (
        {"prompt": ", it\n", "tau": 0.3, "seed": 2**40},
        {"greedy": True},
        {"top-k": 3, "top-p": 0.5},
    ):
        text = write(browser, **fields)
        command = shlex.split(browser.execute_script("return $('calls').firstChild.textContent"))
        assert main(command[1:]) == 0
        assert capsys.readouterr().out == fields.get("prompt", "") + text + "\n"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(-(2**70), 2**70),
    st.integers(0, 2**63),
    st.integers(1, 300),
    st.integers(0, 2**45),
)
def test_the_noise_is_numpys(browser, opened, seed, stream, vocab, position):
    words, gumbel = browser.execute_script(
        "const [seed, stream, vocab, position] = arguments;"
        "const noise = noiseOf(BigInt(seed), BigInt(stream), vocab);"
        "return [[...noise.words(position)], [...noise.gumbel(position)]];",
        str(seed),
        str(stream),
        vocab,
        position,
    )
    wanted = [NoiseSource(seed, (stream,), vocab, position) for _ in range(2)]
    assert words == wanted[0].words(1)[0, 0].tolist()
    # A float64 logarithm may differ in its last bit, and the float32 that it is rounded to then does.
    np.testing.assert_array_max_ulp(np.float32(gumbel), wanted[1].gumbel(1)[0, 0], 1)


def test_writing_can_be_followed_and_stopped_by_keyboard(browser, opened):
    from selenium.webdriver.common.keys import Keys

    opened("lstm-after")
    write(browser, length=0)
    browser.execute_script("$('length').value = 1000000; $('prompt').focus()")
    browser.switch_to.active_element.send_keys(Keys.CONTROL, Keys.ENTER)
    until(browser, "writing && $('text').textContent.length > 100")
    browser.execute_script("$('stop').focus()")
    browser.switch_to.active_element.send_keys(Keys.SPACE)
    until(browser, "!writing")
    assert browser.execute_script("return $('said').textContent") == "Stopped."
    assert browser.switch_to.active_element.get_attribute("id") == "write"
    assert len(browser.execute_script("return $('text').textContent")) < 1000000


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_every_field_has_a_name(browser, opened, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_script("document.querySelectorAll('details').forEach(found => found.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script(
        "return [...document.querySelectorAll('input, textarea')].every(field => field.labels.length === 1)"
    )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_bad_order_is_a_sentence(browser, opened):
    opened("lstm-after")
    write(browser, prompt="the \U0001f600")
    assert problem(browser) == (
        "The model does not know the character '\U0001f600' (U+1F600) at position 4;"
        " its vocabulary has 30 characters."
    )
    write(browser, **{"top-p": 0})
    assert problem(browser) == "top-p must be above 0 and at most 1 (off), not 0."
    write(browser, **{"min-p": 1})
    assert problem(browser) == "min-p must be at least 0 (off) and below 1, not 1."
    write(browser, length=3)
    assert problem(browser) == ""
    # What the browser itself refuses lies in a part that is closed at first.
    browser.execute_script("document.querySelectorAll('details').forEach(found => found.open = false)")
    write(browser, **{"min-p": 2})
    assert browser.execute_script("return $('min-p').closest('details').open")
    assert browser.switch_to.active_element.get_attribute("id") == "min-p"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def end_headers(self) -> None:
        self.send_header("cache-control", "no-store")  # a test changes what a name holds, p2 never does
        super().end_headers()


@contextlib.contextmanager
def serving(folder: Path):
    """The folder, as ``python -m http.server`` serves it."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=folder)
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def test_the_page_from_a_server_and_what_it_says_when_something_is_wrong(browser, pages, engines):
    script = pages["lstm-after"]
    whole, runtime = script.read_bytes(), next(script.parent.glob("onnxruntime-web-*.js"))
    with serving(script.parent) as url:
        ready(browser, url)
        assert write(browser) == engines["lstm-after"].generate(seed=7, length=500)
        middle = len(whole) // 2
        flipped = b"A" if whole[middle : middle + 1] != b"A" else b"B"
        for damaged in (whole[:middle], b"", whole[:middle] + flipped + whole[middle + 1 :]):
            script.write_bytes(damaged)
            ready(browser, url)
            assert problem(browser) == (
                f"{script.name} is damaged: export the folder again with p2 export --web."
            )
        for missing in (script, runtime):
            script.write_bytes(whole)
            moved = missing.rename(missing.with_suffix(".away"))
            ready(browser, url)
            assert problem(browser).startswith(f"{missing.name} is not beside this page, or cannot be read: ")
            assert not browser.find_element("id", "write").is_enabled()
            moved.rename(missing)
        for lacks in (
            "WebAssembly.validate = () => false",
            "delete window.WebAssembly",
            "delete window.DecompressionStream",
        ):
            added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": lacks})
            ready(browser, url)
            assert problem(browser).startswith("This browser has no WebAssembly with SIMD, ")
            browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    browser.get_log("browser")
