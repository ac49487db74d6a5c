// The live figures of the service: asked for every two seconds, drawn with the thresholds that the service reports.

import { Sparkline, Staff, Tide } from "./charts.js";
import { byId, element, setText } from "./elements.js";
import { ofPhase } from "./words.js";

const HEALTH_URL = new URL("api/health/websocket", document.baseURI);
const ANSWER_WITHIN_MS = 4_000;
const POLL_MS = 2_000;
const POLL_AFTER_FAILURE_MS = 5_000;
const SAMPLES_KEPT = 60; // two minutes
const BYTES_IN_A_MEGABYTE = 2 ** 20; // as the service itself counts

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const megabytes = (bytes) => `${whole.format(bytes / BYTES_IN_A_MEGABYTE)} MB`;
const counted = (count, format, what) => (typeof count === "number" ? `${format.format(count)} ${what}` : "");
const percent = (share) => `${tenths.format(share)} %`;

// `indicator` is the name under which the service reports a threshold; `limit` is the top of the staff.
const FIGURES = [
  {
    title: "Connections",
    read: (health) => health.connectedClients,
    show: whole.format,
    floor: 4,
    indicator: "connections",
    limit: (health, threshold) => health.limits?.maxConnections || threshold * 1.25,
    more: (health) => counted(health.authenticatedClients, whole, "authenticated"),
  },
  { title: "Rooms", read: (health) => health.activeRooms, show: whole.format, floor: 4 },
  {
    title: "Messages/s",
    read: (health) => health.messagesPerSecond,
    show: tenths.format,
    floor: 2,
    more: (health) => counted(health.deliveriesPerSecond, tenths, "delivered"),
  },
  {
    title: "Memory",
    read: (health) => health.memoryBytes,
    show: megabytes,
    floor: 50_000_000,
    indicator: "memory_bytes",
    limit: (_, threshold) => threshold * 1.25,
  },
  {
    title: "CPU",
    read: (health) => health.cpuPercent,
    show: percent,
    floor: 10,
    indicator: "cpu_percent",
    limit: () => 100,
  },
];

const drawings = FIGURES.map((figure) => {
  const box = element("div", "figure");
  const head = element("div", "figure-head");
  const value = element("span", "figure-value", "–");
  head.append(element("h3", "figure-title", figure.title), value);
  const drawing = element("div", "figure-drawing");
  const chart = element("div", "chart");
  drawing.append(chart);
  const note = element("p", "figure-note");
  box.append(head, drawing, note);
  byId("figure-list").append(box);
  let staff = null;
  if (figure.indicator) {
    const pole = element("div", "staff");
    drawing.prepend(pole);
    staff = new Staff(pole, figure.title);
  }
  const sparkline = new Sparkline(chart, { capacity: SAMPLES_KEPT, floor: figure.floor });
  return { ...figure, box, value, note, staff, sparkline };
});

const tide = new Tide(byId("tide"));
let arrivals = 0;
let pollTimer = 0;
let lastPollAt = performance.now();

/** A message reached this page: the water moves before the service has counted it. */
export function noteArrival() {
  arrivals += 1;
}

/** Ask the service, draw the answer, and go on doing so. */
export async function poll() {
  clearTimeout(pollTimer);
  let isAnswered = false;
  try {
    const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
    const response = await fetch(HEALTH_URL, { cache: "no-store", signal });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    showHealth(await response.json());
    isAnswered = true;
  } catch {
    showSilence();
  }
  // One timer at a time: a hidden tab does not ask, and looks again as soon as it is seen.
  clearTimeout(pollTimer);
  if (!document.hidden) pollTimer = setTimeout(poll, isAnswered ? POLL_MS : POLL_AFTER_FAILURE_MS);
}

function arrivalsPerSecond() {
  const now = performance.now();
  const rate = (arrivals * 1000) / Math.max(1, now - lastPollAt);
  arrivals = 0;
  lastPollAt = now;
  return rate;
}

function showHealth(health) {
  for (const drawing of drawings) showFigure(drawing, health);
  tide.rate = Math.max(health.messagesPerSecond ?? 0, arrivalsPerSecond());
  document.body.dataset.phase = health.phase ?? "";
  setText("phase", health.phase ? ofPhase(health.phase) : "answering");
  const facts = [health.uptime && `up ${health.uptime}`, health.instance && `instance ${health.instance.slice(0, 8)}`];
  setText("figures-foot", facts.filter(Boolean).join(" · "));
}

function showFigure({ read, show, more, indicator, limit, box, value, note, staff, sparkline }, health) {
  const now = read(health);
  const isKnown = typeof now === "number";
  const watched = health.indicators?.find(({ name }) => name === indicator);
  const scale = staff && watched ? { threshold: watched.threshold, limit: limit(health, watched.threshold) } : null;
  value.textContent = isKnown ? show(now) : "–";
  sparkline.push(isKnown ? now : null, scale);
  box.classList.toggle("is-exceeded", watched?.exceeded === true);
  const notes = [more?.(health)];
  if (isKnown && scale) {
    const watch = wordsOfThreshold(show(scale.threshold), watched.exceeded);
    staff.show(now, { ...scale, text: `${show(now)}, ${watch}` });
    notes.push(watch);
  }
  note.textContent = notes.filter(Boolean).join(" · ");
}

const wordsOfThreshold = (threshold, isExceeded) =>
  isExceeded ? `${threshold} reached: more than one instance should carry it` : `watch from ${threshold}`;

function showSilence() {
  for (const drawing of drawings) {
    drawing.value.textContent = "–";
    drawing.sparkline.push(null, null);
  }
  tide.rate = 0;
  document.body.dataset.phase = "";
  setText("phase", "no answer from the service");
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
