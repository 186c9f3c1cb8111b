"""The report in a real browser: headless Chromium, found through $CHROMIUM or the PATH."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.features import Waveform
from pipeline.report import report
from tests.reported import HOSTILE, RATE, hostile
from tests.sealed import Made, write_made

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.slow
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
WIDTHS = {"desk": 1280, "phone": 375}


@pytest.fixture(scope="module")
def browser() -> "Iterator[playwright.Browser]":
    if not CHROMIUM:
        pytest.skip("no Chromium: install Debian's package chromium, or set $CHROMIUM")
    with playwright.sync_playwright() as started:
        # Chromium's own sandbox needs rights that containers and root lack.
        running = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


class Opened:
    """A page and all that it complained about or asked the network for."""

    def __init__(self, browser: "playwright.Browser", path: Path, width: int = 1280) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 800})
        self.heard: list[str] = []
        self.page.on("console", lambda message: self.heard.append(message.text))
        self.page.on("pageerror", lambda error: self.heard.append(str(error)))
        self.page.on("requestfailed", lambda request: self.heard.append(request.url[:80]))
        self.page.on("request", self._asked)
        self.path = path
        self.page.goto(path.as_uri())

    def _asked(self, request: "playwright.Request") -> None:
        if request.url != self.path.as_uri() and not request.url.startswith("data:"):
            self.heard.append(request.url)

    def shown(self) -> list[str]:
        """The labels of the examples that are to be seen, in their order."""
        visible = self.page.locator("#tiles > li:not([hidden]) h3")
        return [text.strip() for text in visible.all_inner_texts()]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of forty beeps of half a second in four classes; one is there twice."""
    folder = tmp_path_factory.mktemp("tones")
    time = np.arange(RATE // 2) / RATE
    rows = [
        (
            f"beep-{i}",
            {"pitch": i % 4, "speaker": f"s{i % 5}"},
            np.float32(0.2) * np.sin(2 * np.pi * (300 + 31 * i) * time).astype(np.float32),
        )
        for i in range(40)
    ]
    rows[9] = ("echo", *rows[5][1:])
    made = Made(
        Waveform(RATE, "float32"),
        {"pitch": "class", "speaker": "text"},
        {"train": rows[:30], "test": rows[30:]},
        {"pitch": ["low", "middle", "high", "highest"]},
    )
    return report(write_made(folder / "made", made), folder / "out", lambda done: None)


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_it_opens_without_errors_and_asks_nobody(
    browser: "playwright.Browser", tones: Path, width: int
) -> None:
    opened = Opened(browser, tones, width)
    assert opened.page.locator("h1").inner_text() == "bench"
    wide = opened.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width  # nothing hangs out
    opened.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    broken = """Promise.all([...document.images].map(image => image.decode())).then(() =>
        [...document.images].filter(image => !image.naturalWidth).length)"""
    assert opened.page.evaluate(broken) == 0
    assert opened.page.evaluate("document.images.length") >= 40
    assert opened.heard == []


def test_a_clip_plays_and_another_stops_it(browser: "playwright.Browser", tones: Path) -> None:
    opened = Opened(browser, tones)
    first = opened.page.locator("audio").nth(0)
    assert first.evaluate("sound => sound.play().then(() => sound.paused)") is False
    assert first.evaluate("sound => sound.duration") == pytest.approx(0.5, abs=0.01)
    opened.page.wait_for_function("document.querySelector('audio').currentTime > 0")
    opened.page.locator("audio").nth(1).evaluate("sound => sound.play()")
    assert first.evaluate("sound => sound.paused") is True
    assert opened.heard == []


def test_it_filters_sorts_and_leads_from_a_problem_to_its_examples(
    browser: "playwright.Browser", tones: Path
) -> None:
    opened = Opened(browser, tones)
    page = opened.page
    everything = opened.shown()
    assert len(everything) == 40
    assert page.locator("#tiles > li").first.get_by_text("same audio as").count() == 1
    page.get_by_label("Search").fill("high")
    assert set(opened.shown()) == {"high"}  # the label, not "highest" too
    assert page.locator("#shown").inner_text() == "10 of 40 shown"
    page.get_by_label("Search").fill("hig")
    assert set(opened.shown()) == {"high", "highest"}
    page.get_by_label("Split").select_option("test")
    assert 0 < len(opened.shown()) < 20
    page.get_by_label("Search").fill("no such thing")
    assert opened.shown() == []
    assert page.locator("#nothing").is_visible()
    page.get_by_role("button", name="Show all").click()
    assert opened.shown() == everything
    page.get_by_label("Order").select_option("label")
    assert opened.shown() == sorted(everything)
    page.locator(".card", has_text="Same audio").get_by_text("See the examples").click()
    assert len(opened.shown()) == 2
    page.locator("#labels").get_by_role("link", name="middle").click()
    assert set(opened.shown()) == {"middle"}
    assert opened.heard == []


def test_what_people_have_named_does_nothing(browser: "playwright.Browser", tmp_path: Path) -> None:
    folder = hostile(tmp_path)
    opened = Opened(browser, report(folder, tmp_path / "out", lambda done: None))
    page = opened.page
    for text in HOSTILE:
        page.get_by_label("Search").fill(text)
        assert opened.shown()
    page.mouse.move(600, 400)
    assert page.evaluate("document.hacked") is None
    assert HOSTILE[0] in page.locator("h1").inner_text()
    assert opened.heard == []
    # Even what would get into the page is stopped by its policy.
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "document.hacked = 1";
        document.body.append(script);
    }""")
    assert page.evaluate("document.hacked") is None
    assert any("Content Security Policy" in line for line in opened.heard)
