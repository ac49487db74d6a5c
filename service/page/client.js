// A small client for the Centrifuge client protocol in JSON: connect, subscribe, publish, presence, history, recovery.
// It knows nothing of the page. What it sees is told as events; nothing is kept but positions and open commands.

const COMMAND_TIMEOUT_MS = 5_000;
const HANDSHAKE_TIMEOUT_MS = 10_000;
const PING_LATENESS_MS = 10_000;
const BACKOFF_MIN_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

// The service closes an expired connection some seconds late; renewing early leaves room for throttled timers.
const REFRESH_AT_SHARE_OF_TTL = 0.8;

/** Codes below 100 are made here and never travel. */
export const Local = Object.freeze({
  CLOSED_BY_USER: 0,
  TRANSPORT_CLOSED: 1,
  NO_PING: 2,
  SUBSCRIBE_TIMEOUT: 3,
  UNSUBSCRIBE_FAILED: 4,
  BAD_PROTOCOL: 5,
  NO_TOKEN: 6,
  COMMAND_TIMEOUT: 7,
  NOT_CONNECTED: 8,
});

const MESSAGE_TOO_BIG = 1009;

/** An error that the service answered, or that stands for an answer that never came. */
export class CommandError extends Error {
  constructor(code, message, temporary = false) {
    super(message);
    this.name = "CommandError";
    this.code = code;
    this.temporary = temporary;
  }
}

/** Whether a closed connection may come back, from its close code alone. */
export function isTerminal(code) {
  return code === MESSAGE_TOO_BIG || (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
}

/** Milliseconds before the next attempt, counted from 0. Full jitter, so that a crowd does not return as one. */
export function backoffDelay(attempt, random = Math.random) {
  const reach = BACKOFF_MIN_MS * 2 ** Math.min(attempt, 16);
  return Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS + random() * reach);
}

const isWorthRetrying = (error) => error.code < 100 || error.temporary || error.code === 109;

class Channel {
  constructor(name, isServerSide) {
    this.name = name;
    this.isServerSide = isServerSide;
    this.state = "subscribing";
    this.forgetPosition();
    this.attempt = 0;
    this.retryTimer = 0;
  }

  forgetPosition() {
    this.isRecoverable = false;
    this.offset = 0;
    this.epoch = "";
  }

  recoveryRequest() {
    return this.isRecoverable ? { recover: true, offset: this.offset, epoch: this.epoch } : {};
  }
}

/**
 * One connection that comes back by itself.
 *
 * Events, each with these in its `detail`:
 *
 * - `state` {state, code, reason, retryInMs}: disconnected, connecting or connected; `retryInMs` while it waits
 * - `connected` {client, version, ping}: `ping` in seconds, 0 for none
 * - `subscribed` {channel, isServerSide, isRecoverable, offset, wasRecovering, recovered, missedCount}
 * - `unsubscribed` {channel, code, reason}: for good; what comes back by itself is not told
 * - `publication` {channel, publication, isRecovered}
 * - `join`, `leave` {channel, info}
 * - `message` {data}: to the connection, on no channel
 * - `tokenneeded` {}: the token runs out soon, and `getToken` had no other
 * - `frame` {direction, text}: one command or reply, without tokens
 */
export class Client extends EventTarget {
  #url;
  #getToken;
  #state = "disconnected";
  #socket = null;
  #turn = 0; // grows with every attempt; what belongs to an older one is ignored
  #attempt = 0;
  #isTokenExpired = false;
  #lastCommandId = 0;
  #pending = new Map();
  #channels = new Map();
  #pingTimer = 0;
  #pingWaitMs = 0;
  #sendsPong = false;
  #retryTimer = 0;
  #handshakeTimer = 0;
  #refreshTimer = 0;

  /**
   * @param {string} url ws: or wss:
   * @param {(ask: {isExpired: boolean}) => Promise<string | null>} getToken asked before every attempt;
   *   "" connects without a token, null ends the attempts until a person acts.
   */
  constructor(url, getToken) {
    super();
    this.#url = url;
    this.#getToken = getToken;
  }

  get state() {
    return this.#state;
  }

  connect() {
    if (this.#state !== "disconnected") return;
    this.#attempt = 0;
    this.#isTokenExpired = false;
    this.#become("connecting", { code: Local.CLOSED_BY_USER, reason: "connect called" });
    this.#open();
  }

  disconnect() {
    this.#end(Local.CLOSED_BY_USER, "disconnect called");
  }

  /** Lose the line as a broken network would, and stay away for `holdMs` so that there is something to recover. */
  drop(holdMs) {
    if (this.#state === "connected") this.#retry(Local.TRANSPORT_CLOSED, "dropped on purpose", holdMs);
  }

  /** Do not wait for the rest of the backoff. */
  retryNow() {
    if (this.#state !== "connecting" || this.#socket !== null || this.#retryTimer === 0) return;
    this.#clearTimers();
    this.#become("connecting", { code: Local.CLOSED_BY_USER, reason: "retrying" });
    this.#open();
  }

  subscribe(name) {
    const known = this.#channels.get(name);
    if (known && (known.isServerSide || known.state !== "unsubscribed")) return;
    const channel = new Channel(name, false);
    this.#channels.set(name, channel);
    if (this.#state === "connected") this.#write([this.#subscribeCommand(channel)]);
  }

  unsubscribe(name) {
    const channel = this.#channels.get(name);
    if (!channel || channel.isServerSide) return;
    this.#forget(channel);
    this.#tell("unsubscribed", { channel: name, code: Local.CLOSED_BY_USER, reason: "left" });
    if (this.#state !== "connected") return;
    // Without the answer it is unknown whether publications still come: a new connection settles it.
    const failed = () => this.#retry(Local.UNSUBSCRIBE_FAILED, "unsubscribe failed");
    this.#write([this.#command("unsubscribe", { channel: name }, () => {}, failed)]);
  }

  publish(channel, data) {
    return this.#ask("publish", { channel, data });
  }

  presence(channel) {
    return this.#ask("presence", { channel });
  }

  history(channel, limit) {
    return this.#ask("history", { channel, limit, reverse: true });
  }

  /** Offer a newer token to a live connection; resolves when the service took it. */
  async refresh(token) {
    const result = await this.#ask("refresh", { token });
    this.#scheduleRefresh(result);
  }

  // --- one attempt, from token to greeting ---

  async #open() {
    const turn = ++this.#turn;
    let token;
    try {
      token = await this.#getToken({ isExpired: this.#isTokenExpired });
    } catch (error) {
      if (turn === this.#turn) this.#retry(Local.TRANSPORT_CLOSED, error.message);
      return;
    }
    if (turn !== this.#turn) return;
    if (token === null) {
      this.#end(Local.NO_TOKEN, this.#isTokenExpired ? "token expired" : "no token");
      return;
    }
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    const isCurrent = () => socket === this.#socket;
    this.#handshakeTimer = setTimeout(() => {
      if (isCurrent()) this.#retry(Local.TRANSPORT_CLOSED, "no answer to the connect command");
    }, HANDSHAKE_TIMEOUT_MS);
    socket.onopen = () => isCurrent() && this.#greet(token);
    socket.onmessage = (event) => isCurrent() && this.#receive(event.data);
    socket.onclose = (event) => isCurrent() && this.#closed(event.code, event.reason);
  }

  #greet(token) {
    const request = { name: "page" };
    if (token) request.token = token;
    const serverSide = {};
    const wanted = [];
    for (const channel of this.#channels.values()) {
      if (!channel.isServerSide) wanted.push(channel);
      else if (channel.isRecoverable) serverSide[channel.name] = channel.recoveryRequest();
    }
    if (Object.keys(serverSide).length > 0) request.subs = serverSide;
    const greeting = this.#command(
      "connect",
      request,
      (result) => this.#greeted(result),
      (error) => this.#refused(error),
    );
    // One frame for all: the subscriptions do not wait for the answer to the greeting.
    this.#write([greeting, ...wanted.map((channel) => this.#subscribeCommand(channel))]);
  }

  #greeted(result) {
    clearTimeout(this.#handshakeTimer);
    this.#attempt = 0;
    this.#isTokenExpired = false;
    this.#sendsPong = result.pong === true;
    this.#pingWaitMs = result.ping ? result.ping * 1000 + PING_LATENESS_MS : 0;
    this.#armPingTimer();
    this.#scheduleRefresh(result);
    this.#become("connected", { code: Local.CLOSED_BY_USER, reason: "connected" });
    this.#tell("connected", { client: result.client, version: result.version ?? "", ping: result.ping ?? 0 });
    this.#takeServerSide(result.subs ?? {});
  }

  #refused(error) {
    if (error.code === 109) this.#isTokenExpired = true;
    if (isWorthRetrying(error)) this.#retry(error.code, error.message);
    else this.#end(error.code, error.message);
  }

  #closed(code, reason) {
    if (code === 3005) this.#isTokenExpired = true;
    if (isTerminal(code)) this.#end(code, reason || "closed by the service");
    else this.#retry(code, reason || "connection lost");
  }

  #retry(code, reason, delayMs = backoffDelay(this.#attempt)) {
    this.#attempt += 1;
    this.#letGo(code, reason);
    this.#become("connecting", { code, reason, retryInMs: delayMs });
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = 0;
      this.#become("connecting", { code, reason });
      this.#open();
    }, delayMs);
  }

  #end(code, reason) {
    if (this.#state === "disconnected") return;
    this.#letGo(code, reason);
    this.#become("disconnected", { code, reason });
  }

  #letGo(code, reason) {
    this.#turn += 1;
    this.#clearTimers();
    const socket = this.#socket;
    this.#socket = null;
    if (socket && socket.readyState < WebSocket.CLOSING) socket.close();
    const orphans = [...this.#pending.values()];
    this.#pending.clear();
    for (const channel of this.#channels.values()) {
      clearTimeout(channel.retryTimer);
      if (channel.state === "subscribed") channel.state = "subscribing";
    }
    for (const orphan of orphans) {
      clearTimeout(orphan.timer);
      orphan.onLost?.(new CommandError(Local.NOT_CONNECTED, `${reason} (${code})`, true));
    }
  }

  #clearTimers() {
    clearTimeout(this.#pingTimer);
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#handshakeTimer);
    clearTimeout(this.#refreshTimer);
    this.#retryTimer = 0;
  }

  #become(state, detail) {
    this.#state = state;
    this.#tell("state", { state, ...detail });
  }

  // --- frames ---

  #receive(text) {
    this.#armPingTimer();
    if (typeof text !== "string") {
      this.#end(Local.BAD_PROTOCOL, "the service sent a binary frame");
      return;
    }
    const socket = this.#socket;
    for (const line of text.split("\n")) {
      if (line.trim() === "") continue;
      let reply;
      try {
        reply = JSON.parse(line);
      } catch {
        this.#end(Local.BAD_PROTOCOL, "the service sent something that is not JSON");
        return;
      }
      this.#tell("frame", { direction: "in", text: line });
      this.#dispatch(reply);
      if (socket !== this.#socket) return; // the line just read ended this connection
    }
  }

  #dispatch(reply) {
    if (reply.id) this.#settle(reply);
    else if (reply.push) this.#take(reply.push);
    else if (Object.keys(reply).length === 0 && this.#sendsPong) this.#write([{}]);
  }

  #settle(reply) {
    const command = this.#pending.get(reply.id);
    if (!command) return;
    this.#pending.delete(reply.id);
    clearTimeout(command.timer);
    if (reply.error) {
      command.onError(new CommandError(reply.error.code, reply.error.message, reply.error.temporary === true));
    } else {
      command.onResult(reply[command.method] ?? {});
    }
  }

  #take(push) {
    const name = push.channel ?? "";
    const channel = this.#channels.get(name);
    if (push.pub) this.#takePublication(channel, push.pub, false);
    else if (push.join) this.#tell("join", { channel: name, info: push.join.info ?? {} });
    else if (push.leave) this.#tell("leave", { channel: name, info: push.leave.info ?? {} });
    else if (push.message) this.#tell("message", { data: push.message.data });
    else if (push.unsubscribe) this.#takeUnsubscribe(channel, push.unsubscribe);
    else if (push.subscribe) this.#takeServerSide({ [name]: push.subscribe }, false);
    else if (push.disconnect) this.#closed(push.disconnect.code, push.disconnect.reason);
    else if (push.refresh) this.#scheduleRefresh(push.refresh);
  }

  #takePublication(channel, publication, isRecovered) {
    if (!channel) return;
    if (publication.offset) {
      if (publication.offset <= channel.offset) return; // seen before
      channel.offset = publication.offset;
    }
    this.#tell("publication", { channel: channel.name, publication, isRecovered });
  }

  #takeUnsubscribe(channel, { code, reason }) {
    if (!channel) return;
    if (code >= 2500 && !channel.isServerSide) {
      if (code === 2502) channel.forgetPosition();
      channel.state = "subscribing";
      this.#resubscribeLater(channel);
      return;
    }
    this.#forget(channel);
    this.#tell("unsubscribed", { channel: channel.name, code, reason });
  }

  #takeServerSide(results, isComplete = true) {
    if (isComplete) {
      for (const channel of this.#channels.values()) {
        if (!channel.isServerSide || channel.name in results) continue;
        this.#forget(channel);
        this.#tell("unsubscribed", { channel: channel.name, code: 2000, reason: "no longer subscribed" });
      }
    }
    for (const [name, result] of Object.entries(results)) {
      const channel = this.#channels.get(name) ?? new Channel(name, true);
      channel.isServerSide = true;
      this.#channels.set(name, channel);
      this.#subscribed(channel, result);
    }
  }

  // --- subscriptions ---

  #subscribeCommand(channel) {
    channel.state = "subscribing";
    const request = {
      channel: channel.name,
      recoverable: true,
      positioned: true,
      join_leave: true,
      ...channel.recoveryRequest(),
    };
    return this.#command(
      "subscribe",
      request,
      (result) => this.#subscribed(channel, result),
      (error) => this.#subscribeFailed(channel, error),
    );
  }

  #subscribed(channel, result) {
    if (this.#channels.get(channel.name) !== channel) return; // left while the answer was on its way
    channel.state = "subscribed";
    channel.attempt = 0;
    const wasRecovering = result.was_recovering === true;
    const recovered = result.recovered === true;
    const publications = result.publications ?? [];
    channel.isRecoverable = result.recoverable === true;
    channel.epoch = result.epoch ?? "";
    const top = result.offset ?? 0;
    // A recovered subscription starts where this client stopped; its publications bring it to the top.
    if (!recovered) channel.offset = top;
    this.#tell("subscribed", {
      channel: channel.name,
      isServerSide: channel.isServerSide,
      isRecoverable: channel.isRecoverable,
      offset: top,
      wasRecovering,
      recovered,
      missedCount: recovered ? publications.length : 0,
    });
    for (const publication of publications) this.#takePublication(channel, publication, true);
    channel.offset = Math.max(channel.offset, top);
  }

  #subscribeFailed(channel, error) {
    if (this.#channels.get(channel.name) !== channel) return;
    if (error.code === Local.COMMAND_TIMEOUT) {
      this.#retry(Local.SUBSCRIBE_TIMEOUT, "no answer to the subscribe command");
    } else if (error.code === 112) {
      channel.forgetPosition();
      this.#resubscribeLater(channel);
    } else if (isWorthRetrying(error)) {
      this.#resubscribeLater(channel);
    } else {
      this.#forget(channel);
      this.#tell("unsubscribed", { channel: channel.name, code: error.code, reason: error.message });
    }
  }

  #resubscribeLater(channel) {
    const delayMs = backoffDelay(channel.attempt);
    channel.attempt += 1;
    clearTimeout(channel.retryTimer);
    channel.retryTimer = setTimeout(() => {
      if (this.#state === "connected") this.#write([this.#subscribeCommand(channel)]);
    }, delayMs);
  }

  #forget(channel) {
    clearTimeout(channel.retryTimer);
    channel.state = "unsubscribed";
    this.#channels.delete(channel.name);
  }

  // --- commands ---

  #ask(method, request) {
    return new Promise((resolve, reject) => {
      if (this.#state !== "connected") reject(new CommandError(Local.NOT_CONNECTED, "not connected", true));
      else this.#write([this.#command(method, request, resolve, reject, reject)]);
    });
  }

  /** `onLost` is told when the connection ends before the answer; without it nobody waits for that. */
  #command(method, request, onResult, onError, onLost = null) {
    this.#lastCommandId += 1;
    const id = this.#lastCommandId;
    const timer = setTimeout(() => {
      this.#pending.delete(id);
      onError(new CommandError(Local.COMMAND_TIMEOUT, "the service did not answer in time", true));
    }, COMMAND_TIMEOUT_MS);
    this.#pending.set(id, { method, onResult, onError, onLost, timer });
    return { id, [method]: request };
  }

  #write(commands) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    const lines = commands.map((command) => JSON.stringify(command));
    this.#socket.send(lines.join("\n"));
    for (const [index, command] of commands.entries()) {
      this.#tell("frame", { direction: "out", text: withoutToken(command) ?? lines[index] });
    }
  }

  #armPingTimer() {
    if (this.#pingWaitMs === 0) return;
    clearTimeout(this.#pingTimer);
    this.#pingTimer = setTimeout(() => this.#retry(Local.NO_PING, "no ping from the service"), this.#pingWaitMs);
  }

  #scheduleRefresh({ expires, ttl }) {
    clearTimeout(this.#refreshTimer);
    if (!expires || !ttl) return;
    const waitMs = Math.min(LONGEST_TIMER_MS, ttl * 1000 * REFRESH_AT_SHARE_OF_TTL);
    this.#refreshTimer = setTimeout(() => this.#renew(), waitMs);
  }

  async #renew() {
    const turn = this.#turn;
    try {
      const token = await this.#getToken({ isExpired: true });
      if (turn !== this.#turn) return;
      if (token === null) this.#tell("tokenneeded", {});
      else await this.refresh(token);
    } catch {
      // The connection goes on until it expires; then it is closed with 3005 and comes back with a new token.
      if (turn === this.#turn) this.#refreshTimer = setTimeout(() => this.#renew(), 5_000 + Math.random() * 5_000);
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** The command as text with its token blanked, or undefined when it carries none. */
function withoutToken(command) {
  const method = ["connect", "refresh"].find((name) => command[name]?.token);
  if (!method) return undefined;
  return JSON.stringify({ ...command, [method]: { ...command[method], token: "…" } });
}
