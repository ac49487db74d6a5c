// The page: binds the client to what a person sees. Payloads and names reach the document as text only.

import { Client, Local } from "./client.js";
import { byId, element, hueOf, problem, setText } from "./elements.js";
import { Feed } from "./feed.js";
import { noteArrival, poll } from "./figures.js";
import { channelNameProblem, ofClose, ofError, ofUnsubscribe } from "./words.js";

const DROP_MS = 5_000;
const EARLIER_SHOWN = 20;
const HELD_LIMIT = 200;
const PEOPLE_KEPT = 2_000;
const PEOPLE_SHOWN = 60;
const NAME_SHOWN = 40;
const WIRE_ROWS = 100;
const WIRE_TEXT_SHOWN = 1_000;

const at = (path) => new URL(path, document.baseURI);

const socketUrl = at("connection/websocket");
socketUrl.protocol = socketUrl.protocol === "https:" ? "wss:" : "ws:";

// --- who is at this tab ---

const isDemo = document.body.dataset.tokenSource === "demo";
const me = { name: "", user: "", token: "", client: "", clients: new Set() };

function inventedName() {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  const mood = pick(["Quiet", "Early", "Salt", "Grey", "Bright", "Low", "Spring", "Late", "Still", "North"]);
  const kind = pick(["Heron", "Curlew", "Otter", "Tern", "Gannet", "Plover", "Eider", "Avocet", "Dunlin", "Seal"]);
  return `${mood} ${kind}`;
}

async function getToken({ isExpired }) {
  if (!isDemo) return isExpired ? null : me.token;
  const response = await fetch(at("demo/token"), {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name: me.name, ...(me.user ? { user: me.user } : {}) }),
    cache: "no-store",
    signal: AbortSignal.timeout(5_000),
  });
  if (!response.ok) throw new Error(`the service gives no token (HTTP ${response.status})`);
  const answer = await response.json();
  me.user = answer.user;
  return answer.token;
}

const client = new Client(socketUrl.href, getToken);
const feed = new Feed(byId("feed"), byId("feed-rows"), byId("newer"));

// --- connection ---

const line = { lostAt: 0, isDropped: false, retryAt: 0, ticker: 0, needsToken: false };

byId("connect-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  problem("connection-problem", "");
  if (isDemo) {
    me.name = byId("name").value.trim() || byId("name").placeholder;
  } else {
    me.token = byId("token").value.trim();
    byId("token").value = "";
  }
  if (client.state === "connected") {
    await renewToken();
    return;
  }
  if (channelNameProblem(byId("channel").value.trim()) === "") join(byId("channel").value.trim());
  client.connect();
});

async function renewToken() {
  try {
    await client.refresh(me.token);
    line.needsToken = false;
    showConnectionForm();
  } catch (error) {
    problem("connection-problem", ofError(error));
  }
}

byId("disconnect").addEventListener("click", () => client.disconnect());
byId("retry-now").addEventListener("click", () => client.retryNow());
globalThis.addEventListener("online", () => client.retryNow());

byId("drop").addEventListener("click", () => {
  line.isDropped = true;
  client.drop(DROP_MS);
});

client.addEventListener("state", ({ detail: { state, code, reason, retryInMs } }) => {
  const wasConnected = document.body.dataset.state === "connected";
  document.body.dataset.state = state;
  if (wasConnected) {
    line.lostAt = performance.now();
    lineLost(state, code, reason);
  }
  if (state === "disconnected") {
    line.lostAt = 0;
    problem("connection-problem", code === Local.CLOSED_BY_USER ? "" : ofClose(code, reason));
    if (code === Local.CLOSED_BY_USER && !wasConnected) feed.notice("Disconnected");
    me.token = "";
  } else if (state === "connecting" && code !== Local.CLOSED_BY_USER && !line.isDropped) {
    problem("connection-problem", ofClose(code, reason));
  }
  if (state === "connected") {
    line.isDropped = false;
    line.needsToken = false;
    problem("connection-problem", "");
  }
  showStatus(state, retryInMs);
  showConnectionForm();
  showChannelForm();
  showPublishForm();
  if (state !== "connected") setPeople(null);
});

function lineLost(state, code, reason) {
  setPublishPending([]);
  if (state === "disconnected") {
    if (code === Local.CLOSED_BY_USER) feed.notice("Disconnected");
    else feed.notice(ofClose(code, reason), "bad");
  } else {
    feed.notice(line.isDropped ? "Line dropped on purpose" : ofClose(code, reason), "warn");
  }
}

client.addEventListener("connected", ({ detail }) => {
  // An announcement in force is repeated at every connect; one that is not belongs to the process before.
  byId("announcement").hidden = true;
  me.client = detail.client;
  me.clients.add(detail.client);
  byId("fact-client").textContent = detail.client.slice(0, 8);
  byId("fact-client").title = detail.client;
  byId("fact-user").textContent = isDemo ? me.name : "the token's user";
  byId("fact-ping").textContent = detail.ping ? `every ${detail.ping} s` : "none";
  showConnectionForm();
});

client.addEventListener("tokenneeded", () => {
  line.needsToken = true;
  problem("connection-problem", "The token expires soon. Paste a new one to stay connected.");
  showConnectionForm();
});

function showStatus(state, retryInMs) {
  clearInterval(line.ticker);
  const isWaiting = retryInMs !== undefined;
  byId("retry-now").hidden = !isWaiting;
  byId("countdown").textContent = "";
  const words = { disconnected: "Not connected", connecting: "Connecting…", connected: "Connected" };
  byId("status").textContent = isWaiting ? "Reconnecting" : words[state];
  if (!isWaiting) return;
  line.retryAt = performance.now() + retryInMs;
  const tick = () => {
    byId("countdown").textContent = ` in ${Math.max(1, Math.ceil((line.retryAt - performance.now()) / 1000))} s`;
  };
  tick();
  line.ticker = setInterval(tick, 250);
}

function showConnectionForm() {
  const isOff = client.state === "disconnected";
  byId("connect-form").hidden = !isOff && !line.needsToken;
  byId("connect").textContent = line.needsToken ? "Renew" : "Connect";
  byId("name-field").hidden = !isDemo;
  byId("token-field").hidden = isDemo;
  byId("session").hidden = isOff || me.client === "";
  byId("drop").disabled = client.state !== "connected";
}

// --- the channel in view ---

const room = { name: "", state: "none", held: null, top: 0 };

byId("channel-form").addEventListener("submit", (event) => {
  event.preventDefault();
  join(byId("channel").value.trim());
});

byId("channel").addEventListener("input", () => {
  problem("channel-problem", "");
  showChannelForm();
});

byId("leave").addEventListener("click", () => {
  client.unsubscribe(room.name);
  byId("channel").focus();
});

function join(name) {
  const complaint = channelNameProblem(name);
  problem("channel-problem", complaint);
  if (complaint || (name === room.name && room.state !== "none")) return;
  if (room.state !== "none") client.unsubscribe(room.name);
  if (name !== room.name) feed.clear();
  Object.assign(room, { name, state: "joining", held: null, top: 0 });
  client.subscribe(name);
  showChannelForm();
}

client.addEventListener("subscribed", ({ detail }) => {
  if (detail.channel !== room.name) return;
  const isFirst = room.state === "joining" && !detail.wasRecovering;
  room.state = "joined";
  room.top = detail.offset;
  problem("channel-problem", "");
  if (isFirst) {
    line.lostAt = 0;
    showEarlier(detail);
  } else {
    feed.notice(wordsOfReturn(detail), detail.recovered ? "good" : "warn");
    line.lostAt = 0;
  }
  showChannelForm();
  showPublishForm();
  readPresence(detail.channel);
});

function wordsOfReturn({ wasRecovering, recovered, missedCount, offset }) {
  const away = line.lostAt ? ` after ${((performance.now() - line.lostAt) / 1000).toFixed(1)} s` : "";
  if (recovered && missedCount === 0) return `Back${away}. Nothing was missed.`;
  if (recovered) return `Back${away}. ${missedCount} missed ${missedCount === 1 ? "message" : "messages"} recovered:`;
  if (wasRecovering) {
    const next = offset ? `going on from #${offset}` : "the channel begins anew";
    return `Back${away}. What was missed could not be recovered; ${next}.`;
  }
  return `Back${away}. This channel keeps no history, so what came meanwhile is not known.`;
}

client.addEventListener("unsubscribed", ({ detail: { channel, code, reason } }) => {
  if (channel !== room.name) return;
  Object.assign(room, { state: "none", held: null });
  setPeople(null);
  if (code === Local.CLOSED_BY_USER) feed.notice(`You left ${channel}`);
  else problem("channel-problem", `${channel}: ${ofUnsubscribe(code, reason)}${hintFor(code, channel)}`);
  showChannelForm();
  showPublishForm();
});

function hintFor(code, channel) {
  const isOutside = isDemo && code === 103 && !channel.startsWith("demo:");
  return isOutside ? " The token of this page opens channels that begin with demo:" : "";
}

function showChannelForm() {
  const isIn = room.state !== "none";
  const isSame = byId("channel").value.trim() === room.name;
  const isOff = client.state === "disconnected";
  byId("leave").hidden = !isIn || isOff;
  byId("join").hidden = isIn && isSame && !isOff;
  byId("join").textContent = isIn && !isSame ? "Switch" : "Join";
  byId("join").disabled = isOff;
  const invitation = isOff ? "Connect, and messages arrive here." : "Nothing has been said here yet.";
  setText("feed-empty", `Slack water. ${invitation}`);
}

/** What was said before: asked for once, and shown before anything that arrives meanwhile. */
async function showEarlier({ channel, offset }) {
  room.held = [];
  let publications = [];
  try {
    if (offset > 0) publications = (await client.history(channel, EARLIER_SHOWN)).publications ?? [];
  } catch {
    // A channel without history, or one whose history is not for this user, simply starts empty.
  }
  if (room.name !== channel || room.held === null) return;
  for (const publication of publications.reverse()) {
    if (publication.offset <= offset) showPublication(channel, publication, "earlier");
  }
  feed.notice(`You joined ${channel}`, "good");
  const held = room.held;
  room.held = null;
  for (const publication of held) showPublication(channel, publication, "");
}

client.addEventListener("publication", ({ detail: { channel, publication, isRecovered } }) => {
  noteArrival();
  acknowledge(publication);
  if (channel === room.name && room.held !== null) {
    room.held.push(publication);
    if (room.held.length > HELD_LIMIT) room.held.shift();
  } else {
    showPublication(channel, publication, isRecovered ? "recovered" : "");
  }
});

function showPublication(channel, { data, info, offset, time }, mark) {
  feed.message({
    author: authorOf(info),
    data,
    offset,
    at: time ?? (mark === "" ? Date.now() : null),
    channel: channel === room.name ? "" : channel,
    isOwn: Boolean(isMe(info)),
    mark,
  });
}

const isMe = (info) => info && (me.clients.has(info.client) || (me.user !== "" && info.user === me.user));

function authorOf(info) {
  if (!info) return { identity: "", name: "the server" };
  return { identity: info.user || info.client || "", name: nameOf(info) };
}

function nameOf(info) {
  const chosen = info.conn_info?.name;
  const name = typeof chosen === "string" && chosen.trim() !== "" ? chosen.trim() : info.user || "anonymous";
  return name.length > NAME_SHOWN ? `${name.slice(0, NAME_SHOWN)}…` : name;
}

// --- publishing ---

let sent = []; // moments of publications whose return has not been seen, oldest first
const setPublishPending = (moments) => {
  sent = moments;
};

byId("publish-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = byId("message").value;
  if (text.trim() === "" || room.state !== "joined" || client.state !== "connected") return;
  problem("publish-problem", "");
  let data = { text };
  if (byId("as-json").checked) {
    try {
      data = JSON.parse(text);
    } catch (error) {
      problem("publish-problem", `This is not JSON: ${error.message}`);
      return;
    }
  }
  byId("message").value = "";
  fitComposer();
  const moment = performance.now();
  setPublishPending([...sent.slice(-50), moment]);
  try {
    await client.publish(room.name, data);
  } catch (error) {
    setPublishPending(sent.filter((other) => other !== moment));
    problem("publish-problem", ofError(error));
    if (byId("message").value === "") byId("message").value = text;
    fitComposer();
  }
});

function acknowledge({ info }) {
  if (!info || info.client !== me.client || sent.length === 0) return;
  const took = performance.now() - sent[0];
  setPublishPending(sent.slice(1));
  byId("delivery").textContent = `delivered in ${took < 10 ? took.toFixed(1) : Math.round(took)} ms`;
}

byId("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("publish-form").requestSubmit();
});
byId("message").addEventListener("input", fitComposer);
byId("as-json").addEventListener("change", () => {
  byId("message").classList.toggle("is-code", byId("as-json").checked);
  byId("message").placeholder = byId("as-json").checked ? '{"text": "hello"}' : "Write a message";
  problem("publish-problem", "");
});

function fitComposer() {
  const box = byId("message");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + 2}px`;
}

function showPublishForm() {
  const isReady = client.state === "connected" && room.state === "joined";
  byId("message").disabled = !isReady;
  byId("publish").disabled = !isReady;
}

// --- presence ---

let people = null; // client id → info, or null when nobody can be seen
let isPeopleDrawn = true;

function setPeople(next) {
  people = next;
  if (!isPeopleDrawn) return;
  isPeopleDrawn = false;
  setTimeout(drawPeople, 50);
}

async function readPresence(channel) {
  try {
    const { presence = {} } = await client.presence(channel);
    if (channel === room.name) setPeople(new Map(Object.entries(presence).slice(0, PEOPLE_KEPT)));
  } catch (error) {
    setPeople(null);
    if (error.code !== Local.NOT_CONNECTED) byId("people-empty").textContent = ofError(error);
  }
}

client.addEventListener("join", ({ detail: { channel, info } }) => {
  if (channel !== room.name) return;
  if (people && people.size < PEOPLE_KEPT) setPeople(people.set(info.client, info));
  if (info.client !== me.client) feed.presence(nameOf(info), "joined");
});

client.addEventListener("leave", ({ detail: { channel, info } }) => {
  if (channel !== room.name) return;
  if (people?.delete(info.client)) setPeople(people);
  if (!me.clients.has(info.client)) feed.presence(nameOf(info), "left");
});

function drawPeople() {
  isPeopleDrawn = true;
  const groups = new Map();
  const mine = people?.get(me.client);
  if (mine && !isDemo) byId("fact-user").textContent = mine.user || "anonymous";
  for (const info of people?.values() ?? []) {
    const identity = info.user || info.client;
    const group = groups.get(identity) ?? { identity, name: nameOf(info), count: 0, isMe: false };
    group.count += 1;
    group.isMe ||= Boolean(isMe(info));
    groups.set(identity, group);
  }
  const inOrder = [...groups.values()].sort((a, b) => b.isMe - a.isMe || a.name.localeCompare(b.name));
  const rows = inOrder.slice(0, PEOPLE_SHOWN).map((group) => {
    const row = element("li", "person");
    row.style.setProperty("--hue", String(hueOf(group.identity)));
    row.append(element("span", "person-dot"), element("bdi", "person-name", group.name));
    if (group.isMe) row.append(element("span", "tag", "you"));
    if (group.count > 1) row.append(element("span", "person-count", `${group.count} connections`));
    return row;
  });
  if (inOrder.length > PEOPLE_SHOWN) rows.push(element("li", "hint", `and ${inOrder.length - PEOPLE_SHOWN} more`));
  byId("people").replaceChildren(...rows);
  byId("people-count").textContent = people ? String(groups.size) : "";
  byId("people-empty").hidden = people !== null;
  if (people !== null) return;
  const isAway = room.state === "none" || client.state === "disconnected";
  if (isAway) setText("people-empty", "Nobody to see before you join.");
  else if (client.state !== "connected") setText("people-empty", "Out of sight until the line is back.");
}

// --- announcements ---

let dismissed = ""; // what a person does not want to read again at the next connect

client.addEventListener("message", ({ detail: { data } }) => {
  if (data !== null && typeof data === "object" && data.type === "maintenance") announce(data);
  else feed.notice(`The service says: ${typeof data === "string" ? data : JSON.stringify(data)}`.slice(0, 500));
});

function announce(data) {
  if (data.state === "cancelled") {
    if (!byId("announcement").hidden) feed.notice("The maintenance is called off", "good");
    byId("announcement").hidden = true;
    dismissed = "";
    return;
  }
  const text = wordsOfMaintenance(data);
  if (text === dismissed) return;
  setText("announcement-text", text);
  byId("announcement").hidden = false;
}

function wordsOfMaintenance(data) {
  if (data.state === "draining") {
    const within = data.seconds >= 1 ? ` within ${Math.ceil(data.seconds)} s` : "";
    return `Connections are being closed${within}, to come back on the next process. Nothing needs to be done.`;
  }
  const said = [data.message, data.text, data.reason].find((words) => typeof words === "string" && words !== "");
  const words = said?.slice(0, 1_000) ?? "The service will be restarted.";
  const parts = [words, wordsOfStart(data.starts_at ?? data.at), wordsOfDuration(data.duration_seconds)];
  return parts.filter(Boolean).join(" · ");
}

const moment = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const momentOfAnotherDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** @param start RFC 3339, or seconds since the epoch. */
function wordsOfStart(start) {
  const time = typeof start === "number" ? new Date(start * 1000) : new Date(typeof start === "string" ? start : NaN);
  if (Number.isNaN(time.getTime())) return "";
  const isToday = time.toDateString() === new Date().toDateString();
  return `from ${(isToday ? moment : momentOfAnotherDay).format(time)}`;
}

function wordsOfDuration(seconds) {
  if (typeof seconds !== "number" || seconds <= 0) return "";
  return seconds < 120 ? `for about ${Math.ceil(seconds)} s` : `for about ${Math.round(seconds / 60)} min`;
}

byId("announcement-close").addEventListener("click", () => {
  dismissed = byId("announcement-text").textContent;
  byId("announcement").hidden = true;
});

// --- the wire ---

const frames = [];
let areFramesDrawn = true;

client.addEventListener("frame", ({ detail: { direction, text } }) => {
  const shown = text.length > WIRE_TEXT_SHOWN ? `${text.slice(0, WIRE_TEXT_SHOWN)}…` : text;
  frames.push({ direction, text: shown === "{}" ? `{}  ${direction === "in" ? "ping" : "pong"}` : shown });
  if (frames.length > WIRE_ROWS) frames.shift();
  if (areFramesDrawn && byId("wire").open) {
    areFramesDrawn = false;
    setTimeout(drawFrames, 100);
  }
});

function drawFrames() {
  areFramesDrawn = true;
  const list = byId("wire-rows");
  list.replaceChildren(
    ...frames.map(({ direction, text }) => {
      const row = element("li", `frame frame-${direction}`);
      row.append(element("span", "frame-arrow", direction === "in" ? "←" : "→"), element("code", "", text));
      return row;
    }),
  );
  list.scrollTop = list.scrollHeight;
}

byId("wire").addEventListener("toggle", drawFrames);

// --- start ---

byId("name").placeholder = inventedName();
showConnectionForm();
showChannelForm();
drawPeople();
poll();
