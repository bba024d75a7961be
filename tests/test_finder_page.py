"""The audit's page in a headless Chromium: on a phone, in the dark, on paper, under the pointer."""

import re

from finder_curves import recorded_audit
from test_report import assert_undisturbed, browser  # noqa: F401 (the latter is a fixture)


def test_the_audits_page_in_a_browser(browser, tmp_path):  # noqa: F811
    page = recorded_audit().report(tmp_path / "audit.html")
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.ask(f"{domain}.enable")
    browser.ask("Page.navigate", url=page.as_uri())
    browser.wait_for("Page.loadEventFired")

    hidden, text, titles = browser.value("""(() => {
        const svgs = document.querySelectorAll('.card svg');
        const dot = [...svgs[1].querySelectorAll('g.tip')].find(
            g => g.tip.startsWith('weights seed 4, order seed 4: '));
        dot.scrollIntoView({block: 'center', behavior: 'instant'});
        const box = dot.getBoundingClientRect();
        const at = {clientX: box.x + box.width / 2, clientY: box.y + box.height / 2,
                    bubbles: true};
        dot.dispatchEvent(new PointerEvent('pointermove', at));
        const hover = document.getElementById('hover');
        return [hover.hidden, hover.textContent, svgs[1].querySelectorAll('title').length];
    })()""")
    # Another run's dot may lie above it.
    assert hidden is False and titles == 0
    assert re.fullmatch(r"weights seed (\d), order seed \1: [\d.e-]+", text)

    for width in (1000, 360):  # a phone: nothing makes the whole page wider than the window
        browser.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=700,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        assert browser.value("document.documentElement.scrollWidth") <= width
    background = "getComputedStyle(document.body).backgroundColor"
    light = browser.value(background)
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.ask("Emulation.setEmulatedMedia", features=dark)
    assert browser.value(background) != light
    browser.ask("Emulation.setEmulatedMedia", media="print", features=dark)
    assert browser.value(background) == "rgb(255, 255, 255)"
    assert browser.value("getComputedStyle(document.getElementById('hover')).display") == "none"

    assert_undisturbed(browser)
