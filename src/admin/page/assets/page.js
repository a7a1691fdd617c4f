// Keeps the status page up to date, and asks for changes. What comes from the relay is put in as text only.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

document.documentElement.classList.add("script");

function svg(kind, box, shape, attributes) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("class", kind);
  drawing.setAttribute("viewBox", box);
  drawing.setAttribute("preserveAspectRatio", "none");
  drawing.setAttribute("aria-hidden", "true");
  const drawn = document.createElementNS(SVG, shape);
  for (const [name, value] of Object.entries(attributes)) drawn.setAttribute(name, value);
  drawing.append(drawn);
  return drawing;
}

function tableCell(cell) {
  const place = document.createElement("td");
  if (cell.class) place.className = cell.class;
  if (cell.title) place.title = cell.title;
  if (cell.bar) place.append(svg("bar", "0 0 100 8", "rect", { width: cell.bar, height: "8" }));
  if (cell.line) place.append(svg("line", "0 0 60 20", "polyline", { points: cell.line }));
  place.append(cell.text);
  if (cell.button) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "needs-script";
    button.dataset.path = cell.button.path;
    button.dataset.body = cell.button.body;
    button.setAttribute("aria-label", cell.button.name);
    button.textContent = cell.button.label;
    place.append(" ", button);
  }
  return place;
}

function showFigure(name, cell) {
  for (const place of document.querySelectorAll(`[data-figure="${CSS.escape(name)}"]`)) {
    const line = place.querySelector("polyline");
    if (line) {
      line.setAttribute("points", cell.line || "");
      place.querySelector("span").textContent = cell.text;
      continue;
    }
    if (place.textContent !== cell.text) place.textContent = cell.text;
    place.className = cell.class || "";
    place.title = cell.title || "";
  }
}

function showList(name, cells) {
  const items = cells.map((cell) => {
    const item = document.createElement("li");
    if (cell.class) item.className = cell.class;
    item.textContent = cell.text;
    return item;
  });
  document.querySelector(`[data-list="${CSS.escape(name)}"]`)?.replaceChildren(...items);
}

function showTable(name, rows) {
  const body = document.querySelector(`[data-table="${CSS.escape(name)}"]`);
  if (!body) return;
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const focused = document.activeElement?.closest("button[data-path]");
  const focusedKey = focused && body.contains(focused) ? focused.closest("tr").dataset.key : undefined;
  const shown = rows.map(({ key, cells }) => {
    const told = JSON.stringify(cells);
    const before = known.get(key);
    if (before?.told === told) return before;
    const row = document.createElement("tr");
    row.dataset.key = key;
    row.told = told;
    row.append(...cells.map(tableCell));
    return row;
  });
  body.replaceChildren(...shown);
  if (focusedKey) body.querySelector(`tr[data-key="${CSS.escape(focusedKey)}"] button`)?.focus();
}

function show({ figures, lists, tables }) {
  for (const [name, cell] of Object.entries(figures)) showFigure(name, cell);
  for (const [name, cells] of Object.entries(lists)) showList(name, cells);
  for (const [name, rows] of Object.entries(tables)) showTable(name, rows);
}

function follow() {
  const live = byId("live");
  const stream = new EventSource("stream" + location.search);
  stream.onmessage = (event) => {
    show(JSON.parse(event.data));
    live.textContent = "live,";
    live.className = "good";
  };
  stream.onerror = () => {
    live.textContent = "not live, as of";
    live.className = "warn";
    // After an answer other than a stream the browser does not ask again by itself.
    if (stream.readyState === EventSource.CLOSED) setTimeout(follow, 10_000);
  };
  addEventListener("pagehide", () => stream.close(), { once: true });
}

function post(path, body) {
  return fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body });
}

async function problem(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `the relay answered ${answer.status}`;
  }
}

async function signIn(event) {
  event.preventDefault();
  const refused = byId("refused");
  try {
    const answer = await post("login", JSON.stringify({ token: event.target.elements.token.value }));
    if (answer.ok) location.reload();
    else refused.textContent = await problem(answer);
  } catch {
    refused.textContent = "The relay does not answer.";
  }
}

function askToSignIn(why) {
  const box = byId("sign-in-box");
  if (!box) return location.reload();
  box.open = true;
  byId("refused").textContent = why;
  box.querySelector("input").focus();
}

// The answer is told line by line; the last line says what came of it.
async function change(button) {
  if (byId("sign-in-box")) return askToSignIn("Sign in first.");
  const told = byId("told");
  told.textContent = "Asked …";
  try {
    const answer = await post(button.dataset.path, button.dataset.body);
    if (answer.status === 401) return askToSignIn("Sign in again.");
    if (!answer.ok) {
      told.textContent = `Refused: ${await problem(answer)}`;
      return;
    }
    const last = JSON.parse((await answer.text()).trim().split("\n").pop());
    const counts = Object.entries(last.result || {}).map(([name, count]) => `${count} ${name.replaceAll("_", " ")}`);
    told.textContent = last.error ? `It failed: ${last.error}` : `Retried: ${counts.join(", ")}.`;
  } catch {
    told.textContent = "The relay does not answer.";
  }
}

byId("sign-in")?.addEventListener("submit", signIn);
byId("sign-out")?.addEventListener("click", async () => {
  await post("logout", "{}");
  location.reload();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-path]");
  if (button) change(button);
});
if (byId("live")) follow();
