// The list of what happened on a channel: bounded, drawn at most once a frame, and text only.

import { element, hueOf } from "./elements.js";

const ROWS_KEPT = 200;
const TEXT_SHOWN = 4_000;
const NAMES_IN_A_NOTICE = 3;
const SAME_AUTHOR_WITHIN_MS = 60_000;
const NEAR_THE_END_PX = 48;

const clock = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});

/** A payload as a person would read it, and whether it is better set in a fixed width. */
export function readable(data) {
  if (typeof data === "string") return { text: data, isCode: false };
  const keys = data !== null && typeof data === "object" ? Object.keys(data) : [];
  if (keys.length === 1 && typeof data.text === "string") return { text: data.text, isCode: false };
  return { text: JSON.stringify(data, null, 1) ?? "", isCode: true };
}

function shortened(text) {
  if (text.length <= TEXT_SHOWN) return text;
  return `${text.slice(0, TEXT_SHOWN)}… and ${(text.length - TEXT_SHOWN).toLocaleString()} more characters`;
}

export class Feed {
  #scroller;
  #list;
  #newer;
  #waiting = [];
  #isDrawing = false;
  #lastAuthor = { identity: "", at: 0 };
  #presence = null;
  #unseen = 0;
  #staysAtEnd = true;
  #height = 0;

  /** @param newer the button that leads back to the newest row. */
  constructor(scroller, list, newer) {
    this.#scroller = scroller;
    this.#list = list;
    this.#newer = newer;
    newer.addEventListener("click", () => this.#toEnd());
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // A keyboard that opens or a panel that unfolds takes height away: stay at the end if that is where the reader was.
    new ResizeObserver(() => this.#resized()).observe(scroller);
  }

  /**
   * @param {{author: {identity: string, name: string}, data: unknown, offset: number, at: number | null,
   *   channel: string, isOwn: boolean, mark: string}} message `at` in milliseconds, null when the time is not known;
   *   `channel` is "" for the channel in view; `mark` says how it came when it did not come live.
   */
  message(message) {
    const at = message.at ?? 0;
    const { identity } = message.author;
    const isSoon = Math.abs(at - this.#lastAuthor.at) < SAME_AUTHOR_WITHIN_MS;
    const isSequel = isSoon && identity === this.#lastAuthor.identity;
    this.#lastAuthor = { identity: message.mark || message.channel ? "" : identity, at };
    this.#presence = null;
    this.#add(messageRow(message, isSequel && !message.mark));
  }

  /** A line between the messages: what happened to the connection or the channel. */
  notice(text, tone = "plain") {
    this.#lastAuthor = { identity: "", at: 0 };
    this.#presence = null;
    const row = element("li", `notice notice-${tone}`);
    row.append(element("span", "notice-text", text), timeOf(Date.now()));
    this.#add(row);
  }

  /** Joins and leaves that follow each other share one line, so that a crowd does not wash the messages away. */
  presence(name, verb) {
    if (this.#presence?.verb !== verb) {
      const row = element("li", "notice notice-presence");
      const text = element("span", "notice-text");
      row.append(text);
      this.#presence = { verb, names: [], count: 0, text };
      this.#lastAuthor = { identity: "", at: 0 };
      this.#add(row);
    }
    const group = this.#presence;
    group.count += 1;
    if (group.names.length < NAMES_IN_A_NOTICE) group.names.push(name);
    const more = group.count - group.names.length;
    const rest = more > 0 ? [`${more} more`] : [];
    group.text.textContent = `${listed([...group.names, ...rest])} ${verb}`;
  }

  clear() {
    this.#waiting = [];
    this.#presence = null;
    this.#lastAuthor = { identity: "", at: 0 };
    this.#list.replaceChildren();
    this.#seen();
  }

  #add(row) {
    this.#waiting.push(row);
    if (this.#waiting.length > ROWS_KEPT) this.#waiting.shift();
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    // A hidden tab draws no frames; a timer still empties the list there, if late.
    if (document.hidden) setTimeout(() => this.#draw(), 250);
    else requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#isDrawing = false;
    const rows = this.#waiting;
    this.#waiting = [];
    if (rows.length === 0) return;
    this.#list.append(...rows);
    while (this.#list.childElementCount > ROWS_KEPT) this.#list.firstElementChild.remove();
    if (this.#staysAtEnd) this.#toEnd();
    else this.#hasUnseen(rows.length);
  }

  #resized() {
    this.#height = this.#scroller.clientHeight;
    if (this.#staysAtEnd) this.#toEnd();
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    if (clientHeight !== this.#height) return; // not the reader's doing, and about to be put right
    this.#staysAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_THE_END_PX;
    if (this.#staysAtEnd) this.#seen();
  }

  #toEnd() {
    this.#staysAtEnd = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#seen();
  }

  #hasUnseen(count) {
    this.#unseen = Math.min(ROWS_KEPT, this.#unseen + count);
    this.#newer.hidden = false;
    this.#newer.textContent = this.#unseen === 1 ? "1 newer below" : `${this.#unseen} newer below`;
  }

  #seen() {
    this.#unseen = 0;
    this.#newer.hidden = true;
  }
}

function messageRow({ author, data, offset, at, channel, isOwn, mark }, isSequel) {
  const row = element("li", "message");
  row.classList.toggle("message-sequel", isSequel);
  if (author.identity) row.style.setProperty("--hue", String(hueOf(author.identity)));
  else row.classList.add("message-plain");

  const head = element("div", "message-head");
  head.append(element("bdi", "message-author", author.name));
  if (isOwn) head.append(element("span", "tag", "you"));
  if (channel) head.append(element("bdi", "tag", channel));
  if (mark) head.append(element("span", "tag tag-mark", mark));

  const { text, isCode } = readable(data);
  const body = element("p", isCode ? "message-body message-code" : "message-body");
  body.dir = "auto";
  body.textContent = shortened(text);

  const foot = element("div", "message-foot");
  if (at !== null) foot.append(timeOf(at));
  if (offset) foot.append(element("span", "message-offset", `#${offset}`));
  row.append(head, body, foot);
  return row;
}

function timeOf(at) {
  const moment = new Date(at);
  const node = element("time", "when", clock.format(moment));
  node.dateTime = moment.toISOString();
  return node;
}

function listed(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
