"use strict";
// Asks the read-only API every second and draws what it says. Text is only ever set as text, so
// a name that looks like markup stays a name.

const SHAPES = { fine: "●", degraded: "▲", no_writes: "■", stale: "■" };
const STATES = { primary: "good", serving: "good", out: "warn", unknown: "warn", down: "bad", quarantined: "bad" };
const SEVERITIES = { info: "", warning: "warn", error: "bad" };

const number = (value) => (value === null || value === undefined ? "–" : value.toLocaleString("en"));
const bytes = (value) => {
  if (value === null) return "–";
  for (const [unit, size] of [["GB", 2 ** 30], ["MB", 2 ** 20], ["kB", 2 ** 10]]) {
    if (value >= size) return `${(value / size).toFixed(1)} ${unit}`;
  }
  return `${value} B`;
};
const time = (text) => (text ? new Date(text).toLocaleTimeString() : "–");

// Each column: title, how a row is shown, class of the cell.
const TABLES = {
  nodes: [
    ["node", (r) => r.node],
    ["address", (r) => `${r.host}:${r.port}`],
    ["role", (r) => r.role],
    ["state", (r) => r.detail, (r) => STATES[r.state]],
    ["since", (r) => time(r.since)],
    ["lag ms", (r) => number(r.lag_ms), () => "number"],
    ["lag", (r) => bytes(r.lag_bytes), () => "number"],
    ["timeline", (r) => number(r.timeline), () => "number"],
    ["LSN", (r) => r.lsn ?? "–"],
    ["statements in 1 min", (r) => number(r.statements_1m), () => "number"],
    ["connections", (r) => number(r.conns), () => "number"],
  ],
  routing: [
    ["node", (r) => r.node ?? "none"],
    ["role", (r) => r.role ?? "–"],
    ["reason", (r) => r.reason],
    ["share", (r) => `${(r.share * 100).toFixed(1)} %`, () => "number"],
    ["1 min", (r) => number(r.count_1m), () => "number"],
    ["total", (r) => number(r.count_total), () => "number"],
    ["meaning", (r) => r.meaning, () => "long"],
  ],
  failovers: [
    ["at", (r) => time(r.started_at)],
    ["kind", (r) => r.kind],
    ["result", (r) => r.result],
    ["ms", (r) => number(r.total_ms), () => "number"],
    ["steps", (r) => r.phases.map((p) => `${p.name} ${p.at_ms}`).join(" · "), () => "long"],
    ["what happened", (r) => r.sentence, () => "long"],
  ],
  events: [
    ["at", (r) => time(r.at)],
    ["severity", (r) => r.severity, (r) => SEVERITIES[r.severity]],
    ["node", (r) => r.node ?? ""],
    ["what happened", (r) => r.sentence, () => "long"],
  ],
  pools: [
    ["database", (r) => r.database],
    ["user", (r) => r.user],
    ["node", (r) => r.node],
    ["in use", (r) => `${r.sv_active} of ${r.pool_size}`, () => "number"],
    ["idle", (r) => number(r.sv_idle), () => "number"],
    ["waiting", (r) => number(r.cl_waiting), (r) => (r.cl_waiting > 0 ? "number bad" : "number")],
    ["oldest wait s", (r) => number(r.maxwait), () => "number"],
  ],
};

const ORDER = {
  routing: (rows) => rows.sort((a, b) => b.count_1m - a.count_1m || b.count_total - a.count_total),
  failovers: (rows) => rows.reverse(),
  events: (rows) => rows.reverse().slice(0, 30),
};

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function draw(name, rows) {
  const place = document.getElementById(name);
  rows = ORDER[name] ? ORDER[name](rows) : rows;
  if (rows.length === 0) {
    place.replaceChildren(element("p", "none yet", "none"));
    return;
  }
  const table = document.createElement("table");
  const head = table.createTHead().insertRow();
  for (const [title, , style] of TABLES[name]) {
    const cell = element("th", title, style?.(rows[0])?.includes("number") ? "number" : "");
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    for (const [, show, style] of TABLES[name]) line.append(element("td", show(row), style?.(row)));
  }
  place.replaceChildren(table);
}

function headline(state, sentence, facts) {
  document.body.dataset.state = state;
  document.title = `${SHAPES[state]} pgherd`;
  document.getElementById("sentence").textContent = `${SHAPES[state]} ${sentence}`;
  if (facts) document.getElementById("facts").textContent = facts;
}

async function ask(what) {
  const answer = await fetch(`/api/v1/${what}`, { signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(`${what}: ${answer.status}`);
  return answer.json();
}

let last = null;

async function refresh() {
  try {
    const names = Object.keys(TABLES);
    const [summary, ...tables] = await Promise.all(["summary", ...names].map(ask));
    const held = summary.clients_held ? `, ${summary.clients_held} waiting for a primary` : "";
    const draining = summary.draining ? " · draining" : "";
    headline(
      summary.state,
      summary.sentence,
      `${summary.cluster} · ${summary.clients} of ${summary.clients_max} clients${held} · version ${summary.version}${draining}`,
    );
    names.forEach((name, place) => draw(name, tables[place][name]));
    last = new Date();
  } catch (error) {
    headline("stale", `No answer since ${last ? last.toLocaleTimeString() : "the page was opened"}: ${error.message}`);
  }
  setTimeout(refresh, 1000);
}

refresh();
