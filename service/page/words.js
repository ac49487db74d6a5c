// What the codes of the protocol mean to a person. Each text stands alone; the code follows it in brackets.

import { Local } from "./client.js";

const ERRORS = {
  100: "The service had a problem of its own. Trying again may help.",
  101: "The service does not know who you are.",
  102: "There is no such channel: the part before the colon is not a namespace of this service.",
  103: "You may not do that on this channel.",
  104: "The service knows no such method.",
  105: "You are already on this channel.",
  106: "You are on as many channels as one connection may hold.",
  107: "The service refused this as malformed or too large.",
  108: "This channel does not offer that.",
  109: "The token has expired.",
  110: "The subscription has expired.",
  111: "Too many messages in a short time. Wait a little.",
  112: "What was missed can no longer be recovered.",
};

const CLOSES = {
  1000: "The service closed the connection.",
  1001: "The service is going away.",
  1006: "The connection broke, or the service cannot be reached.",
  1009: "A message was too large for the service.",
  1012: "The service is restarting.",
  1013: "The service is busy.",
  3000: "The service closed the connection.",
  3001: "The service is shutting down. Coming back on the next process.",
  3004: "The service had a problem of its own.",
  3005: "The token of this connection has expired.",
  3006: "A subscription has expired.",
  3008: "This page read too slowly. Coming back to fill the gap.",
  3009: "The service could not write to this connection.",
  3010: "Something was missed. Coming back to fill the gap.",
  3011: "The service asked this page to reconnect.",
  3012: "This page did not answer a ping in time.",
  3013: "Too many refused commands in a minute.",
  3014: "The service set everything back. Starting afresh.",
  3500: "The service does not accept this token.",
  3501: "The service refused the connection. A token may be missing.",
  3502: "The connection was open but never greeted.",
  3503: "The service ended the connection for good.",
  3504: "This user has too many connections.",
  3505: "The token names too many channels.",
  3506: "The service does not speak this protocol here.",
  3507: "You may not connect.",
  3508: "The service does not offer that.",
  3509: "Too many errors on this connection.",
};

const LOCAL = {
  [Local.TRANSPORT_CLOSED]: "The connection broke, or the service cannot be reached.",
  [Local.NO_PING]: "The service has gone quiet.",
  [Local.SUBSCRIBE_TIMEOUT]: "The service did not answer in time.",
  [Local.UNSUBSCRIBE_FAILED]: "It is unclear whether the channel was left.",
  [Local.BAD_PROTOCOL]: "The service sent something this page does not understand.",
  [Local.NO_TOKEN]: "A token is needed.",
  [Local.COMMAND_TIMEOUT]: "The service did not answer in time.",
  [Local.NOT_CONNECTED]: "The connection was lost before the answer came. It is unknown whether this went through.",
};

const UNSUBSCRIBES = {
  2000: "The service took you off this channel.",
};

const PHASES = {
  STARTING: "Starting",
  STANDBY: "Standing by while another instance serves",
  ACTIVE: "Active, taking connections",
  GATED: "Gated, no new connections for now",
  DRAINING: "Draining, connections are being moved",
  DRAINED: "Drained, waiting for the next process",
  CLOSED: "Closed",
};

const coded = (text, code, reason) => {
  if (!text) return reason ? `${reason} (${code})` : `Code ${code}`;
  return code < 100 || !reason ? text : `${text} (${code} ${reason})`;
};

/** A sentence for an error reply to a command. */
export const ofError = ({ code, message }) => coded(ERRORS[code] ?? LOCAL[code], code, message);

/** A sentence for the end of a connection; an error reply to `connect` ends one as well. */
export const ofClose = (code, reason) => coded(CLOSES[code] ?? ERRORS[code] ?? LOCAL[code], code, reason);

/** A sentence for being taken off a channel, by a push or by an error reply to `subscribe`. */
export const ofUnsubscribe = (code, reason) => coded(UNSUBSCRIBES[code] ?? ERRORS[code], code, reason);

export const ofPhase = (phase) => PHASES[phase] ?? phase;

/**
 * What is wrong with a channel name, or "" when a service may know it.
 *
 * Only what can never be right is refused here; whether the channel exists is for the service to say.
 */
export function channelNameProblem(name) {
  if (name === "") return "Give the channel a name.";
  if (name.length > 255) return "A channel name has at most 255 characters.";
  if (!/^[\x20-\x7e]+$/.test(name)) return "A channel name is plain ASCII, without accents or emoji.";
  if (/\s/.test(name)) return "A channel name has no spaces.";
  if (/^[/*&]/.test(name)) return "A channel name does not begin with / * or &.";
  const colon = name.indexOf(":");
  const namespace = name.slice(name.startsWith("$") ? 1 : 0, colon);
  if (colon >= 0 && !/^[-a-zA-Z0-9_]{2,}$/.test(namespace)) {
    return "The part before the colon is a namespace: two or more letters, digits, - or _.";
  }
  return "";
}
