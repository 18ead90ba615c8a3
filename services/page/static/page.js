// Shows each state that /api/stream sends, and sends the requests of the forms. Texts become text nodes, never HTML.
"use strict";

const element = (id) => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const FORMS = {
  text: String,
  count: (value) => typeof value === "number" ? value.toLocaleString("en") : value,
  percent: (value) => `${(100 * value).toFixed(1)} %`,
  ms: (value) => value >= 10000 ? `${(value / 1000).toFixed(0)} s` : value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(value < 10 ? 1 : 0)} ms`,
  rate: (value) => value.toFixed(value < 10 ? 2 : 0),
  time: (value) => new Date(value).toLocaleTimeString("en-GB"),
};
const shown = (value, kind) => value === null || value === "" ? "–" : FORMS[kind](value);

function table(given, extra = null) {
  if (!given.rows.length) return make("p", { class: "note" }, given.empty);
  const head = make("tr", {}, ...given.columns.map((column) => make("th", { scope: "col", class: kindClass(column) }, column.name)));
  if (extra) head.append(make("th", { scope: "col" }, extra.name));
  const body = given.rows.map((row) => {
    const cells = row.map((cell, at) => {
      const column = given.columns[at];
      return make(at ? "td" : "th", { class: kindClass(column), ...(at ? {} : { scope: "row" }) }, shown(cell, column.kind));
    });
    if (extra) cells.push(make("td", {}, extra.cell(row)));
    return make("tr", {}, ...cells);
  });
  return make("table", { "aria-label": given.title }, make("thead", {}, head), make("tbody", {}, ...body));
}
const kindClass = (column) => ["text", "time"].includes(column.kind) ? "" : "number";

function interval([, , , right, low, high]) {
  const svg = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  };
  const words = right === null ? "no labels yet" : `${shown(low, "percent")} to ${shown(high, "percent")}`;
  const drawn = svg("svg", { viewBox: "0 0 100 10", class: "interval", role: "img", "aria-label": words, preserveAspectRatio: "none" });
  drawn.append(svg("line", { x1: 0, x2: 100, y1: 5, y2: 5, class: "rail" }));
  if (right !== null) {
    drawn.append(svg("line", { x1: 100 * low, x2: 100 * high, y1: 5, y2: 5, class: "range" }));
    drawn.append(svg("circle", { cx: 100 * right, cy: 5, r: 3 }));
  }
  return drawn;
}

// The curves: one plot, which is made again only if the set of curves changes.
let plot = null;
let plotted = "";
const COLORS = { light: ["#0b5cad", "#8a8f96", "#a1260d", "#1d7a3a", "#7a4bb5"], dark: ["#7ab8f5", "#8b939c", "#ff9c85", "#7fd69a", "#c9a8f5"] };
const isDark = matchMedia("(prefers-color-scheme: dark)");

function drawCurve(state) {
  const curves = state.curves.filter((curve) => curve.seconds.length);
  const data = curves.length ? uPlot.join(curves.map((curve) => [curve.seconds, curve.values])) : [[]];
  const key = JSON.stringify([curves.map((curve) => curve.name), isDark.matches]);
  if (key !== plotted) {
    plotted = key;
    if (plot) plot.destroy();
    plot = curves.length ? new uPlot(optionsOf(curves), data, element("curve")) : null;
  } else if (plot) {
    plot.swaps = state.swaps;
    plot.setData(data);
  }
  if (plot) plot.swaps = state.swaps;
  const last = curves.map((curve) => `${curve.name}: ${shown(lastOf(curve.values), "percent")}`).join("; ");
  element("curve-text").textContent = last ? `${last}. A tick on the time axis shows when another version became stable.` : "No answer has been labelled yet.";
}
const lastOf = (values) => [...values].reverse().find((value) => value !== null) ?? null;

function optionsOf(curves) {
  const style = getComputedStyle(document.documentElement);
  const soft = style.getPropertyValue("--soft").trim();
  const line = style.getPropertyValue("--line").trim();
  const colors = COLORS[isDark.matches ? "dark" : "light"];
  const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { stroke: line } };
  return {
    ...sizeOf(),
    scales: { y: { range: [0, 1] } },
    axes: [axis, { ...axis, values: (_, values) => values.map((value) => `${Math.round(100 * value)} %`), size: 56 }],
    series: [
      { value: (_, second) => second === null ? "–" : new Date(1000 * second).toLocaleTimeString("en-GB") },
      ...curves.map((curve, at) => ({
        label: curve.name, stroke: colors[at % colors.length], width: at ? 1.25 : 2.25, spanGaps: true,
        value: (_, value) => value === null || value === undefined ? "–" : shown(value, "percent"),
      })),
    ],
    hooks: { draw: [drawSwaps] },
  };
}
function drawSwaps(drawn) {
  const context = drawn.ctx;
  context.save();
  context.strokeStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  for (const [second] of drawn.swaps ?? []) {
    const x = Math.round(drawn.valToPos(second, "x", true));
    if (x < drawn.bbox.left || x > drawn.bbox.left + drawn.bbox.width) continue;
    context.beginPath();
    const bottom = drawn.bbox.top + drawn.bbox.height;
    context.moveTo(x, bottom - 8 * devicePixelRatio);
    context.lineTo(x, bottom);
    context.stroke();
  }
  context.restore();
}
const sizeOf = () => ({ width: Math.max(240, element("curve").clientWidth), height: 260 });
addEventListener("resize", () => plot && plot.setSize(sizeOf()));
isDark.addEventListener("change", () => { plotted = ""; if (newest) show(newest); });

let newest = null;
function show(state) {
  newest = state;
  element("title").textContent = state.title;
  document.title = state.title;
  if (state.problem) {
    tell("status", state.problem, true);
    return;
  }
  const paused = state.is_paused ? "; the rollout is paused" : "";
  const alarms = state.tables.alarms.rows.length;
  tell("status", `live${paused}${alarms ? `; ${alarms} ${alarms > 1 ? "alarms are" : "alarm is"} on` : ""}`, alarms > 0);
  for (const id of ["headline", "figures"]) {
    element(id).replaceChildren(...state[id].map((figure) =>
      make("div", {}, make("dt", {}, figure.name), make("dd", {}, shown(figure.value, figure.kind)))));
  }
  drawCurve(state);
  for (const [id, given] of Object.entries(state.tables)) {
    const target = element(id);
    if (target) target.replaceChildren(table(given, id === "arms" ? { name: "95 % sure", cell: interval } : null));
  }
  if (!state.tables.matrix) element("matrix").replaceChildren(make("p", { class: "note" }, "Only a demo knows this: it has test items."));
}
// A screen reader reads a live region aloud when it changes, so it is changed only if the words differ.
function tell(id, words, isProblem = false) {
  if (element(id).textContent !== words) element(id).textContent = words;
  element(id).classList.toggle("problem", isProblem);
}

const token = () => element("token").value;
const headers = () => ({ "content-type": "application/json", ...(token() ? { authorization: `Bearer ${token()}` } : {}) });

async function call(path, body) {
  const reply = await fetch(path, body === undefined ? { headers: headers() } : { method: "POST", headers: headers(), body: JSON.stringify(body) });
  const read = await reply.json().catch(() => ({ error: `${reply.status} ${reply.statusText}` }));
  if (!reply.ok) throw new Error(read.error);
  return read.result;
}

async function follow() {
  for (;;) {
    try {
      const reply = await fetch("api/stream", { headers: headers() });
      if (!reply.ok) throw new Error((await reply.json()).error);
      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        if (events.length) show(JSON.parse(events.at(-1).slice("data: ".length)));
      }
      throw new Error("the service has ended the stream");
    } catch (error) {
      tell("status", `not connected: ${error.message}`, true);
    }
    await new Promise((resolve) => setTimeout(resolve, 2000));
  }
}

// The picture and the sound of an event are shown from the files of this browser: the service keeps none of their bytes.
const MEDIA = { image: "image/png", audio: "audio/wav" };
const fileOf = (name) => element(name).files[0];
for (const name of Object.keys(MEDIA)) {
  element(name).addEventListener("change", () => {
    const player = element(`${name}-shown`);
    if (player.src) URL.revokeObjectURL(player.src);
    player.hidden = !fileOf(name);
    if (fileOf(name)) player.src = URL.createObjectURL(fileOf(name));
    else player.removeAttribute("src");
    element("text").required = !Object.keys(MEDIA).some(fileOf);
  });
}
const base64 = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(",")[1] ?? "");
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(file);
});
const partsOf = () => Promise.all(Object.keys(MEDIA).filter(fileOf).map(
  async (name) => ({ type: name, media_type: MEDIA[name], data: await base64(fileOf(name)) })));

let asked = null;
element("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt("answer", async () => {
    asked = await call("api/ask", { text: element("text").value, parts: await partsOf() });
    if (asked.error) throw new Error(asked.error.message);
    element("teach").hidden = !asked.can_be_labelled;
    element("classes").replaceChildren(...asked.scores.map(([name]) => make("option", { value: name })));
    if (asked.value !== undefined) return `${asked.value} (version ${asked.weights_version}, ${asked.arm})`;
    const named = asked.labels ? asked.labels.join(", ") || "none of the labels" : asked.label;
    if (named === null) return "The model knows no class yet: label this event.";
    return `${named}, ${shown(asked.score, "percent")} sure (version ${asked.weights_version}, ${asked.arm})`;
  });
});
element("teach").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt("answer", async () => {
    const label = element("label").value;
    await call("api/label", { event_id: asked.event_id, label, source: asked.source, key: asked.key, receipt: asked.receipt });
    element("teach").hidden = true;
    element("label").value = "";
    element("text").focus();
    return `Labelled as ${label}: sent to the learner.`;
  });
});

element("unlock").addEventListener("submit", (event) => event.preventDefault());
element("promote").addEventListener("submit", (event) => {
  event.preventDefault();
  const version = element("version").value;
  change("promote", version ? { version: Number(version) } : {});
});
for (const button of document.querySelectorAll("[data-action]")) {
  button.addEventListener("click", () => change(button.dataset.action, {}));
}
const change = (action, body) => attempt("outcome", () => call(`api/admin/${action}`, body));

async function attempt(id, act) {
  tell(id, "…");
  try {
    tell(id, await act());
  } catch (error) {
    tell(id, error.message, true);
  }
}

const BROWSED = {
  quarantine: { title: "Labels in quarantine, the newest first", act: "release", verb: "Release", id: "id",
    columns: [["time_ms", "time"], ["reason"], ["source"], ["label"], ["answered"], ["text"], ["event_id"], ["id"]] },
  deadletters: { title: "Messages that could not be read or answered, the newest first", act: "replay", verb: "Replay", id: "id",
    columns: [["time_ms", "time"], ["reason"], ["detail"], ["payload"], ["id"]] },
  actions: { title: "Changes, the newest first",
    columns: [["time_ms", "time"], ["client"], ["action"], ["outcome"], ["detail"]] },
};
async function browse(name) {
  const wanted = BROWSED[name];
  element("browsed").replaceChildren(make("p", { role: "status" }, "…"));
  try {
    const found = await call(`api/${name}`);
    const rows = found.map((each) => wanted.columns.map(([field]) => each[field] ?? ""));
    const columns = wanted.columns.map(([field, kind = "text"]) => ({ name: field.replace("_ms", "").replace("_", " "), kind }));
    const extra = wanted.act ? { name: wanted.verb, cell: (row) => actButton(wanted, found[rows.indexOf(row)][wanted.id], name) } : null;
    element("browsed").replaceChildren(table({ title: wanted.title, columns, rows, empty: "This list is empty." }, extra));
  } catch (error) {
    element("browsed").replaceChildren(make("p", { class: "problem", role: "status" }, error.message));
  }
}
function actButton(wanted, id, name) {
  const button = make("button", { type: "button", "aria-label": `${wanted.verb} ${id}` }, wanted.verb);
  button.addEventListener("click", async () => {
    button.disabled = true;
    await change(wanted.act, { ids: [id] });
    await browse(name);
  });
  return button;
}
for (const button of document.querySelectorAll("[data-browse]")) {
  button.addEventListener("click", () => browse(button.dataset.browse));
}

follow();
