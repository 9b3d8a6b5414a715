"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const NS = "http://www.w3.org/2000/svg";
  const MARGIN = { left: 52, right: 14, top: 8, bottom: 22 };
  const state = { axis: "step", scale: "linear", from: 0, to: Math.max(data.seconds, 1e-3), cursor: null };

  // ---- numbers for people ----
  const trim = (x, digits = 3) => String(Number(x.toPrecision(digits)));
  // Zeros after the point would take more room than there is beside an axis
  const narrow = (x) => (x !== 0 && Math.abs(x) < 1e-3 ? Number(x.toPrecision(3)).toExponential() : trim(x));
  const count = (n) => Number(n).toLocaleString("en-US");
  function tickCount(n, step) {
    if (step >= 1e6 || (n >= 1e6 && step >= 1e5)) return `${trim(n / 1e6, 4)}M`;
    return step >= 1e3 && n >= 1e4 ? `${trim(n / 1e3, 6)}k` : count(n);
  }
  function span(s) {
    if (s == null) return "–";
    if (s === 0) return "0 s";
    if (s < 0.1) return `${Math.max(1, Math.round(s * 1000))} ms`;
    if (s < 10) return `${s.toFixed(2)} s`;
    if (s < 60) return `${Math.round(s)} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min ${String(Math.round(s) % 60).padStart(2, "0")} s`;
    if (s < 172800) return `${Math.floor(s / 3600)} h ${String(Math.floor(s / 60) % 60).padStart(2, "0")} min`;
    return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
  }
  function bytes(n) {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let i = 0;
    while (n >= 1000 && i < 4) { n /= 1000; i += 1; }
    return `${trim(n)} ${units[i]}`;
  }
  function tickTime(s, step) {
    if (s === 0) return "0";
    if (step >= 86400) return `${trim(s / 86400)} d`;
    if (step >= 3600) return `${trim(s / 3600)} h`;
    if (step >= 60) return s >= 36000 && s % 3600 === 0 ? `${s / 3600} h` : `${trim(s / 60, 5)} min`;
    return s >= 600 ? `${Math.floor(s / 60)}:${String(trim(s % 60)).padStart(2, "0")}` : `${trim(s, 4)} s`;
  }
  const TIME_STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];
  function niceStep(rough) {
    const power = 10 ** Math.floor(Math.log10(rough));
    return [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough) || rough;
  }
  function ticks(from, to, most, time) {
    const rough = Math.max((to - from) / most, 1e-12);
    let step = time ? TIME_STEPS.find((s) => s >= rough) || Math.ceil(rough / 86400) * 86400 : niceStep(rough);
    const found = [];
    for (let i = Math.ceil(from / step - 1e-9); i * step <= to + step * 1e-9; i += 1) found.push(i * step + 0); // never -0
    return { step, found };
  }

  // ---- drawing ----
  function make(name, attributes = {}, parent = null, text = null) {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text != null) element.textContent = text;
    if (parent) parent.appendChild(element);
    return element;
  }
  function fresh(host, height) {
    const width = Math.max(host.clientWidth, 240);
    host.textContent = "";
    return make("svg", { viewBox: `0 0 ${width} ${height}`, width, height }, host);
  }
  function xScale(width) {
    const domain = state.axis === "t" ? [state.from, state.to] : stepDomain();
    const size = width - MARGIN.left - MARGIN.right;
    return { domain, at: (x) => MARGIN.left + ((x - domain[0]) / (domain[1] - domain[0] || 1)) * size };
  }
  function stepDomain() {
    const steps = data.series.map((p) => p.step);
    if (data.start_step != null) steps.push(data.start_step);
    const low = Math.min(...steps), high = Math.max(...steps);
    return high > low ? [low, high] : [low, low + 1];
  }
  function drawX(svg, x, width, height, time) {
    const most = Math.max(2, Math.floor((width - MARGIN.left) / (width < 500 ? 58 : 84)));
    const { step, found } = ticks(x.domain[0], x.domain[1], most, time);
    for (const value of found) {
      const at = x.at(value);
      make("line", { class: "grid", x1: at, x2: at, y1: MARGIN.top, y2: height - MARGIN.bottom }, svg);
      const edge = at > width - 40 ? "end" : "middle";
      make("text", { x: edge === "end" ? Math.min(at + 14, width - 2) : at, y: height - 6, "text-anchor": edge }, svg, time ? tickTime(value, step) : tickCount(value, step));
    }
  }
  function yScale(values, log, height, fromZero) {
    let low = Math.min(...values), high = Math.max(...values);
    if (fromZero) low = 0;
    if (low === high) { const pad = Math.abs(low) * 0.1 || 1; low -= fromZero ? 0 : pad; high += pad; }
    const f = log ? Math.log10 : (v) => v;
    const pad = (f(high) - f(low)) * 0.06;
    const bottom = fromZero ? 0 : f(low) - pad, top = f(high) + pad;
    const inner = height - MARGIN.top - MARGIN.bottom;
    return { at: (v) => MARGIN.top + (1 - (f(v) - bottom) / (top - bottom)) * inner, bottom, top };
  }
  function drawY(svg, y, log, width) {
    const { found } = ticks(y.bottom, y.top, 4, false);
    const labels = found.map((value) => narrow(log ? 10 ** value : value));
    found.forEach((value, i) => {
      const at = y.at(log ? 10 ** value : value);
      make("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }, svg);
      make("text", { x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" }, svg, labels[i]);
    });
  }
  function median(values) {
    const sorted = [...values].sort((a, b) => a - b);
    return sorted.length ? sorted[Math.floor(sorted.length / 2)] : 0;
  }
  const gaps = data.series.slice(1).map((p, i) => p.t - data.series[i].t);
  const longGap = Math.max(60, 8 * median(gaps));
  const drawable = (point, key, log) => point[key] != null && (!log || point[key] > 0);
  function path(points, x, y, key, log) {
    let text = "", last = null;
    for (const point of points) {
      // A line over a loss of NaN would tell of numbers that nobody saw
      if (!drawable(point, key, log)) { last = null; continue; }
      const broken = !last || point.step < last.step || point.t - last.t > longGap;
      text += `${broken ? "M" : "L"}${x.at(point[state.axis]).toFixed(1)} ${y.at(point[key]).toFixed(1)}`;
      if (broken) text += "h0"; // what stands alone is a dot
      last = point;
    }
    return text;
  }
  function visible() {
    return state.axis === "t" ? data.series.filter((p) => p.t >= state.from && p.t <= state.to) : data.series;
  }
  const LABEL_PX = 96;
  function marks(svg, x, height, labelAt) {
    let labelled = -LABEL_PX;
    for (const incident of data.incidents) {
      const begin = state.axis === "t" ? incident.begin : incident.step;
      const end = state.axis === "t" ? incident.end : incident.step;
      if (begin == null || end < x.domain[0] || begin > x.domain[1]) continue;
      const left = Math.max(x.at(begin), MARGIN.left), width = x.at(end) - left;
      if (width > 2) make("rect", { class: "incident-band", x: left, y: MARGIN.top, width, height: height - MARGIN.top - MARGIN.bottom }, svg);
      else make("line", { class: "incident-line", x1: left, x2: left, y1: MARGIN.top, y2: height - MARGIN.bottom }, svg);
      // Two labels that would lie on each other tell less than one
      if (left - labelled < LABEL_PX) continue;
      labelled = left;
      const inside = left + LABEL_PX < MARGIN.left + (x.at(x.domain[1]) - MARGIN.left);
      const text = `${incident.kind}${incident.rank != null ? `, rank ${incident.rank}` : ""}`;
      make("text", { class: "incident-label", x: inside ? left + 4 : left - 4, y: labelAt, "text-anchor": inside ? "start" : "end" }, svg, text);
    }
  }
  const plots = [];
  function plot(id, key, colour, height) {
    const host = $(id), log = key === "loss" && state.scale === "log";
    const all = visible(), points = all.filter((p) => drawable(p, key, log));
    if (!points.length) {
      host.textContent = key === "loss" ? "The journal holds no loss: name tensors with --watch." : "The journal holds no progress yet.";
      return;
    }
    const svg = fresh(host, height), width = host.clientWidth;
    const x = xScale(width), y = yScale(points.map((p) => p[key]), log, height, key === "rate");
    drawX(svg, x, width, height, state.axis === "t");
    drawY(svg, y, log, width);
    // Where the curve seldom is: a loss falls from the upper left, a rate begins at 0
    marks(svg, x, height, key === "loss" ? MARGIN.top + 10 : height - MARGIN.bottom - 6);
    const smooth = key === "loss" && points.length > 8;
    make("path", { class: smooth ? "curve raw" : "curve", d: path(all, x, y, key, log), style: `stroke: var(${colour})` }, svg);
    if (smooth) make("path", { class: "curve smooth", d: path(all, x, y, "smooth", log), style: `stroke: var(${colour})` }, svg);
    if (points.length === 1) make("circle", { class: "dot", r: 4, cx: x.at(points[0][state.axis]), cy: y.at(points[0][key]), style: `stroke: var(${colour})` }, svg);
    const cursor = make("g", { visibility: "hidden" }, svg);
    const line = make("line", { class: "cursor", y1: MARGIN.top, y2: height - MARGIN.bottom }, cursor);
    const dot = make("circle", { class: "dot", r: 4.5, style: `stroke: var(${colour})` }, cursor);
    plots.push({ host, show(point) {
      cursor.setAttribute("visibility", point && point[key] != null ? "visible" : "hidden");
      if (!point || point[key] == null) return;
      const at = x.at(point[state.axis]);
      line.setAttribute("x1", at); line.setAttribute("x2", at); dot.setAttribute("cx", at); dot.setAttribute("cy", y.at(point[key]));
    } });
    const nearest = (event) => {
      const box = svg.getBoundingClientRect(), wanted = event.clientX - box.left;
      read(points.reduce((best, p) => (Math.abs(x.at(p[state.axis]) - wanted) < Math.abs(x.at(best[state.axis]) - wanted) ? p : best)));
    };
    svg.addEventListener("pointermove", nearest);
    svg.addEventListener("pointerdown", nearest);
  }
  function read(point) {
    state.cursor = point;
    for (const item of plots) item.show(point);
    if (!point) return;
    const parts = [`step ${count(point.step)}`, `after ${span(point.t)}`];
    if (point.loss != null) parts.push(`loss ${trim(point.loss, 6)}`);
    if (point.smooth != null) parts.push(`smoothed ${trim(point.smooth, 4)}`);
    if (point.rate != null) parts.push(`${trim(point.rate)} steps/s`);
    if (point.world != null) parts.push(`${point.world} ${point.world === 1 ? "worker" : "workers"}`);
    $("readout").textContent = parts.join(" · ");
  }
  function arrows(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const points = visible();
    if (!move || !points.length) return;
    event.preventDefault();
    const now = points.indexOf(state.cursor);
    read(points[Math.min(points.length - 1, Math.max(0, now < 0 ? 0 : now + move))]);
  }

  // ---- lanes ----
  const rowsOfRanks = [...new Set(data.lanes.map((s) => s.rank))].sort((a, b) => a - b);
  const holder = new Map();
  for (const s of [...data.lanes].sort((a, b) => a.begin - b.begin)) {
    s.replaced = holder.has(s.rank) && holder.get(s.rank) !== s.worker;
    holder.set(s.rank, s.worker);
  }
  function rows() {
    const found = [{ label: "run", items: data.spans.map(spanItem) }, { label: "driver", items: data.lives.map(lifeItem) }];
    for (const rank of rowsOfRanks) found.push({ label: `rank ${rank}`, items: data.lanes.filter((s) => s.rank === rank).map(stretchItem) });
    if (data.stagings.length) found.push({ label: "fetch", items: data.stagings.map(fetchItem) });
    if (data.saves.length) found.push({ label: "saves", items: data.saves.map(saveItem) });
    return found;
  }
  const DOING = { useful: "training", start: "starting", staging: "fetching the checkpoint", save_stall: "standing still for a save", recovery: "recovering", waiting: "waiting for workers" };
  const spanItem = (s) => ({ begin: s.begin_s, end: s.end_s, style: `span ${s.kind}`, tip: `${DOING[s.kind] || s.kind} for ${span(s.end_s - s.begin_s)}, from ${span(s.begin_s)} on` });
  const lifeItem = (l) => ({ begin: l.begin, end: l.end, style: "life", text: `${l.attempt}`, tip: `Driver, attempt ${l.attempt}${l.holder ? `: ${l.holder}` : ""}; ${span(l.end - l.begin)}${l.how ? `, ${l.how}` : ""}` });
  function stretchItem(s) {
    const end = s.end == null ? data.seconds : s.end;
    const where = [s.worker, s.pid ? `pid ${s.pid}` : "", s.node ? `on ${s.node}` : ""].filter(Boolean).join(", ");
    return { begin: s.begin, end, replaced: s.replaced, style: `stretch${s.generation % 2}`, text: `g${s.generation}`, tip: `Rank ${s.rank} in generation ${s.generation}: ${where}; ${span(end - s.begin)}${s.ended ? `, until: ${s.ended}` : ""}` };
  }
  const fetchItem = (f) => ({ begin: f.begin, end: f.end, style: "fetch", tip: `${f.node || "A node"} fetched the checkpoint in ${span(f.end - f.begin)}` });
  function saveItem(s) {
    const style = { committed: "committed", "under way": "pending" }[s.state] || "nosave";
    const cost = s.stall_s != null ? `, training stood still for ${span(s.stall_s)}` : "";
    return { begin: s.begin, end: s.end, style, tip: `Save of step ${count(s.step)}: ${s.state} after ${span(s.end - s.begin)}${s.size_bytes ? `, ${bytes(s.size_bytes)}` : ""}${cost}${s.reason ? `; ${s.reason}` : ""}` };
  }
  const incidentTip = (i) => `${i.kind}${i.rank != null ? `, rank ${i.rank}` : ""}${i.node ? ` on ${i.node}` : ""}${i.reason ? ` (${i.reason})` : ""}: ${i.recovered_s != null ? `first useful step after ${span(i.recovered_s)}` : "not recovered"}, ${i.steps_redone} steps redone${i.action ? `; ${i.action}` : ""}`;
  function drawLanes() {
    const host = $("lanes"), found = rows();
    const bar = rowsOfRanks.length > 32 ? 7 : 18, gap = rowsOfRanks.length > 32 ? 2 : 6, top = 20;
    const height = top + found.length * (bar + gap) + MARGIN.bottom + 6;
    const svg = fresh(host, height), width = host.clientWidth;
    const size = width - MARGIN.left - MARGIN.right;
    const at = (t) => MARGIN.left + ((Math.min(Math.max(t, state.from), state.to) - state.from) / (state.to - state.from)) * size;
    drawX(svg, { domain: [state.from, state.to], at }, width, height, true);
    found.forEach((row, index) => drawRow(svg, row, top + index * (bar + gap), bar, at, size));
    for (const incident of data.incidents) {
      if (incident.end < state.from || incident.begin > state.to) continue;
      const left = at(incident.begin), wide = Math.max(at(incident.end) - left, 1.5);
      const group = make("g", { "data-tip": incidentTip(incident) }, svg);
      make("rect", { class: "incident-band", x: left, y: 12, width: wide, height: height - MARGIN.bottom - 12 }, group);
      make("path", { class: "flag", d: `M${left - 5} 2h10l-5 10z` }, group);
      make("rect", { class: "hit", x: left - 9, y: 0, width: 18, height: 16 }, group);
    }
  }
  function drawRow(svg, row, y, bar, at, size) {
    make("rect", { class: "lane", x: MARGIN.left, y, width: size, height: bar, rx: 3 }, svg);
    if (bar > 10) make("text", { x: MARGIN.left - 8, y: y + bar / 2 + 4, "text-anchor": "end" }, svg, row.label);
    for (const item of row.items) {
      if (item.end < state.from || item.begin > state.to) continue;
      const left = at(item.begin), width = Math.max(at(item.end) - left, item.style === "nosave" ? 4 : 2.5);
      make("rect", { class: item.style, x: left, y: item.style === "nosave" ? y + 2 : y, width, height: item.style === "nosave" ? bar - 4 : bar, rx: 2, "data-tip": item.tip }, svg);
      if (item.replaced) make("rect", { class: "replaced", x: left - 1, y: y - 2, width: 2.5, height: bar + 4 }, svg);
      if (item.text && width > 26 && bar > 10) make("text", { class: item.style === "stretch1" ? "in light" : "in", x: left + 6, y: y + bar / 2 + 4 }, svg, item.text);
    }
  }
  function tell(event) {
    const item = event.target.closest("[data-tip]");
    if (item) $("detail").textContent = item.getAttribute("data-tip");
  }

  // ---- putting it together ----
  function draw() {
    plots.length = 0;
    plot("loss", "loss", "--curve", 220);
    plot("rate", "rate", "--rate", 150);
    drawLanes();
    if (state.cursor) read(state.cursor);
  }
  function look(from, to) {
    state.from = Math.max(0, from);
    state.to = Math.max(Math.min(data.seconds, to), state.from + 0.05);
    $("whole").hidden = state.from === 0 && state.to >= data.seconds;
    draw();
  }
  function press(attribute, value) {
    for (const button of document.querySelectorAll(`[data-${attribute}]`)) button.setAttribute("aria-pressed", String(button.dataset[attribute] === value));
    state[attribute] = value;
    draw();
  }
  for (const button of document.querySelectorAll("[data-axis]")) button.addEventListener("click", () => press("axis", button.dataset.axis));
  for (const button of document.querySelectorAll("[data-scale]")) button.addEventListener("click", () => press("scale", button.dataset.scale));
  for (const row of document.querySelectorAll("tr[data-begin]")) {
    row.addEventListener("keydown", (event) => { if (event.key === "Enter") row.click(); });
    row.addEventListener("click", () => {
      const begin = Number(row.dataset.begin), end = Number(row.dataset.end), around = Math.max((end - begin) * 2, 1);
      press("axis", "t");
      look(begin - around, end + around);
      $("detail").textContent = row.dataset.told || "";
      $("timeline").scrollIntoView({ block: "nearest" });
    });
  }
  $("whole").addEventListener("click", () => look(0, data.seconds));
  $("lanes").addEventListener("pointerover", tell);
  $("lanes").addEventListener("pointerdown", tell);
  $("loss").addEventListener("keydown", arrows);
  $("rate").addEventListener("keydown", arrows);
  // On a phone the page is its numbers and charts; the tables open at a touch
  if (matchMedia("(max-width: 760px)").matches) {
    for (const section of document.querySelectorAll("details.fold")) section.open = false;
  }
  let drawnWidth = $("curves").clientWidth;
  new ResizeObserver(() => requestAnimationFrame(() => {
    if ($("curves").clientWidth === drawnWidth) return;
    drawnWidth = $("curves").clientWidth;
    draw();
  })).observe($("curves"));
  draw();
  document.documentElement.dataset.drawn = "yes";
})();
