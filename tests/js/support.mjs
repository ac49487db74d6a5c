// What the scenarios share: tokens, the server API, a bad network, and a client that writes down what it is told.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import net from "node:net";

import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const DEADLINE_MS = 20_000;

const { SERVICE_URL, ADMIN_URL, API_KEY, ADMIN_KEY, HMAC_SECRET } = process.env;

export const wsUrl = (port) => {
  const url = new URL(SERVICE_URL);
  return `ws://${url.hostname}:${port ?? url.port}/connection/websocket`;
};

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");

export function token(user, { channel, seconds = 3600, ...claims } = {}) {
  const payload = { sub: user, exp: Math.floor(Date.now() / 1000) + seconds, ...(channel && { channel }), ...claims };
  const text = `${base64url({ alg: "HS256", typ: "JWT" })}.${base64url(payload)}`;
  return `${text}.${createHmac("sha256", HMAC_SECRET).update(text).digest("base64url")}`;
}

export async function api(method, params = {}) {
  const response = await fetch(`${SERVICE_URL}/api/${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-API-Key": API_KEY },
    body: JSON.stringify(params),
  });
  const answer = await response.json();
  assert.ok(answer.result, JSON.stringify(answer));
  return answer.result;
}

export async function admin(verb, path, body) {
  return fetch(`${ADMIN_URL}/api/admin/${path}`, {
    method: verb,
    headers: { "Content-Type": "application/json", "X-Admin-Key": ADMIN_KEY },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

export async function figures() {
  const text = await (await fetch(`${ADMIN_URL}/metrics`)).text();
  const found = {};
  for (const [, name, value] of text.matchAll(/^slackwater_(\S+) (\S+)$/gm)) found[name] = Number(value);
  return found;
}

// Everything that somebody reported, and a way to wait for the next of a kind.
export class Events {
  constructor(source, names) {
    this.seen = [];
    this.taken = {};
    this.waiting = [];
    for (const name of names) {
      source.on(name, (context) => {
        this.seen.push([name, context]);
        for (const look of [...this.waiting]) look();
      });
    }
  }

  of(name) {
    return this.seen.filter(([kind]) => kind === name).map(([, context]) => context);
  }

  expect(name) {
    const index = (this.taken[name] = (this.taken[name] ?? -1) + 1);
    return new Promise((resolve, reject) => {
      const look = () => {
        const context = this.of(name)[index];
        if (context === undefined) return;
        clearTimeout(timer);
        this.waiting.splice(this.waiting.indexOf(look), 1);
        resolve(context);
      };
      const timer = setTimeout(
        () => reject(new Error(`no ${name} came; there was: ${JSON.stringify(this.seen)}`)),
        DEADLINE_MS,
      );
      this.waiting.push(look);
      look();
    });
  }
}

const CLIENT_EVENTS = [
  "connecting", "connected", "disconnected", "message", "error",
  "subscribing", "subscribed", "unsubscribed", "publication", "join", "leave",
];
const SUBSCRIPTION_EVENTS = ["subscribing", "subscribed", "unsubscribed", "publication", "join", "leave", "error"];

// A stock client; it is disconnected when its test ends.
export async function connect(t, options, { port, wait = true } = {}) {
  const client = new Centrifuge(wsUrl(port), { websocket: WebSocket, minReconnectDelay: 50, ...options });
  const events = new Events(client, CLIENT_EVENTS);
  t.after(() => client.disconnect());
  client.connect();
  await events.expect("connecting");
  if (wait) await events.expect("connected");
  return { client, events };
}

export function begin(client, channel, options = {}) {
  const subscription = client.newSubscription(channel, { minResubscribeDelay: 50, ...options });
  const events = new Events(subscription, SUBSCRIPTION_EVENTS);
  subscription.subscribe();
  return { subscription, events };
}

export async function subscribe(client, channel, options) {
  const made = begin(client, channel, options);
  made.context = await made.events.expect("subscribed");
  return made;
}

// A proxy that can cut what runs through it and let nobody in.
export async function badNetwork(t) {
  const sockets = new Set();
  const proxy = { isOpen: true };
  const upstreamPort = Number(new URL(SERVICE_URL).port);
  const server = net.createServer((socket) => {
    socket.on("error", () => {});
    if (!proxy.isOpen) {
      socket.resetAndDestroy();
      return;
    }
    const upstream = net.connect(upstreamPort, "127.0.0.1");
    upstream.on("error", () => {});
    for (const one of [socket, upstream]) {
      sockets.add(one);
      one.on("close", () => {
        sockets.delete(one);
        socket.destroy();
        upstream.destroy();
      });
    }
    socket.pipe(upstream).pipe(socket);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  proxy.port = server.address().port;
  proxy.cut = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  t.after(() => {
    proxy.isOpen = false;
    proxy.cut();
    server.close();
  });
  return proxy;
}

export async function until(condition, what) {
  const end = Date.now() + DEADLINE_MS;
  while (!(await condition())) assert.ok(Date.now() < end, `this did not come about: ${what}`);
}
