"""Looks at a status page in headless Chromium; prints what it saw as one JSON object, and keeps pictures.

Arguments: what to look at (one of the functions at the end), the page's address, the admin token, a folder for pictures.
"""

import json
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

LOOK, BASE, TOKEN, FOLDER = sys.argv[1:]
PATIENCE = 60_000
# What the page tried against its own policy, as the browser tells it.
WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

seen = {"dialogs": [], "errors": [], "foreign": [], "violations": []}


def watch(page):
    page.set_default_timeout(PATIENCE)
    page.add_init_script(WATCH)
    page.on("dialog", lambda dialog: (seen["dialogs"].append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    page.on("console", lambda line: line.type == "error" and seen["errors"].append(line.text))
    page.on("request", lambda asked: asked.url.startswith((BASE, "data:")) or seen["foreign"].append(asked.url))
    return page


def picture(page, name):
    page.screenshot(path=Path(FOLDER) / f"{name}.png", full_page=True)


def opened(browser, width=1280, scheme="light", path="", script=True):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script)
    page = watch(context.new_page())
    page.goto(BASE + "/" + path)
    return page


def text(page, figure):
    return page.locator(f'[data-figure="{figure}"]').first.inner_text()


def until(page, expression):
    """Waits for it. Playwright's own way evaluates text within the page, which the page's policy forbids."""
    deadline = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"not in time: {expression}"
        page.wait_for_timeout(100)


def live(page):
    until(page, "document.getElementById('live').textContent === 'live,'")


def done(page):
    seen["violations"] += page.evaluate("violations")
    page.context.close()


def sideways(page):
    """How far the page can be moved sideways, in pixels."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")


def brightness(page):
    """Of the background, and of the text, 0 to 765."""
    colours = "[getComputedStyle(document.documentElement).backgroundColor, getComputedStyle(document.body).color]"
    return [sum(float(part) for part in colour[4:-1].split(",")) for colour in page.evaluate(colours)]


def contrast(page):
    """The least contrast of a text with what is behind it, by WCAG 2's formula."""
    return page.evaluate("""() => {
      const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
      const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
      const behind = (element) => {
        for (; element; element = element.parentElement) {
          const colour = parts(getComputedStyle(element).backgroundColor);
          if (colour.length === 3 || colour[3] > 0.99) return colour;
        }
        return [255, 255, 255];
      };
      let least = { ratio: 99 };
      for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || !element.checkVisibility()) continue;
        const [a, b] = [light(parts(getComputedStyle(element).color)), light(behind(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < least.ratio) least = { ratio, text: element.textContent.slice(0, 40), class: element.className };
      }
      return least;
    }""")


def usual(browser):
    page = opened(browser)
    before = int(text(page, "outcome.accepted").replace(",", ""))
    live(page)
    # Somebody delivers meanwhile.
    accepted = "document.querySelector('[data-figure=\"outcome.accepted\"]').textContent"
    until(page, f"Number({accepted}.replace(',', '')) > {before + 5}")
    seen["sinks"] = page.locator('[data-table="sinks"] tr').all_inner_texts()
    seen["status"] = text(page, "status")
    picture(page, "light")
    seen["light"], seen["light_contrast"] = brightness(page), contrast(page)

    # By the keyboard alone: sign in, then press a letter's button.
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    seen["focus_is_seen"] = page.evaluate("""() => {
      const style = getComputedStyle(document.activeElement);
      return style.outlineStyle !== "none" || style.boxShadow !== "none";
    }""")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("no token at all")
    page.keyboard.press("Enter")
    until(page, "document.getElementById('refused').textContent.includes('not the token')")
    page.keyboard.press("Control+a")
    page.keyboard.type(TOKEN)
    with page.expect_navigation():
        page.keyboard.press("Enter")
    live(page)
    seen["signed_in"] = page.locator("#sign-out").is_visible()
    seen["cookies"] = [[cookie["httpOnly"], cookie["sameSite"]] for cookie in page.context.cookies()]
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label') || ''").startswith("Retry ") and page.evaluate(
            "document.activeElement.closest('#letters') !== null"
        ):
            break
    page.keyboard.press("Enter")
    until(page, "document.getElementById('told').textContent.includes('ound')")
    seen["told"] = page.locator("#told").inner_text()
    picture(page, "signed-in")
    # The table was told anew meanwhile, and the focus stayed where it was.
    page.wait_for_timeout(1500)
    seen["focus"] = page.evaluate("document.activeElement.textContent")
    page.click("#sign-out")
    page.wait_for_selector("#sign-in-box")
    done(page)

    page = opened(browser, scheme="dark")
    live(page)
    seen["dark"], seen["dark_contrast"] = brightness(page), contrast(page)
    picture(page, "dark")
    done(page)

    for scheme in ["light", "dark"]:
        page = opened(browser, width=390, scheme=scheme)
        live(page)
        page.locator("summary").first.click()
        seen["sideways"] = sideways(page)
        picture(page, f"phone-{scheme}")
        done(page)

    page = opened(browser, script=False)
    seen["plain"] = page.locator("body").inner_text()
    picture(page, "without-script")
    page.context.close()


def hostile(browser):
    page = opened(browser, path="?q=%3Cimg")
    live(page)
    until(page, "document.querySelectorAll('[data-table=\"events\"] tr').length > 5")
    # One that came while the page was open, by the script's hand.
    until(page, "document.querySelector('[data-table=\"events\"]').textContent.includes('i77')")
    seen["images"] = page.locator("img").count()
    seen["scripts"] = page.locator("script").count()
    seen["events"] = page.locator('[data-table="events"]').inner_text()
    seen["sandboxes"] = page.locator('[data-table="sandboxes"]').inner_text()
    seen["turned"] = page.evaluate("document.documentElement.outerHTML.includes('\\u202e')")
    picture(page, "hostile")
    page.wait_for_timeout(1000)
    done(page)


def many(browser):
    page = opened(browser)
    live(page)
    until(page, "document.querySelector('[data-figure=\"sandboxes.shown\"]').textContent.endsWith('of 10,000')")
    rows = "document.querySelectorAll('tr').length"
    seen["rows"] = [page.evaluate(rows)]
    first = page.locator('[data-table="sandboxes"] tr').first.inner_text()
    with page.expect_navigation():
        page.click("a[rel=next]")
    live(page)
    seen["second"] = text(page, "sandboxes.shown")
    seen["other_rows"] = page.locator('[data-table="sandboxes"] tr').first.inner_text() != first
    seen["rows"].append(page.evaluate(rows))
    with page.expect_navigation():
        page.get_by_role("link", name="Sandbox", exact=True).click()
    live(page)
    ids = [row.split("\t")[0] for row in page.locator('[data-table="sandboxes"] tr').all_inner_texts()]
    seen["sorted"] = ids == sorted(ids) and len(ids) == 50
    page.get_by_label("Search the sandboxes").fill(ids[7])
    with page.expect_navigation():
        page.keyboard.press("Enter")
    until(page, "document.querySelector('[data-figure=\"sandboxes.shown\"]').textContent === '1–1 of 1'")
    live(page)
    # The stream searches, too.
    page.wait_for_timeout(6000)
    seen["found"] = page.locator('[data-table="sandboxes"] tr').count()
    seen["is_it"] = page.locator('[data-table="sandboxes"] tr td').first.inner_text() == ids[7]
    picture(page, "many")
    done(page)


with sync_playwright() as playwright:
    # As root, as in a container, Chromium's own sandbox cannot be had.
    chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    {"usual": usual, "hostile": hostile, "many": many}[LOOK](chromium)
    chromium.close()
print(json.dumps(seen))
