// The stock npm client against a running process; tests/clients/test_centrifuge_js.py starts both.

import assert from "node:assert/strict";
import { test } from "node:test";

import { admin, api, badNetwork, begin, connect, figures, subscribe, token, until } from "./support.mjs";

test("publication reaches every subscriber", async (t) => {
  const alice = await connect(t, { token: token("alice", { info: { name: "Alice" } }) });
  const bob = await connect(t, { token: token("bob") });
  const mine = await subscribe(alice.client, "chat:js-everyone");
  const theirs = await subscribe(bob.client, "chat:js-everyone");
  await mine.subscription.publish({ text: "hello" });
  for (const { events } of [mine, theirs]) {
    const context = await events.expect("publication");
    assert.deepEqual(context.data, { text: "hello" });
    assert.equal(context.offset, 1);
    assert.equal(context.info.user, "alice");
    assert.deepEqual(context.info.connInfo, { name: "Alice" });
  }
});

test("presence shows who is there", async (t) => {
  const alice = await connect(t, { token: token("alice") });
  const bob = await connect(t, { token: token("bob") });
  const mine = await subscribe(alice.client, "chat:js-here");
  await subscribe(bob.client, "chat:js-here");
  const users = Object.values((await mine.subscription.presence()).clients).map((info) => info.user);
  assert.deepEqual(users.sort(), ["alice", "bob"]);
  const stats = await mine.subscription.presenceStats();
  assert.deepEqual([stats.numClients, stats.numUsers], [2, 2]);
});

test("join and leave are pushed", async (t) => {
  const alice = await connect(t, { token: token("alice") });
  const mine = await subscribe(alice.client, "chat:js-door");
  assert.equal((await mine.events.expect("join")).info.user, "alice");
  const carol = await connect(t, { token: token("carol") });
  await subscribe(carol.client, "chat:js-door");
  assert.equal((await mine.events.expect("join")).info.user, "carol");
  carol.client.disconnect();
  assert.equal((await mine.events.expect("leave")).info.user, "carol");
});

test("history pages forward and back", async (t) => {
  const { client } = await connect(t, { token: token("alice") });
  const { subscription } = await subscribe(client, "chat:js-past");
  for (const number of [1, 2, 3, 4, 5]) await subscription.publish(number);
  const data = (result) => result.publications.map((publication) => publication.data);
  const top = await subscription.history({ limit: 0 });
  assert.deepEqual([data(top), top.offset], [[], 5]);
  assert.deepEqual(data(await subscription.history({ limit: 2 })), [1, 2]);
  assert.deepEqual(data(await subscription.history({ limit: -1, since: { offset: 2, epoch: top.epoch } })), [3, 4, 5]);
  assert.deepEqual(data(await subscription.history({ limit: 2, reverse: true })), [5, 4]);
  await assert.rejects(subscription.history({ limit: 1, since: { offset: 1, epoch: "another" } }), { code: 112 });
});

for (const [name, code, cut] of [
  ["reset", 1, async (proxy) => proxy.cut()],
  ["by the server", 3011, async () => api("disconnect", { user: "dora", disconnect: { code: 3011, reason: "force reconnect" } })],
]) {
  test(`missed publications are recovered after a cut: ${name}`, async (t) => {
    const proxy = await badNetwork(t);
    const channel = `chat:js-cut-${code}`;
    const { client, events } = await connect(t, { token: token("dora") }, { port: proxy.port });
    const made = await subscribe(client, channel);
    await api("publish", { channel, data: 0 });
    await made.events.expect("publication");
    proxy.isOpen = false;
    await cut(proxy);
    assert.equal((await events.expect("connecting")).code, code);
    for (const number of [1, 2, 3]) await api("publish", { channel, data: number });
    proxy.isOpen = true;
    const again = await made.events.expect("subscribed");
    assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
    for (const number of [1, 2, 3]) assert.equal((await made.events.expect("publication")).data, number);
    assert.deepEqual(made.events.of("publication").map((context) => context.offset), [1, 2, 3, 4]);
  });
}

test("connection token is refreshed in time", async (t) => {
  const name = 'commands_total{method="refresh"}';
  const before = (await figures())[name];
  let asked = 0;
  const getToken = async () => token("short", { seconds: 2, jti: String(++asked) });
  const { client, events } = await connect(t, { getToken });
  await until(async () => (await figures())[name] >= before + 2, "two refreshes");
  assert.equal(client.state, "connected");
  assert.equal(events.of("connected").length, 1);
  assert.ok(asked >= 3);
  assert.deepEqual(events.of("error"), []);
});

test("expired token makes the client fetch another", async (t) => {
  await connect(t, { token: token("late", { seconds: -10 }), getToken: async () => token("late") });
});

test("invalid token is the end", async (t) => {
  const { events } = await connect(t, { token: "not.a.token" }, { wait: false });
  const end = await events.expect("disconnected");
  assert.deepEqual([end.code, end.reason], [3500, "invalid token"]);
});

test("private channel needs its token and renews it", async (t) => {
  const name = 'commands_total{method="sub_refresh"}';
  const before = (await figures())[name];
  const { client } = await connect(t, { token: token("alice") });
  const refused = begin(client, "$chat:js-other");
  assert.equal((await refused.events.expect("unsubscribed")).code, 103);
  const getToken = async ({ channel }) => token("alice", { channel, seconds: 2, info: { seat: 4 } });
  const opened = await subscribe(client, "$chat:js-vip", { getToken });
  await until(async () => (await figures())[name] >= before + 2, "two refreshes");
  await opened.subscription.publish("in");
  assert.deepEqual((await opened.events.expect("publication")).info.chanInfo, { seat: 4 });
  assert.equal(opened.events.of("subscribed").length, 1);
});

test("user-limited channel opens to its users", async (t) => {
  const alice = await connect(t, { token: token("alice") });
  const bob = await connect(t, { token: token("bob") });
  await subscribe(alice.client, "chat:js-dialog#alice,carol");
  const refused = begin(bob.client, "chat:js-dialog#alice,carol");
  assert.equal((await refused.events.expect("unsubscribed")).code, 103);
});

test("token subscribes by the server and recovers", async (t) => {
  const proxy = await badNetwork(t);
  const channel = "chat:js-server-side";
  const { events } = await connect(
    t,
    { token: token("eve", { channels: [channel], subs: { "chat:js-two": { data: { hello: 1 } } } }) },
    { port: proxy.port },
  );
  const subscribed = {};
  for (let count = 0; count < 3; count++) {
    const context = await events.expect("subscribed");
    subscribed[context.channel] = context;
  }
  assert.deepEqual(Object.keys(subscribed).sort(), ["#eve", channel, "chat:js-two"].sort());
  assert.deepEqual(subscribed["chat:js-two"].data, { hello: 1 });
  await api("publish", { channel, data: 0 });
  assert.equal((await events.expect("publication")).data, 0);
  proxy.isOpen = false;
  proxy.cut();
  for (const number of [1, 2]) await api("publish", { channel, data: number });
  proxy.isOpen = true;
  for (const number of [1, 2]) assert.equal((await events.expect("publication")).data, number);
  await api("publish", { channel: "#eve", data: "for you" });
  assert.equal((await events.expect("publication")).channel, "#eve");
  assert.ok(events.of("subscribed").findLast((context) => context.channel === channel).recovered);
});

test("server subscribes and unsubscribes", async (t) => {
  const { client, events } = await connect(t, { token: token("grace") });
  await events.expect("subscribed");
  await api("subscribe", { user: "grace", channel: "chat:js-invited", data: { by: "server" } });
  const context = await events.expect("subscribed");
  assert.deepEqual([context.channel, context.data], ["chat:js-invited", { by: "server" }]);
  await api("publish", { channel: "chat:js-invited", data: 1 });
  assert.equal((await events.expect("publication")).data, 1);
  await api("unsubscribe", { user: "grace", channel: "chat:js-invited" });
  assert.equal((await events.expect("unsubscribed")).channel, "chat:js-invited");
  const own = await subscribe(client, "chat:js-own");
  await api("unsubscribe", { user: "grace", channel: "chat:js-own" });
  assert.equal((await own.events.expect("unsubscribed")).code, 2000);
  assert.equal(client.state, "connected");
});

test("server disconnects for good", async (t) => {
  const { client, events } = await connect(t, { token: token("gone") });
  await api("disconnect", { user: "gone" });
  const end = await events.expect("disconnected");
  assert.deepEqual([end.code, end.reason, client.state], [3503, "force disconnect", "disconnected"]);
});

test("announcement reaches those who are there and those who come", async (t) => {
  t.after(() => admin("DELETE", "announce"));
  const early = await connect(t, { token: token("early") });
  assert.ok((await admin("POST", "announce", { message: "back soon", ttl_seconds: 60 })).ok);
  const late = await connect(t, { token: token("late") });
  for (const { events } of [early, late]) {
    const { data } = await events.expect("message");
    assert.deepEqual([data.type, data.state, data.message], ["maintenance", "announced", "back soon"]);
  }
});

test("message that is too big does not end the client", async (t) => {
  const { client, events } = await connect(t, { token: token("big") });
  const { subscription, events: seen } = await subscribe(client, "chat:js-big");
  await assert.rejects(subscription.publish("x".repeat(100_000)), { code: 107 });
  subscription.publish("x".repeat(2_000_000)).catch(() => {});
  assert.equal((await events.expect("connecting")).code, 3000);
  await events.expect("connected");
  await seen.expect("subscribed");
  assert.equal(client.state, "connected");
});

test("unknown method and unknown namespace are refused", async (t) => {
  const { client } = await connect(t, { token: token("asks") });
  await assert.rejects(client.rpc("nothing", {}), { code: 104 });
  const { events } = begin(client, "nowhere:x");
  assert.equal((await events.expect("unsubscribed")).code, 102);
});

test("client with 128 channels comes back without a refusal", async (t) => {
  const proxy = await badNetwork(t);
  const { client } = await connect(t, { token: token("many") }, { port: proxy.port });
  const made = Array.from({ length: 128 }, (_, number) => begin(client, `chat:js-room-${number}`));
  for (const round of [1, 2, 3]) {
    for (const { events } of made) await events.expect("subscribed");
    if (round < 3) proxy.cut();
  }
  for (const { events } of made) assert.deepEqual([events.of("error"), events.of("unsubscribed")], [[], []]);
});
